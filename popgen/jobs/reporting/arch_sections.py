"""The sections of one architecture: rivals, best so far, front, population, classes, failures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from popgen.configs.search import SearchConfig
from popgen.errors import BrokenFile, brief
from popgen.jobs.reporting.figures import class_table, confusion, curve, errors_in_words, front_chart, population_map
from popgen.jobs.reporting.fronts import front_blocks
from popgen.jobs.reporting.rivals import finetuned_table, rivals_table, text
from popgen.jobs.reporting.searched import Searched
from popgen.jobs.reporting.trace import Trace
from popgen.jobs.searching.results.gain import GainOverStart
from popgen.report import Block, Chart, Code, Paragraph, Section, Table

_MOST_FAILURES = 20  # different errors that are shown
_ERROR_LENGTH = 600  # characters of one of them


def arch_sections(one: Searched, config: SearchConfig) -> tuple[Section, ...]:
    """The sections of one architecture."""
    stale = Paragraph(
        f"This table is of an earlier session, and the search has made {len(one.trace.records):,} evaluations since it began. "
        "Resume the run to the end for a new one.",
        is_remark=True,
    )
    table: list[Block] = [stale] if one.is_stale else []
    table += [rivals_table(one.scores)] if one.scores else [Paragraph("The table is made when the search is finished.")]
    table += [Paragraph(f"{remark[:1].upper()}{remark[1:]}.", is_remark=True) for remark in _remarks(one.details)]
    tuned = finetuned_table(one.scores)
    charts: list[Chart | None] = [curve(one.trace, one.scores)]
    sections = [
        Section("Rivals", (*table, *_gain(one.details), *((tuned,) if tuned else ()))),
        Section("Best so far", _drawn(charts, "No candidate was scored.")),
    ]
    if one.trace.is_pareto:
        sections.append(Section("Front", tuple(_front(one))))
    where = [population_map(one.trace)]
    sections.append(
        Section("Population", _drawn(where, "Fewer than three candidates were scored on all validation images."))
    )
    sections.append(Section("Classes", tuple(_classes(one, config))))
    sections.append(Section("Failures", tuple(_failures(one.trace))))
    return tuple(sections)


def _remarks(details: dict[str, Any]) -> list[str]:
    """The remarks on a data set outside the generator's family, and on rows whose test and validation accuracies differ beyond chance."""
    family, found = details.get("family"), details.get("disagreements")
    told = [str(family.get(when) or "") for when in ("before", "after")] if isinstance(family, dict) else []
    return [f"data set {text}" for text in told if text] + (
        [str(remark) for remark in found] if isinstance(found, list) else []
    )


def _gain(details: dict[str, Any]) -> Iterator[Block]:
    """The gain of a search without labels, which decides whether its best is given back."""
    found = details.get("information_gain")
    if not isinstance(found, dict):
        return
    gain, error = found.get("gain"), found.get("standard_error")
    if isinstance(gain, float) and isinstance(error, float):
        words = GainOverStart(str(found.get("start")), gain, error).text()
        yield Paragraph(f"The search looked at no labels. {words.capitalize()}.")


def _drawn(charts: list[Chart | None], otherwise: str) -> tuple[Block, ...]:
    drawn = tuple(chart for chart in charts if chart is not None)
    return drawn or (Paragraph(otherwise),)


def _front(one: Searched) -> Iterator[Block]:
    """The front as a chart and as a table."""
    names = one.trace.objectives
    try:
        points = [
            (
                int(p["index"]),
                tuple(float(p["values"][name]) for name in names),
                p.get("val_accuracy", p.get("val_score")),
                [float(p["test_values"][name]) for name in names] if p.get("test_values") else [],
            )
            for p in one.details.get("front") or []
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BrokenFile(
            f"the front of {one.arch} in result.json cannot be read", brief(error), "Resume the run."
        ) from error
    if not points:
        yield Paragraph("The front is made when the search is finished.")
        return
    knee = one.details.get("best_index")
    chart = front_chart(one.trace, [(index, (values[0], values[1])) for index, values, *_ in points], knee)
    if chart is not None:
        yield chart
    points.sort(key=lambda point: point[1])
    rows = tuple(
        (
            f"{index}{' (knee)' if index == knee else ''}",
            *(f"{value:.4f}" for value in values),
            text(score),
            *(f"{value:.4f}" for value in tested),
        )
        for index, values, score, tested in points
    )
    strong = tuple(i for i, point in enumerate(points) if point[0] == knee)
    yield Table(
        "Points of the front; the table of rivals has its knee",
        ("evaluation", *names, "validation score", *(f"test {name}" for name in names if points[0][3])),
        rows,
        strong=strong,
    )
    yield from front_blocks(one.arch, one.details)


def _classes(one: Searched, config: SearchConfig) -> Iterator[Block]:
    """The predictions of the best network on the examples that chose it."""
    found = one.predictions
    if isinstance(found, str):
        yield Paragraph(f"The predictions of the best network are not there: {found}.")
        return
    yield Paragraph(
        f"Predictions of the best network on the {config.split} split, by which it was chosen; they are flattered as its "
        f"validation score is. Accuracy {found.accuracy:.3f}."
    )
    matrix = confusion(found)
    yield matrix if matrix is not None else Paragraph(errors_in_words(found))
    yield class_table(found)


def _failures(trace: Trace) -> Iterator[Block]:
    """Each error with how many candidates had it."""
    found = trace.failures()
    if not found:
        yield Paragraph("No candidate failed.")
        return
    total = sum(count for _, count, _ in found)
    yield Paragraph(
        f"{total:,} of {len(trace.records):,} evaluations failed. They are recorded with their errors, and count in the budget."
    )
    for error, count, first in found[:_MOST_FAILURES]:
        yield Paragraph(f"{count:,} time{'' if count == 1 else 's'}, first at evaluation {first}:")
        yield Code(error if len(error) <= _ERROR_LENGTH else error[:_ERROR_LENGTH] + " ...")
    if len(found) > _MOST_FAILURES:
        yield Paragraph(f"{len(found) - _MOST_FAILURES:,} other errors stand in history.jsonl.")
