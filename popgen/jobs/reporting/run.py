"""The report of a run: what was asked, the verdict, the table, the charts, the best network, failures, and how to do it again."""

from __future__ import annotations

import math
from collections.abc import Iterator

from popgen import __version__
from popgen.configs.search import SearchConfig
from popgen.jobs.reporting.arch_sections import arch_sections
from popgen.jobs.reporting.asked import again, asked
from popgen.jobs.reporting.rivals import text, verdict, with_error
from popgen.jobs.reporting.searched import Searched, read_results, read_searched
from popgen.jobs.searching.folder import RunFolder
from popgen.report import Figure, Paragraph, Report, Section


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
    results = read_results(folder.path / "result.json")
    searched = [read_searched(folder, arch, config, recorded, results.get(arch)) for arch in config.archs]
    title = f"{', '.join(config.archs)} on {config.data}"
    verdicts = [tuple(_verdict(one, config)) for one in searched]
    lines = verdicts[0] if len(searched) == 1 else tuple(first for first, *_ in verdicts)
    sections = (
        asked(config, recorded, searched),
        *(
            arch_sections(searched[0], config)
            if len(searched) == 1
            else (_arch_section(one, config) for one in searched)
        ),
        again(config, recorded, searched),
    )
    return Report("search", title, lines, tuple(_figures(searched, config)), sections, __version__)


def _verdict(one: Searched, config: SearchConfig) -> Iterator[str]:
    done, failed = len(one.trace.records), sum(error[1] for error in one.trace.failures())
    if done and failed == done:
        yield f"Every one of the {done:,} candidates for {one.arch} failed."
    elif not one.scores:
        best = min((step[1] for step in one.trace.best_so_far()), default=None)
        reached = "" if best is None else f" The lowest validation loss so far is {best:.4f}."
        yield f"The search of {one.arch} is not finished: {one.trace.spent:,} of {config.evaluations:,} evaluations are made.{reached}"
    else:
        tuned = one.tuned
        if tuned:
            result = one.scores[-1]
            reached = f"{with_error(result.test, result.test_error)} test {result.unit}"
            yield f"The weights of {one.arch} reach {reached}. {tuned[:1].upper()}{tuned[1:]}."
        yield from verdict(one.arch, one.scores)


def _figures(searched: list[Searched], config: SearchConfig) -> Iterator[Figure]:
    """The figures at the head."""
    for one in searched:
        if one.scores and one.own is not None:
            own = one.scores[-1]  # the result
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


def _arch_section(one: Searched, config: SearchConfig) -> Section:
    """The section of one architecture among several, with its whole verdict."""
    lines = tuple(Paragraph(line) for line in _verdict(one, config))
    return Section(one.arch, lines, arch_sections(one, config))


def _duration(seconds: float) -> str:
    """Seconds in words.

    >>> _duration(3.66), _duration(75), _duration(7300)
    ('3.7 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = math.floor(seconds / 60)
    return f"{minutes} min {seconds % 60:.0f} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
