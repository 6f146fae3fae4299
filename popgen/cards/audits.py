"""The verdict of `popgen audit` as the card of a generator gives it."""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Any

from popgen.cards.card import Score, data_text, number, table
from popgen.errors import BadInput, BrokenFile, NotFound, brief
from popgen.json_text import parse_json

_WORDS = {
    "copies": "the networks are training checkpoints, perhaps with noise, or make the errors of one of them",
    "interpolates": "the networks lie between several training checkpoints",
    "novel": "the networks are neither within the span of the training checkpoints nor make the errors of one of them",
    "fails": "the networks keep less than half of the training checkpoints' accuracy above chance",
    "unsure": "the interval does not decide, or there are too few lineages to compare with",
}


def read_audit(place: Path) -> dict[str, Any]:
    """Return the content of an audit's result.json, by the file or its folder.

    Raises:
        NotFound: there is none.
        BrokenFile: it is not what `popgen audit` wrote.
    """
    file = place / "result.json" if place.is_dir() else place
    if not file.is_file():
        raise NotFound(f"there is no audit in {str(place)!r}", f"{file} does not exist", "`popgen audit` writes it.")
    try:
        content = parse_json(file.read_text(encoding="utf-8"))
        for one in content["audits"]:
            one["arms"][0]["points"], one["verdict"], one["arch"], one["data"]  # noqa: B018 - are they there?
        content["zoo"]["sha256"]  # noqa: B018
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise BrokenFile(f"{file} is not the result of an audit", brief(error), "Run `popgen audit` again.") from error
    return dict(content)


def check_audit(audit: dict[str, Any], zoo_sha256: str, generator_sha256: str) -> None:
    """Refuse an audit of another generator.

    Raises:
        BadInput: its zoo or its generator has another hash.
    """
    audited = audit.get("generator_sha256") or generator_sha256  # earlier versions did not record it
    if audit["zoo"]["sha256"] != zoo_sha256 or audited != generator_sha256:
        raise BadInput(
            "the audit is not one of this generator",
            f"it was made with the zoo {audit['zoo'].get('name')!r}, or of a generator with other weights",
            "Name the folder that `popgen audit` of this very folder wrote.",
        )


def audit_text(audit: dict[str, Any] | None) -> str:
    """The verdicts in a table, or that there are none."""
    if audit is None:
        return (
            "There is no audit of it. `popgen audit FOLDER` says whether what it makes is new, or copies or averages of its "
            "training checkpoints."
        )
    rows = [
        [
            one["arch"],
            data_text(one["data"]),
            f"**{one['verdict']}**",
            number(*_accuracy(one)),
            str(one.get("lineages", "")),
        ]
        for one in audit["audits"]
    ]
    words = sorted({one["verdict"] for one in audit["audits"]})
    columns = ["architecture", "data set", "verdict", "test accuracy of generated networks", "lineages compared with"]
    meaning = "; ".join(f"{word}: {_WORDS[word]}" for word in words if word in _WORDS)
    by = f"By `popgen audit` (popgen {audit.get('popgen', '?')}), with means over generated networks ± standard error."
    return f"{by}\n\n{table(columns, rows)}\n\n{meaning[:1].upper()}{meaning[1:]}."


def audit_scores(audit: dict[str, Any] | None) -> list[Score]:
    """The test accuracies of generated networks."""
    found = []
    for one in [] if audit is None else audit["audits"]:
        value, _ = _accuracy(one)
        if value is not None:
            found.append(Score(value, one["data"], "test", f"{one['arch']}, mean of generated networks"))
    return found


def _accuracy(one: dict[str, Any]) -> tuple[float | None, float | None]:
    """The mean test accuracy of the generated networks, and its standard error over them."""
    points = [point[0] for point in one["arms"][0]["points"] if point[0] is not None]
    if not points:
        return None, None
    spread = statistics.stdev(points) / math.sqrt(len(points)) if len(points) > 1 else None
    return statistics.fmean(points), spread
