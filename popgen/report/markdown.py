"""A report as Markdown, for issues and papers; charts are links to SVG files beside it, with their texts."""

from __future__ import annotations

import re
from collections.abc import Iterator

from popgen.report.content import Block, Chart, Code, Confusion, Facts, Paragraph, Report, Section, Table
from popgen.report.svg import chart_style, chart_svg, is_drawable

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$&!])")


def markdown_page(report: Report, folder: str) -> tuple[str, dict[str, str]]:
    """Return the report as Markdown, and the charts that it links to: the name of each file and its SVG.

    Args:
        folder: the charts' folder, relative to the Markdown file.

    >>> text, charts = markdown_page(Report("search", "a_b", ("done",), (), (Section("Why"),), "1"), "charts")
    >>> print(text.splitlines()[0], charts)
    # a\\_b {}
    """
    charts: dict[str, str] = {}
    lines = [f"# {plain(report.title)}", ""]
    for i, line in enumerate(report.verdict):
        lines += [f"**{plain(line)}**" if i == 0 else plain(line), ""]
    lines += [
        f"- {plain(one.value)} {plain(one.what)}{f' ({plain(one.note)})' if one.note else ''}" for one in report.figures
    ]
    for section in report.sections:
        lines += ["", *_section(section, 2, folder, charts)]
    lines += ["", f"Written by popgen {plain(report.popgen)}."]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)) + "\n", charts


def plain(text: str) -> str:
    """Return a text on one line that Markdown shows as it is.

    >>> plain("a_b | <c>")
    'a\\\\_b \\\\| \\\\<c\\\\>'
    """
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _section(section: Section, level: int, folder: str, charts: dict[str, str]) -> Iterator[str]:
    yield from (f"{'#' * level} {plain(section.title)}", "")
    for block in section.blocks:
        yield from _block(block, folder, charts)
        yield ""
    for part in section.parts:
        yield from _section(part, level + 1, folder, charts)


def _block(block: Block, folder: str, charts: dict[str, str]) -> Iterator[str]:
    if isinstance(block, Paragraph):
        yield f"{'> ' if block.is_remark else ''}{plain(block.text)}"
    elif isinstance(block, Facts):
        yield from (f"- {plain(name)}: {plain(value)}" for name, value in block.pairs)
    elif isinstance(block, Code):
        fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", block.text))])
        yield from (fence, block.text, fence)
    elif isinstance(block, Table):
        columns, rows, names = block.columns, block.rows, block.names
        if block.notes:
            columns, names = (columns[0], "what it is", *columns[1:]), names + 1
            rows = tuple((row[0], note, *row[1:]) for row, note in zip(rows, block.notes, strict=True))
        yield from _table(block.title, columns, rows, names, block.strong)
    elif isinstance(block, Confusion):
        rows = tuple((name, *map(str, row)) for name, row in zip(block.classes, block.counts, strict=True))
        yield from _table(block.title, ("true \\ predicted", *block.classes), rows, 1, ())
        yield from ("", plain(block.alternative))
    else:
        yield from _chart(block, folder, charts)


def _table(
    title: str, columns: tuple[str, ...], rows: tuple[tuple[str, ...], ...], names: int, strong: tuple[int, ...]
) -> Iterator[str]:
    yield from (f"{plain(title)}:", "")
    yield f"| {' | '.join(plain(name) for name in columns)} |"
    yield f"|{'|'.join('---' if i < names else '--:' for i in range(len(columns)))}|"
    for i, row in enumerate(rows):
        cells = [f"**{plain(cell)}**" if i in strong and cell else plain(cell) for cell in row]
        yield f"| {' | '.join(cells)} |"


def _chart(chart: Chart, folder: str, charts: dict[str, str]) -> Iterator[str]:
    if is_drawable(chart):
        file = f"chart-{len(charts) + 1}.svg"
        charts[file] = _standalone(chart)
        yield from (f"![{plain(chart.title)}]({folder}/{file})", "")
    yield plain(chart.alternative)


def _standalone(chart: Chart) -> str:
    """The chart as a file of its own, which brings the style and follows light and dark like a page."""
    head, rest = chart_svg(chart).split("\n", 1)
    font = "svg { font-family: system-ui, 'Liberation Sans', Arial, sans-serif; }"
    return f"{head}\n<style>{chart_style()}{font}</style>\n{rest}\n"
