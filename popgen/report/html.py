"""A report as one HTML file: the style and the charts stand in it, it loads nothing and runs no script.

The page is a jinja2 template with autoescape, so that names and errors of a run stay text whatever they hold. A content security policy
forbids requests besides. Each chart is there in two layouts, for wide and for narrow windows; the style sheet shows one of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from popgen.report.content import Block, Chart, Confusion, Report, Section, Table
from popgen.report.scale import number
from popgen.report.svg import NARROW, WIDE, chart_style, chart_svg, is_drawable, mark_range, mark_svg


@dataclass(frozen=True)
class _Placed:
    """A section with its level of heading and its anchor."""

    content: Section
    level: int
    id: str
    parts: tuple[_Placed, ...]


def html_page(report: Report) -> str:
    """Return the report as a page of HTML.

    >>> from popgen.report import Paragraph
    >>> page = html_page(Report("search", "<b>", ("done",), (), (Section("Why", (Paragraph("a & b"),)),), "1"))
    >>> "<h1>&lt;b&gt;</h1>" in page, "<p>a &amp; b</p>" in page
    (True, True)
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    macros = environment.from_string(_text("blocks.html.jinja"))
    environment.globals["shown"] = lambda block: _shown(macros.module, block)
    page = environment.from_string(_text("page.html.jinja"))
    return page.render(report=report, sections=_placed(report.sections, 2, ""), style=Markup(_style())) + "\n"


def _style() -> str:
    """The style sheet: that of charts, and that of the page."""
    return chart_style() + _text("style.css").strip()


def _text(name: str) -> str:
    """The text of a file beside this one."""
    return files("popgen.report").joinpath(name).read_text(encoding="utf-8")


def _placed(sections: tuple[Section, ...], level: int, above: str) -> tuple[_Placed, ...]:
    """Sections with anchors that are their places, such as s2-1, so that no name of a run gets into one."""
    names = [f"{above or 's'}{'-' if above else ''}{i}" for i in range(1, len(sections) + 1)]
    return tuple(
        _Placed(one, level, name, _placed(one.parts, level + 1, name))
        for one, name in zip(sections, names, strict=True)
    )


def _shown(macros: Any, block: Block) -> Markup:
    """A block by the macro of its kind."""
    if isinstance(block, Chart):
        if not is_drawable(block):
            return Markup("<p>{}</p>").format(block.alternative)
        wide, narrow = (Markup(chart_svg(block, size, name)) for size, name in ((WIDE, "wide"), (NARROW, "narrow")))
        return Markup(macros.chart(block, wide, narrow))
    if isinstance(block, Table):
        return Markup(macros.table(block, *_marks(block)))
    if isinstance(block, Confusion):
        shares = [[round(count / max(sum(row), 1), 3) for count in row] for row in block.counts]
        return Markup(macros.confusion(block, shares))
    return Markup(getattr(macros, type(block).__name__.lower())(block))


def _marks(table: Table) -> tuple[tuple[str, str] | None, list[Markup]]:
    """The ends of the line that a table's marks stand on, and the marks drawn."""
    known = [mark for mark in table.marks or () if mark is not None]
    if not known:
        return None, [Markup("") for _ in table.marks or ()]
    low, high = mark_range(known)
    drawn = [Markup("" if mark is None else mark_svg(mark, low, high)) for mark in table.marks or ()]
    return (number(low), number(high)), drawn
