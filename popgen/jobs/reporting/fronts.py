"""Fronts beside each other, read from `fronts` in result.json: a table, and a chart for validation and for test images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from popgen.errors import BrokenFile, brief
from popgen.report import Block, Chart, Paragraph, Series, Table
from popgen.report.content import Role

FRONT_COLUMNS = (
    "front",
    "evaluations",
    "points",
    "val volume",
    "test volume",
    "val: dominated / dominates",
    "test: dominated / dominates",
)
_ROLES: dict[str, Role] = {"search": "search", "generated": "generated", "generated, reweighted": "generated"}
_IN_WORDS = {
    "search": "the front of the search",
    "generated": "of the generated population before the search",
    "zoo": "of the zoo's checkpoints",
    "noise": "of noise around the zoo's front",
    "mixtures": "of mixtures of the checkpoints that are best for each group, or by each objective",
    "reweighted": "of the zoo's best checkpoint, trained on with small groups shown more often",
    "generated, reweighted": "of the best of the generated population, trained on so",
}
_MEANING = (
    "Volume is the share of the box between the best values of all fronts and a point a tenth beyond the worst that a front dominates; more "
    "is better. Dominated are the points of a front that the search's front dominates; dominates are the search's points that it dominates. A front "
    "is chosen on validation images, which flatters it the more the more networks it is chosen from; test images count."
)


@dataclass(frozen=True)
class _Point:
    """A network of a front: where it comes from, and its first two objectives."""

    origin: str
    place: tuple[float, float]


def front_rows(found: dict[str, Any]) -> list[tuple[str, ...]]:
    """The cells of FRONT_COLUMNS for each front of `fronts` in result.json."""
    rows = []
    for one in found["fronts"]:
        points = len(one["points"])
        cells = [_volume(one[f"{split}_hypervolume"]) for split in ("val", "test")]
        cells += [_pair(one[f"{split}_dominated"], one[f"{split}_dominates"]) for split in ("val", "test")]
        if one["name"] == "search":
            cells[2:] = ["", ""]
        rows.append((str(one["name"]), str(one["evaluations"]), str(points), *cells))
    return rows


def front_blocks(arch: str, details: dict[str, Any]) -> Iterator[Block]:
    """The charts and the table of fronts; nothing where a run has none.

    Raises:
        BrokenFile: they are not what popgen wrote.
    """
    found = details.get("fronts")
    if found is None:
        return
    try:
        rows = front_rows(found)
        charts = [_chart(found, split) for split in ("values", "test_values")]
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise BrokenFile(
            f"the fronts of {arch} in result.json cannot be read", brief(error), "Resume the run."
        ) from error
    yield from (chart for chart in charts if chart is not None)
    yield Table("The front of the search beside others", FRONT_COLUMNS, tuple(rows), strong=(0,))
    known = [_IN_WORDS[row[0]] for row in rows if row[0] in _IN_WORDS]
    yield Paragraph(f"The rows are {'; '.join(known)}. {_MEANING}")


def _chart(found: dict[str, Any], key: str) -> Chart | None:
    """The fronts by their first two objectives, each as the border of what it dominates; None where values are not known."""
    if any(point[key] is None for one in found["fronts"] for point in one["points"]):
        return None
    x, y = (str(name) for name in found["objectives"][:2])
    fronts = {
        str(one["name"]): sorted(
            (_Point(str(p["origin"]), (float(p[key][x]), float(p[key][y]))) for p in one["points"]),
            key=lambda point: point.place,
        )
        for one in found["fronts"]
    }
    right = max(point.place[0] for points in fronts.values() for point in points)
    series = []
    for name, points in reversed(fronts.items()):  # the search is drawn last, on top
        role = _ROLES.get(name, "rival")
        hints = tuple(f"{name}, {p.origin}: {x} {p.place[0]:.4f}, {y} {p.place[1]:.4f}" for p in points)
        series.append(Series(name, _border(points, right), "line", role, label=name))
        series.append(Series("", tuple(point.place for point in points), role=role, hints=hints))
    split = "validation" if key == "values" else "test"
    return Chart(
        f"Fronts on {split} images",
        f"{x} and {y} on {split} images, lower is better in both. "
        + " ".join(f"{name}: {_range(points, x, y)}." for name, points in fronts.items()),
        x,
        y,
        tuple(series),
    )


def _border(points: list[_Point], right: float) -> tuple[tuple[float, float], ...]:
    """The corners of the border of what points dominate, from the leftmost to the right edge.

    >>> _border([_Point("a", (0.0, 2.0)), _Point("b", (1.0, 1.0)), _Point("c", (2.0, 1.5))], 3.0)
    ((0.0, 2.0), (1.0, 2.0), (1.0, 1.0), (3.0, 1.0))
    """
    first, *others = points
    corners, low = [first.place], first.place[1]
    for point in others:
        x, y = point.place
        if y < low:
            corners += [(x, low), (x, y)]
            low = y
    return (*corners, (right, low))


def _range(points: list[_Point], x: str, y: str) -> str:
    """Where a front begins and ends."""
    first, last = points[0].place, min(points, key=lambda point: point.place[1]).place
    ends = f"{x} {first[0]:.4f} with {y} {first[1]:.4f}"
    return ends if first == last else f"{ends} to {x} {last[0]:.4f} with {y} {last[1]:.4f}"


def _volume(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _pair(first: int | None, second: int | None) -> str:
    return "-" if first is None else f"{first} / {second}"
