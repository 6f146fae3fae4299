"""A card: the README.md of a folder in the Hugging Face hub's format, a YAML header and then text for people.

The header is made by the hub client's own classes. A card ends in a line with the hash of what stands before it, by which
popgen knows a card of its own that nobody has edited; it writes over no other.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from popgen.files import write_text
from popgen.hub.kinds import CARD
from popgen.hub.paths import without_home

_MARK = re.compile(r"<!-- written by popgen; edited cards are kept: ([0-9a-f]{16}) -->\n\Z")


@dataclass(frozen=True)
class Score:
    """A score for the header's model index, and the split of the data set that it was measured on."""

    value: float
    data: str
    split: str  # train, validation or test
    name: str  # what has the score, in words: "cnn-s, found by search"
    unit: str = "accuracy"


@dataclass(frozen=True)
class Card:
    """What a card says.

    Attributes:
        title: the first heading, and the name in the model index.
        header: further fields of the header, such as license and tags.
        scores: they make the model index.
        sections: headings and their Markdown texts; those with an empty text are left out.
    """

    title: str
    summary: str
    header: dict[str, Any]
    sections: Sequence[tuple[str, str]]
    scores: Sequence[Score] = field(default=())

    def text(self) -> str:
        """The card as Markdown."""
        parts = [f"# {self.title}", self.summary]
        parts += [f"## {heading}\n\n{text}" for heading, text in self.sections if text]
        body = f"---\n{self._header()}\n---\n\n" + "\n\n".join(parts) + "\n\n"
        return f"{body}<!-- written by popgen; edited cards are kept: {_hash(body)} -->\n"

    def _header(self) -> str:
        from huggingface_hub import EvalResult, ModelCardData  # noqa: PLC0415 - it takes a quarter of a second

        results = [
            EvalResult(
                task_type=_task(score.unit),
                dataset_type=source_name(score.data),
                dataset_name=data_text(score.data),
                dataset_config=data_text(score.data),
                dataset_split=score.split,
                metric_type=score.unit,
                metric_name=f"{score.unit} of {score.name}",
                metric_value=round(score.value, 4),
            )
            for score in self.scores
        ]
        named: dict[str, Any] = {"model_name": self.title, "eval_results": results} if results else {}
        return str(ModelCardData(library_name="popgen", **self.header, **named).to_yaml())


def write_card(folder: Path, card: Card) -> bool:
    """Write a card as README.md, unless somebody wrote or edited the one that is there; returns whether it was written."""
    if not may_replace(folder / CARD):
        return False
    write_text(folder / CARD, card.text())
    return True


def may_replace(file: Path) -> bool:
    """Whether a card may be written: there is none, or one of popgen's that nobody has edited."""
    if not file.exists():
        return True
    text = file.read_text(encoding="utf-8", errors="replace")
    mark = _MARK.search(text)
    return mark is not None and mark[1] == _hash(text[: mark.start()])


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _task(unit: str) -> str:
    return "image-classification" if unit == "accuracy" else "text-generation"


def pipeline(units: Iterable[str]) -> dict[str, str]:
    """The header's field for what networks do, where all of them do the same."""
    tasks = {_task(unit) for unit in units}
    return {"pipeline_tag": tasks.pop()} if len(tasks) == 1 else {}


def data_text(data: str) -> str:
    """The name of a data set without the user's home folder."""
    return without_home(data)


def source_name(data: str) -> str:
    """The data set without its variants, as the hub names it where it has it.

    >>> source_name("digits/rotate:45"), source_name("hf:ann/letters@small#label"), source_name("folder:PHOTOS")
    ('digits', 'ann/letters', 'folder')
    """
    prefix, colon, rest = data.partition(":")
    if prefix == "hf" and not rest.startswith(("/", ".", "~")):
        return "/".join(re.split(r"[@#]", rest)[0].split("/")[:2])
    return prefix if colon and "/" not in prefix else data.partition("/")[0]  # module:function is no name elsewhere


def source_names(data: Iterable[str]) -> dict[str, list[str]]:
    """The header's field for data sets; those of folders and files have no name elsewhere."""
    names = sorted({source_name(name) for name in data} - {"folder", "npz", "text", ""})
    return {"datasets": names} if names else {}


def bullets(lines: Iterable[str]) -> str:
    """A list; empty lines are left out."""
    return "\n".join(f"- {line}" for line in lines if line)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown; "" without rows.

    >>> print(table(["a", "b"], [["1", "x|y"]]))
    | a | b |
    |---|---|
    | 1 | x\\|y |
    """
    lines = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    if not lines:
        return ""
    shown = [list(columns), *lines]
    text = [f"| {' | '.join(row)} |" for row in shown]
    return "\n".join([text[0], "|" + "---|" * len(columns), *text[1:]])


def number(value: float | None, error: float | None = None) -> str:
    """A score with its standard error, where they are known.

    >>> number(0.9517, 0.0096), number(None)
    ('0.952 ± 0.010', '-')
    """
    return "-" if value is None else f"{value:.3f}" + ("" if error is None else f" ± {error:.3f}")


def some(names: Sequence[str], most: int = 12) -> str:
    """Names, and how many more there are.

    >>> some(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
