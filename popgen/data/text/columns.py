"""Finds the columns of a table that hold the texts, the labels and the splits: by name, or guessed and said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from popgen.errors import BadInput

# Names that a column is looked for by, the best first; a pair goes before a single text.
_PAIRS = (
    ("text_a", "text_b"),
    ("sentence1", "sentence2"),
    ("sentence_a", "sentence_b"),
    ("text1", "text2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("question", "context"),
)
_TEXTS = (
    *("text", "text_a", "sentence", "content", "review", "question", "tweet", "message", "comment", "utterance"),
    *("query", "document", "body"),
)
_LABELS = ("label", "labels", "target", "class", "category", "sentiment", "emotion", "intent")
_SPLIT = "split"


@dataclass(frozen=True)
class Columns:
    """The names of the columns that are used, and a remark where some of them are guessed."""

    text: str
    second: str | None  # the second text of a pair
    label: str
    split: str | None
    remarks: tuple[str, ...] = ()


def find_columns(name: str, found: Sequence[str], texts: Iterable[str], label: str | None = None) -> Columns:
    """Find the columns of texts and labels among those of a table.

    Args:
        name: the data set's name, for errors.
        found: all columns.
        texts: those that hold texts.
        label: the column of labels, where it is known.

    Raises:
        BadInput: there is no column of texts, or none of labels, or that of texts holds other things.

    >>> find_columns("text:mine.csv", ["id", "Review", "target"], ["Review"])
    Columns(text='Review', second=None, label='target', split=None, remarks=("texts are read from 'Review', labels from 'target'",))
    """
    own = _own(texts, label)
    every = {column.casefold(): column for column in reversed(found)}
    first, other = _by_name(own)
    labelled = label or next((every[known] for known in _LABELS if known in every and known != first), None)
    mixed = next(
        (every[known] for known in _TEXTS if known in every and known not in own and every[known] != label), None
    )
    if first is None and mixed is not None:
        why = "some cells hold numbers, lists or something else"
        raise BadInput(f"column {mixed!r} of {name!r} does not hold texts alone", why, "Write them as texts.")
    if first is None or labelled is None:
        lacks = "texts" if first is None else "labels"
        raise BadInput(
            f"{name!r} has no column of {lacks} that popgen knows",
            f"it has {', '.join(map(repr, found)) or 'no columns'}",
            "Call the columns text (or text_a and text_b) and label.",
        )
    text, second = own[first], own[other] if other else None
    used = [column for column in (text, second) if column is not None]
    guessed = not {*used, labelled} <= {"text", "text_a", "text_b", label or "label"}
    said = f"texts are read from {' and '.join(map(repr, used))}, labels from {labelled!r}"
    return Columns(text, second, labelled, every.get(_SPLIT), (said,) if guessed else ())


def has_texts(texts: Iterable[str], label: str | None = None) -> bool:
    """Whether one of the columns of texts, but for that of labels, is known by its name.

    >>> has_texts(["id", "Review"]), has_texts(["id", "text"], label="text")
    (True, False)
    """
    return _by_name(_own(texts, label))[0] is not None


def _own(texts: Iterable[str], label: str | None) -> dict[str, str]:
    """The columns of texts by their names in lower case; the first of several stays."""
    return {column.casefold(): column for column in reversed([c for c in texts if c != label])}


def _by_name(own: Mapping[str, str]) -> tuple[str | None, str | None]:
    """The best known name of a text among the columns, and that of the second text of a pair."""
    if "text" not in own:
        for pair in _PAIRS:
            if own.keys() >= set(pair):
                return pair
    return next((known for known in _TEXTS if known in own), None), None
