"""The report of a run: what was asked, the verdict, the table, the charts, the best network, failures, and how to do it again."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from popgen import __version__
from popgen.configs.command import search_command
from popgen.configs.search import SearchConfig
from popgen.data.names import source_of
from popgen.data.sources.catalogue import CATALOGUE
from popgen.errors import BrokenFile, PopgenError, brief
from popgen.jobs.reporting.figures import class_table, confusion, curve, errors_in_words, front_chart, population_map
from popgen.jobs.reporting.predictions import Predictions, best_predictions
from popgen.jobs.reporting.rivals import SEARCH, Score, finetuned_table, rivals_table, text, verdict, with_error
from popgen.jobs.reporting.trace import Trace, read_trace
from popgen.jobs.searching.folder import RunFolder
from popgen.jobs.searching.gain import GainOverStart
from popgen.json_text import parse_json
from popgen.report import Block, Chart, Code, Facts, Figure, Paragraph, Report, Section, Table

_MOST_FAILURES = 20  # different errors that are shown
_ERROR_LENGTH = 600  # characters of one of them


@dataclass(frozen=True)
class Searched:
    """All that a run folder holds of one architecture. `scores` and `details` are empty where the search is not finished."""

    arch: str
    trace: Trace
    scores: list[Score]
    details: dict[str, Any]
    predictions: Predictions | str  # or why there are none
    is_stale: bool  # the table is of an earlier session, and evaluations were added to the history since

    @property
    def own(self) -> Score | None:
        """The row of the search."""
        return next((one for one in self.scores if one.name == SEARCH), None)

    @property
    def spent(self) -> int:
        """Evaluations with those that were spent before the search, such as on ranking a zoo's experts."""
        return self.trace.spent if self.own is None else max(self.own.evaluations, self.trace.spent)


def run_report(path: str) -> Report:
    """Read a run folder as a report.

    Raises:
        NotFound: no run there.
        BrokenFile: a file of the run is not what popgen wrote.
        SearchError: the history is broken, or another process writes it.
    """
    folder = RunFolder.open(path)
    config, recorded = folder.config()
    recorded = recorded if isinstance(recorded, dict) else {}
    results = _results(folder.path / "result.json")
    searched = [_searched(folder, arch, config, recorded, results.get(arch)) for arch in config.archs]
    title = f"{', '.join(config.archs)} on {config.data}"
    verdicts = [tuple(_verdict(one, config)) for one in searched]
    lines = verdicts[0] if len(searched) == 1 else tuple(first for first, *_ in verdicts)
    sections = (
        _asked(config, recorded, searched),
        *(_of_arch(searched[0], config) if len(searched) == 1 else (_arch_section(one, config) for one in searched)),
        _again(config, recorded, searched),
    )
    return Report("search", title, lines, tuple(_figures(searched, config)), sections, __version__)


def _results(file: Path) -> dict[str, dict[str, Any]]:
    """The content of result.json by architecture; empty where there is none.

    Raises:
        BrokenFile: it is not what popgen wrote.
    """
    if not file.is_file():
        return {}
    try:
        found = {str(one["arch"]): dict(one) for one in parse_json(file.read_text(encoding="utf-8"))["results"]}
        for one in found.values():
            one["rows"], one["details"] = [dict(row) for row in one["rows"]], dict(one["details"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BrokenFile(f"{file} cannot be read", brief(error), "Resume the run: it is written anew.") from error
    return found


def _searched(
    folder: RunFolder, arch: str, config: SearchConfig, recorded: dict[str, Any], result: dict[str, Any] | None
) -> Searched:
    trace = read_trace(folder, arch)
    scores = [] if result is None else [Score.of(row) for row in result["rows"]]
    details = {} if result is None else result["details"]
    predictions: Predictions | str
    try:
        predictions = best_predictions(folder.best(arch), config, recorded.get("data_sha256"))
    except PopgenError as error:
        predictions = f"{error.what}: {error.why}" if error.why else error.what
    is_stale = result is not None and details.get("looks", len(trace.records)) != len(trace.records)
    return Searched(arch, trace, scores, details, predictions, is_stale)


def _verdict(one: Searched, config: SearchConfig) -> Iterator[str]:
    done, failed = len(one.trace.records), sum(error[1] for error in one.trace.failures())
    if done and failed == done:
        yield f"Every one of the {done:,} candidates for {one.arch} failed."
    elif not one.scores:
        best = min((step[1] for step in one.trace.best_so_far()), default=None)
        reached = "" if best is None else f" The lowest validation loss so far is {best:.4f}."
        yield f"The search of {one.arch} is not finished: {one.trace.spent:,} of {config.evaluations:,} evaluations are made.{reached}"
    else:
        yield from verdict(one.arch, one.scores)


def _figures(searched: list[Searched], config: SearchConfig) -> Iterator[Figure]:
    """The figures at the head."""
    for one in searched:
        own = one.own
        if own is not None:
            name = f"test {own.unit}" + (f", {one.arch}" if len(searched) > 1 else "")
            yield Figure(with_error(own.test, own.test_error), name, f"{text(own.val)} on validation")
    made, spent = sum(one.trace.spent for one in searched), sum(one.spent for one in searched)
    of = "" if len(searched) == 1 else f" for {len(searched)} architectures"
    before = (
        f"{spent - made:,} of them before the search"
        if spent > made
        else f"budget {config.evaluations:,}{' each' if of else ''}"
    )
    yield Figure(f"{spent:,}", f"evaluation{'' if spent == 1 else 's'}{of}", before)
    seconds = sum(max((record.elapsed for record in one.trace.records), default=0.0) for one in searched)
    yield Figure(_duration(seconds), "of searching", f"{made / seconds:,.3g} evaluations/s" if seconds > 0 else "")
    failed = sum(count for one in searched for _, count, _ in one.trace.failures())
    yield Figure(f"{failed:,}", f"failed candidate{'' if failed == 1 else 's'}")


def _asked(config: SearchConfig, recorded: dict[str, Any], searched: list[Searched]) -> Section:
    """What was asked: the settings, and what was decided from them."""
    first = searched[0]
    origin = config.generator or ("the built-in generator" if recorded.get("generator_sha256") else None)
    limits = {"seconds": config.seconds, "target loss": config.target, "patience": config.patience}
    budget = [
        f"{config.evaluations:,} evaluations",
        *(f"{name} {value:g}" for name, value in limits.items() if value is not None),
    ]
    pairs = [
        ("architecture" if len(searched) == 1 else "architectures", ", ".join(_arch_text(one) for one in searched)),
        ("data set", config.data),
        ("candidates from", origin or (config.zoo and f"the zoo {config.zoo}") or "the experts of a zoo"),
        ("minimised", _objective(config)),
        ("budget", ", ".join(budget)),
        (
            "optimizer",
            f"{config.optimizer}, in batches of {config.batch}{', asynchronous' if config.mode == 'async' else ''}",
        ),
        ("seed", str(config.seed)),
    ]
    if recorded.get("data_sha256"):
        pairs.insert(2, ("data hash", str(recorded["data_sha256"])[:16]))
    if isinstance(first.details.get("validation_images"), int):
        pairs.insert(2, ("validation images", f"{first.details['validation_images']:,}"))
    remarks = [Paragraph(one, is_remark=True) for one in _texts(recorded.get("data_remarks"))]
    return Section("What was asked", (Facts(tuple(pairs)), *remarks, *_contamination(first.details)))


def _arch_text(one: Searched) -> str:
    return one.arch if isinstance(one.predictions, str) else f"{one.arch} ({one.predictions.parameters:,} parameters)"


def _objective(config: SearchConfig) -> str:
    names = ", ".join(config.objectives)
    if len(config.objectives) == 1:
        return names if names != "loss" else "loss (cross-entropy and the share of errors) on the validation split"
    if config.weights is not None:
        return f"{names}, weighted {', '.join(f'{w:g}' for w in config.weights)}"
    return f"{names}, as a Pareto front"


def _contamination(details: dict[str, Any]) -> Iterator[Block]:
    """A remark where images are shared with what checkpoints were trained on, or among splits."""
    found = details.get("contamination")
    if not isinstance(found, dict):
        return
    shared = _texts([one.get("data") for one in found.get("shared") or () if isinstance(one, dict)])
    if shared:
        yield Paragraph(
            f"Images are shared with {', '.join(shared)}, which checkpoints were trained on: accuracy on them is inflated.",
            True,
        )
    if found.get("within"):
        yield Paragraph(
            "Images of the data set stand in more than one of its splits: scores on them are inflated.", True
        )
    if unseen := _texts(found.get("not_checked")):
        yield Paragraph(f"Not compared with the training images of {', '.join(unseen)}, which were not here.", True)


def _arch_section(one: Searched, config: SearchConfig) -> Section:
    """The section of one architecture among several, with its whole verdict."""
    lines = tuple(Paragraph(line) for line in _verdict(one, config))
    return Section(one.arch, lines, _of_arch(one, config))


def _of_arch(one: Searched, config: SearchConfig) -> tuple[Section, ...]:
    """The sections of one architecture."""
    stale = Paragraph(
        f"This table is of an earlier session, and the search has made {len(one.trace.records):,} evaluations since it began. "
        "Resume the run to the end for a new one.",
        is_remark=True,
    )
    table: list[Block] = [stale] if one.is_stale else []
    table += [rivals_table(one.scores)] if one.scores else [Paragraph("The table is made when the search is finished.")]
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
    chart = front_chart(one.trace, [(index, (values[0], values[1])) for index, values, _ in points], knee)
    if chart is not None:
        yield chart
    points.sort(key=lambda point: point[1])
    rows = tuple(
        (f"{index}{' (knee)' if index == knee else ''}", *(f"{value:.4f}" for value in values), text(score))
        for index, values, score in points
    )
    strong = tuple(i for i, point in enumerate(points) if point[0] == knee)
    yield Table(
        "Points of the front; the table of rivals has its knee",
        ("evaluation", *names, "validation score"),
        rows,
        strong=strong,
    )


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


def _again(config: SearchConfig, recorded: dict[str, Any], searched: list[Searched]) -> Section:
    """The command that makes the run again, its versions, and what was decided on the way."""
    own = recorded.get("versions")
    versions = {
        "popgen": recorded.get("popgen"),
        **(own if isinstance(own, dict) else {}),
        **searched[0].trace.versions,
    }
    pairs = [("versions", ", ".join(f"{name} {version}" for name, version in versions.items() if version))]
    for key, name in (("generator_sha256", "generator hash"), ("zoo_sha256", "zoo hash"), ("base_sha256", "base hash")):
        if recorded.get(key):
            pairs.append((name, str(recorded[key])[:16]))
    for one in searched:
        decided = {
            key: one.details[key]
            for key in ("head", "batch_norm", "space_dim", "stopped_by", "run_with")
            if key in one.details
        }
        words = {
            "batch_norm": "batch norm",
            "space_dim": "coordinates",
            "stopped_by": "stopped by",
            "run_with": "run with",
        }
        if decided:
            name = "decided" if len(searched) == 1 else f"decided for {one.arch}"
            pairs.append((name, "; ".join(f"{words.get(key, key)} {value}" for key, value in decided.items())))
    note = Paragraph(
        "The command gives the same evaluations on the same data and versions; a run that was resumed with a larger budget is the "
        "same as one that had it from the start."
        if config.mode == "exact"
        else "The search was asynchronous, so that no two runs have the same evaluations."
    )
    if source_of(config.data) not in CATALOGUE:
        config = config.model_copy(update={"data_dir": None})  # nothing is read from there
    return Section("To do it again", (Code(search_command(config)), note, Facts(tuple(pairs))))


def _texts(content: Any) -> list[str]:
    """The texts of a list in a file; what is no list of texts has none."""
    return [one for one in content if isinstance(one, str)] if isinstance(content, list) else []


def _duration(seconds: float) -> str:
    """Seconds in words.

    >>> _duration(3.66), _duration(75), _duration(7300)
    ('3.7 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = math.floor(seconds / 60)
    return f"{minutes} min {seconds % 60:.0f} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
