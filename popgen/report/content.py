"""The content of a report as plain data: sections of paragraphs, facts, tables, charts, confusions and commands.

All texts are plain text. Names and errors of a run may hold anything; each form of the report escapes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# What a line, dot or mark stands for; every form has one colour for each.
Role = Literal["search", "generated", "rival"]
SHADES = 6  # steps of the scale by which dots are coloured


@dataclass(frozen=True)
class Paragraph:
    """A text; `is_remark` sets it apart as something that the reader should know before trusting the rest."""

    text: str
    is_remark: bool = False


@dataclass(frozen=True)
class Facts:
    """Pairs of a name and its value."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Code:
    """Lines to be copied as they are: a command, an error."""

    text: str


@dataclass(frozen=True)
class Mark:
    """A value with its interval, drawn at the end of a table's row."""

    value: float
    low: float
    high: float
    role: Role = "rival"


@dataclass(frozen=True)
class Table:
    """A table. The first `names` columns are texts on the left, the others numbers on the right.

    `notes` are none, or a remark for each row, which stands under its first cell. `marks` are None, or one for each row (None
    for a row without a value); `marked` says what they show. `strong` are the indices of the rows that stand out. A table that
    `is_detail` is folded until it is opened.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    names: int = 1
    notes: tuple[str, ...] = ()
    marks: tuple[Mark | None, ...] | None = None
    marked: str = ""
    strong: tuple[int, ...] = ()
    is_detail: bool = False


@dataclass(frozen=True)
class Series:
    """Points of a chart, in data units.

    `draw` is how: "dots"; "line" or "step" through all points in their order; or "level", a horizontal line from the one
    point to the right edge. `shades` colour each dot by a scale of SHADES steps, 0 the highest value; without them the role
    does. `hints` are shown for each dot under the pointer; a line without hints has no dots. `label` and `value` stand at the right edge beside the last point.
    """

    name: str
    points: tuple[tuple[float, float], ...]
    draw: Literal["dots", "line", "step", "level"] = "dots"
    role: Role = "rival"
    shape: Literal["circle", "square", "ring"] = "circle"
    shades: tuple[int, ...] = ()
    hints: tuple[str, ...] = ()
    label: str = ""
    value: str = ""


@dataclass(frozen=True)
class Chart:
    """A chart of series over two axes. `alternative` says in words what it shows, with the figures that matter.

    `scale` are the two ends, as text, of the scale that shades stand for, highest value first. `is_square` gives both axes the same unit;
    `tick_labels` False leaves numbers away that mean nothing, such as those of principal components. `table` holds the numbers
    behind the chart.
    """

    title: str
    alternative: str
    x: str
    y: str
    series: tuple[Series, ...]
    log_x: bool = False
    log_y: bool = False
    is_square: bool = False
    tick_labels: bool = True
    scale: tuple[str, str] | None = None
    value_title: str = ""
    table: Table | None = None


@dataclass(frozen=True)
class Confusion:
    """How often each true class (rows) was predicted as each class (columns)."""

    title: str
    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    alternative: str


Block = Paragraph | Facts | Code | Table | Chart | Confusion


@dataclass(frozen=True)
class Section:
    """A heading, what stands under it, and parts with headings of their own."""

    title: str
    blocks: tuple[Block, ...] = ()
    parts: tuple[Section, ...] = ()


@dataclass(frozen=True)
class Figure:
    """A figure at the head of a report: the value, what it is, and a remark beneath."""

    value: str
    what: str
    note: str = ""


@dataclass(frozen=True)
class Report:
    """A report. `kind` is what it reports on, such as search; the first line of `verdict` is its one sentence."""

    kind: str
    title: str
    verdict: tuple[str, ...]
    figures: tuple[Figure, ...]
    sections: tuple[Section, ...]
    popgen: str  # the version that wrote the report
