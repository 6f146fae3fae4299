"""The report of an audit: a verdict for each architecture and data set, what it rests on, and accuracy against overlap."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from popgen import __version__
from popgen.errors import BrokenFile, brief
from popgen.json_text import parse_json
from popgen.report import Block, Chart, Facts, Figure, Paragraph, Report, Section, Series, Table
from popgen.report.content import Role

# Kinds of arms with a series of their own, and their colours.
_ALONE: dict[str, Role] = {"held out": "rival", "training": "generated", "generated": "search"}
_MEANS = ("accuracy", "overlap", "nearest", "plain")


def audit_report(path: str) -> Report:
    """Read the folder of an audit as a report.

    Raises:
        BrokenFile: result.json is missing, or is not what popgen wrote.
    """
    file = Path(path) / "result.json"
    try:
        found = parse_json(file.read_text())
        audits = found["audits"]
        words = Counter(str(one["verdict"]) for one in audits)
        settings = Facts(
            tuple(
                (name, ", ".join(map(str, value)) if isinstance(value, list) else str(value))
                for name, value in found["settings"].items()
                if value not in (None, [])
            )
        )
        sections = (
            Section("What was asked", (settings,)),
            *(Section(f"{one['arch']} for {one['data']}", tuple(_one(one))) for one in audits),
        )
        lines = tuple(f"{one['arch']} for {one['data']}: {one['verdict']}, because {one['why']}." for one in audits)
        figures = (
            *(Figure(str(count), word, "architectures and data sets") for word, count in words.most_common()),
            Figure(str(found["zoo"]["name"]), "zoo of training checkpoints"),
        )
        title = str(found["settings"].get("generator") or found["settings"].get("generated"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BrokenFile(f"{file} cannot be read", brief(error), "Run the audit again.") from error
    return Report("audit", title, lines, figures, sections, __version__)


def _one(one: dict[str, Any]) -> Iterator[Block]:
    """Accuracy against overlap, the arms, and the statistics that decide."""
    arms = one["arms"]
    yield _chart(one)
    yield Table(
        "Means of each arm: networks, accuracy, overlap of errors, scaled distance to the nearest checkpoint, and without matching",
        ("", "networks", "accuracy", "overlap", "distance", "plain distance"),
        tuple((str(arm["name"]), str(arm["networks"]), *(_number(arm.get(name)) for name in _MEANS)) for arm in arms),
        strong=tuple(i for i, arm in enumerate(arms) if arm["kind"] == "generated"),
    )
    yield Table(
        "What decides: shares with their intervals; the threshold is that of the references",
        ("", "value", "low", "high", "threshold", "answer"),
        tuple(
            (
                name.replace("_", " "),
                *(_number(s.get(key)) for key in ("value", "low", "high", "threshold")),
                str(s["answer"]),
            )
            for name, s in one["statistics"].items()
        ),
    )
    yield Paragraph(
        f"References: {one['lineages']} independent lineages on {one['reference_data']}. "
        "The columns and the rule stand in the guide on audits."
    )


def _chart(one: dict[str, Any]) -> Chart:
    """A dot for each network; controls, held-out and training checkpoints, and above them the generated networks."""
    series = []
    for name in ("controls", "held out", "training", "generated"):
        dots = [
            (float(overlap), float(accuracy), f"{arm['name']}: accuracy {accuracy:.3f}, overlap {overlap:.2f}")
            for arm in one["arms"]
            if (arm["kind"] if arm["kind"] in _ALONE else "controls") == name
            for accuracy, overlap in arm["points"]
        ]
        if not dots:
            continue
        shape: Any = "square" if name in ("training", "held out") else "circle"
        series.append(
            Series(
                name,
                tuple((x, y) for x, y, _ in dots),
                role=_ALONE.get(name, "rival"),
                shape=shape,
                hints=tuple(text for *_, text in dots),
            )
        )
    means = "; ".join(f"{arm['name']} {arm['accuracy']:.2f}, {arm['overlap']:.2f}" for arm in one["arms"])
    return Chart(
        "Accuracy against overlap of errors with a training checkpoint",
        f"Mean accuracy and overlap of each arm: {means}.",
        "largest overlap of errors with a checkpoint of another lineage",
        "test accuracy",
        tuple(series),
    )


def _number(value: Any) -> str:
    return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
