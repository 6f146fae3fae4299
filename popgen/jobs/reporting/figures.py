"""The charts of a search: the best so far, the population in two dimensions, the Pareto front; and the confusion of its best network."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from popgen.jobs.reporting.predictions import Predictions, wilson
from popgen.jobs.reporting.rivals import CONTROLS, SEARCH, Score, text, untuned
from popgen.jobs.reporting.trace import Trace, plain_loss
from popgen.report import Chart, Confusion, Mark, Series, Table
from popgen.report.content import SHADES
from search import Record

MOST_DOTS = 1500  # dots in a chart; more would make a report of megabytes
MATRIX_CLASSES = 20  # a confusion matrix of more classes is unreadable
_NAMED = 10  # classes or confusions that are named where there are too many


def curve(trace: Trace, scores: list[Score]) -> Chart | None:
    """The best candidate's loss over evaluations, with the rivals as levels from the evaluations that they took."""
    own = next((one for one in scores if one.name == SEARCH), None)
    before = max(0, own.evaluations - trace.spent) if own is not None else 0
    steps = trace.best_so_far(before)
    if not steps:
        return None
    rivals = [one for one in untuned(scores) if one.name != SEARCH and one.val_loss is not None]
    end = max(before + trace.spent, *(one.evaluations for one in rivals), 1)
    best = steps[-1][1]
    points = (*((spent, loss) for spent, loss, _ in steps), (float(end), best))
    is_result = own is not None and not trace.is_pareto  # the result of a Pareto search is the knee of its front
    label = SEARCH if is_result else f"lowest {trace.objectives[0]}" if trace.is_pareto else "best so far"
    series = [_level(one) for one in rivals]
    value = text(own.test) if own is not None and is_result else ""
    series.append(Series("search", points, "step", "search", label=label, value=value))
    is_log = all(y > 0 for one in series for _, y in one.points)
    return Chart(
        "Best so far",
        f"{_fall(steps, before + trace.spent)} {_levels(rivals, best)}{_rises(steps)}",
        "evaluations",
        f"validation loss{', logarithmic' if is_log else ''}",
        tuple(series),
        log_y=is_log,
        value_title=f"test {own.unit}" if own is not None else "",
        table=Table(
            "Each better candidate as a table",
            ("evaluations", "validation loss", "origin"),
            tuple((f"{spent:,.0f}", f"{loss:.4f}", one.origin) for spent, loss, one in steps),
            is_detail=True,
        ),
    )


def population_map(trace: Trace) -> Chart | None:
    """All evaluated candidates in their first two principal components, coloured by the ranks of their losses."""
    if trace.places is None or trace.explained is None:
        return None
    records, places = trace.placed, trace.places
    losses = np.array([plain_loss(one) for one in records])
    best = min(range(len(records)), key=lambda i: records[i].loss or 0.0)
    chosen = _thinned(len(records), best)
    shades = _shades(losses)
    series = []
    for name, shape, is_seed in (("candidates of the search", "circle", False), ("seeds", "square", True)):
        rows = [i for i in chosen if (records[i].phase == "seed") == is_seed]
        rows.sort(key=lambda i: -losses[i])  # the best are drawn last, on top
        if rows:
            series.append(
                Series(
                    name,
                    tuple((float(places[i, 0]), float(places[i, 1])) for i in rows),
                    shape="square" if shape == "square" else "circle",
                    shades=tuple(shades[i] for i in rows),
                    hints=tuple(_hint(records[i], losses[i]) for i in rows),
                )
            )
    series.append(
        Series(
            "best",
            ((float(places[best, 0]), float(places[best, 1])),),
            shape="ring",
            hints=(_hint(records[best], losses[best]),),
        )
    )
    first, second = trace.explained
    thin = f" {len(chosen):,} of the {len(records):,} candidates are drawn." if len(chosen) < len(records) else ""
    worst = float(losses.max())
    return Chart(
        "The population in two dimensions",
        f"{len(records):,} candidates that were scored on all validation images, {sum(one.phase == 'seed' for one in records)} of them seeds, in the first two principal "
        f"components of their coordinates, which hold {first:.0%} and {second:.0%} of the variance. Dots are coloured by the rank of their "
        f"validation loss, {losses.min():.4f} to {worst:.4f}; each colour has a sixth of the candidates.{thin} "
        f"{_moved(trace)}",
        f"first component, {first:.0%} of the variance",
        f"second component, {second:.0%}",
        tuple(series),
        is_square=True,
        tick_labels=False,
        scale=(f"loss {worst:.3g}", f"{losses.min():.3g}"),
    )


def front_chart(trace: Trace, front: list[tuple[int, tuple[float, float]]], knee: int | None) -> Chart | None:
    """The first two objectives of all candidates, and the Pareto front."""
    known = [(one.index, one.values) for one in trace.records if one.full and one.values is not None]
    if not trace.is_pareto or not known or not front:
        return None
    x, y = trace.objectives[:2]
    shown = [known[i] for i in _thinned(len(known), 0)]
    ordered = sorted(front, key=lambda one: one[1])
    series = [
        Series(
            "candidates",
            tuple((values[0], values[1]) for _, values in shown),
            hints=tuple(f"evaluation {index}" for index, _ in shown),
        ),
        Series(
            "front",
            tuple(values for _, values in ordered),
            "line",
            "search",
            hints=tuple(f"evaluation {index}: {x} {v[0]:.4f}, {y} {v[1]:.4f}" for index, v in ordered),
        ),
        *(Series("knee", (values,), shape="ring") for index, values in ordered if index == knee),
    ]
    lowest = min(ordered, key=lambda one: one[1][1])
    return Chart(
        "Pareto front",
        f"The front has {len(ordered)} of {len(known):,} candidates: from {x} {ordered[0][1][0]:.4f} with {y} {ordered[0][1][1]:.4f} "
        f"to {x} {lowest[1][0]:.4f} with {y} {lowest[1][1]:.4f}. Lower is better in both.",
        x,
        y,
        tuple(series),
        log_x=all(a > 0 for one in series for a, _ in one.points),
        log_y=all(b > 0 for one in series for _, b in one.points),
    )


def confusion(found: Predictions) -> Confusion | None:
    """The confusion matrix, where it can be read."""
    if len(found.classes) > MATRIX_CLASSES:
        return None
    images = sum(map(sum, found.counts))
    return Confusion(
        f"{images:,} images of the split {found.split}, by their true class and the class that was predicted",
        found.classes,
        found.counts,
        errors_in_words(found),
    )


def class_table(found: Predictions) -> Table:
    """The accuracy of each class with its 95 % interval; the worst of them where there are many."""
    rows = list(range(len(found.classes)))
    if len(rows) > MATRIX_CLASSES:
        worst = sorted(
            (i for i in rows if sum(found.counts[i])), key=lambda i: found.counts[i][i] / sum(found.counts[i])
        )
        rows = worst[:_NAMED]
    rows = [i for i in rows if sum(found.counts[i])]
    cells, marks = [], []
    for i in rows:
        right, of = found.counts[i][i], sum(found.counts[i])
        low, high = wilson(right, of)
        cells.append((found.classes[i], f"{of:,}", f"{right / of:.3f}", f"{low:.3f} to {high:.3f}"))
        marks.append(Mark(right / of, low, high, "search"))
    which = (
        "each class"
        if len(found.classes) <= MATRIX_CLASSES
        else f"the {len(rows)} worst of {len(found.classes)} classes"
    )
    title = f"Accuracy of {which} on the split {found.split}"
    columns = ("class", "images", "accuracy", "95 % interval")
    return Table(title, columns, tuple(cells), marks=tuple(marks), marked="accuracy")


def errors_in_words(found: Predictions) -> str:
    """How many errors there are, and which are the most frequent."""
    pairs = [
        (count, truth, predicted)
        for i, truth in enumerate(found.classes)
        for predicted, count in zip(found.classes, found.counts[i], strict=True)
        if count and truth != predicted
    ]
    if not pairs:
        return "Every image is classified correctly."
    pairs.sort(key=lambda one: -one[0])
    most = ", ".join(f"{truth} taken for {predicted} ({count})" for count, truth, predicted in pairs[:5])
    return f"{sum(one[0] for one in pairs):,} errors. The most frequent: {most}."


def _level(rival: Score) -> Series:
    """A rival as a line from the evaluations that it took."""
    place = (float(rival.evaluations), rival.val_loss or 0.0)
    return Series(rival.name, (place,), "level", rival.role, label=rival.name, value=text(rival.test))


def _fall(steps: list[tuple[float, float, Record]], spent: int) -> str:
    """From where to where the best loss falls."""
    (first, before, _), (last, after, _) = steps[0], steps[-1]
    if len(steps) == 1:
        return f"The first candidate that was scored stayed the best of {spent:,} evaluations, with loss {after:.4f}."
    return (
        f"The best candidate's loss is {before:.4f} after evaluation {first:,.0f} and {after:.4f} after evaluation {last:,.0f}; "
        f"none of the later ones, up to {spent:,}, is better."
    )


def _rises(steps: list[tuple[float, float, Record]]) -> str:
    """Why the line rises, where it does."""
    if all(later <= earlier for (_, earlier, _), (_, later, _) in pairwise(steps)):
        return ""
    return (
        " The line rises where a candidate is the best by what the search minimises and not by the loss alone: a penalty for "
        "distance from the population, or another objective."
    )


def _levels(rivals: list[Score], best: float) -> str:
    """Which rivals lie below and above the best candidate."""
    if not rivals:
        return "The run has no rivals."
    below = [one for one in rivals if (one.val_loss or 0.0) < best]
    if below:
        return f"Rivals with a lower loss: {', '.join(f'{one.name} ({one.val_loss:.4f})' for one in below)}."
    closest = min(
        (one for one in rivals if one.name not in CONTROLS), key=lambda one: one.val_loss or 0.0, default=rivals[0]
    )
    return f"No rival has a lower loss; the closest is {closest.name} with {closest.val_loss:.4f}."


def _thinned(count: int, best: int) -> list[int]:
    """At most MOST_DOTS indices, evenly spaced, the best among them. The first ones are the best of a sorted list."""
    if count <= MOST_DOTS:
        return list(range(count))
    return sorted({*np.linspace(0, count - 1, MOST_DOTS - 1).astype(int).tolist(), best})


def _shades(losses: np.ndarray) -> list[int]:
    """The shade of each candidate by the rank of its loss, the lowest loss the last shade."""
    ranks = np.empty(len(losses), dtype=int)
    ranks[np.argsort(-losses, kind="stable")] = np.arange(len(losses))
    return [int(rank * SHADES // len(losses)) for rank in ranks]


def _hint(record: Record, loss: float) -> str:
    return f"evaluation {record.index}, {record.origin}, loss {loss:.4f}"


def _moved(trace: Trace) -> str:
    """How far the search went, in units of the seeds' own spread."""
    assert trace.places is not None
    seeds = trace.places[[one.phase == "seed" for one in trace.placed]]
    late = [i for i, one in enumerate(trace.placed) if one.phase != "seed"]
    if len(seeds) < 2 or not late:
        return "Only seeds were evaluated."
    last = sorted(late, key=lambda i: trace.placed[i].index)[-max(1, len(late) // 4) :]
    spread = float(np.sqrt(seeds.var(axis=0).sum()))
    distance = float(np.linalg.norm(trace.places[last].mean(axis=0) - seeds.mean(axis=0)))
    return (
        f"The last quarter of the search is {distance / spread:.1f} standard deviations of the seeds away from their mean."
        if spread
        else ""
    )
