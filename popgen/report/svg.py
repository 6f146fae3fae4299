"""Charts as SVG, drawn here and not by a plotting library, for these measured reasons.

The chart of examples/plot_run.py by matplotlib is 19 kB for each of light and dark, because its colours are fixed; its text shrinks in a narrow
window, and matplotlib, half a second of imports, would become a dependency. Scripts are larger: Plotly's is 4.8 MB in each file that is to be read
offline, Vega with Vega-Lite and its embedding 0.8 MB. The charts here are steps, lines and dots: 2 to 30 kB, coloured by the page's style
sheet, laid out once for wide and once for narrow windows, with a hint for each dot, and without a script.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from importlib.resources import files

from popgen.report.content import SHADES, Chart, Mark, Series
from popgen.report.scale import Scale, apart, number, outward, same_unit, scale_around

WIDE, NARROW = (792, 390), (344, 330)  # width and height in pixels of the two layouts of a page
_CHARACTER = 7.2  # width of a character in pixels, as wide fonts have it
_LINE = 15  # height of a line of text in pixels
_DOT = 3.2


@dataclass(frozen=True)
class _Frame:
    """The place of a chart's parts: scales, and the column of labels at the right."""

    x: Scale
    y: Scale
    width: float
    height: float
    labels: float  # left end of the labels
    has_values: bool


def chart_svg(chart: Chart, size: tuple[int, int] = WIDE, name: str = "") -> str:
    """Return the chart as an <svg> of class `name`, whose colours are those of style.css.

    Args:
        size: width and height in pixels.
    """
    width, height = size if not chart.is_square else (size[0], size[1] + 70)
    keys = list(_keys(chart, width))
    frame = _frame(chart, width, height, top=14 + _LINE * (1 + len(keys)) + (6 if keys else 0))
    label = escape(chart.title, quote=True)
    parts = [
        f'<svg class="chart {name}" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{label}" xmlns="http://www.w3.org/2000/svg">',
        *(f'<g transform="translate(0 {12 + _LINE * row})">{key}</g>' for row, key in enumerate(keys)),
        *_axes(chart, frame),
        *(part for series in chart.series for part in _series(series, frame)),
        *_labels(chart, frame),
        "</svg>",
    ]
    return "\n".join(parts)


def chart_style() -> str:
    """Return the style sheet of charts: their colours in light and in dark, and how lines, dots and texts look."""
    return files("popgen.report").joinpath("chart.css").read_text(encoding="utf-8")


def mark_svg(mark: Mark, low: float, high: float, width: int = 132) -> str:
    """Return a dot with its interval on a line from `low` to `high`; an arrow where it lies further left."""
    height, scale = 16, Scale(low, high, 5, width - 5)
    head = f'<svg class="mark" viewBox="0 0 {width} {height}" width="{width}" height="{height}" aria-hidden="true">'
    rule = f'<line class="grid" x1="0" x2="{width}" y1="8" y2="8"/>'
    if mark.value < low:
        return f'{head}{rule}<path class="fill-{mark.role}" d="M7 4 L1 8 L7 12 Z"/></svg>'
    left, right = (min(max(scale(end), 0), width) for end in (mark.low, mark.high))
    bar = f'<line class="bar line-{mark.role}" x1="{left:.1f}" x2="{right:.1f}" y1="8" y2="8"/>'
    return f'{head}{rule}{bar}<circle class="fill-{mark.role}" cx="{scale(mark.value):.1f}" cy="8" r="3.5"/></svg>'


def mark_range(marks: list[Mark]) -> tuple[float, float]:
    """Return the round ends of the line that marks stand on. Values below four fifths of the best are left outside.

    >>> mark_range([Mark(0.1, 0.1, 0.1), Mark(0.9, 0.86, 0.94)])
    (0.86, 0.94)
    """
    best = max(mark.value for mark in marks)
    near = [mark for mark in marks if mark.value >= 0.8 * best]
    return outward(min(mark.low for mark in near), max(mark.high for mark in near))


def _frame(chart: Chart, width: int, height: int, top: float) -> _Frame:
    """The scales, with room for tick labels at the left and for labels at the right."""
    points = [point for series in chart.series for point in series.points]
    labelled = [series for series in chart.series if series.label]
    has_values = any(series.value for series in labelled) and width > NARROW[0]
    names = max((len(series.label) for series in labelled), default=0) * _CHARACTER
    right = width - (names + 26 + (52 if has_values else 0) if labelled else 12)
    y = scale_around([y for _, y in points], height - 36, top, log=chart.log_y)
    ticks = [len(number(tick)) for tick in y.ticks(6)] if chart.tick_labels else []
    left = 14 + max(ticks, default=0) * _CHARACTER
    xs = [x for x, _ in points]
    x = scale_around(xs, left, right, log=chart.log_x, margin=0.0 if labelled else 0.05)
    if chart.is_square:
        x, y = same_unit(x, y)
    return _Frame(x, y, width, height, right + 22, has_values)


def _axes(chart: Chart, frame: _Frame) -> Iterator[str]:
    """Grid lines, ticks and titles."""
    x, y = frame.x, frame.y
    yield _text(0, y.end - 9, chart.y, "muted")
    yield _text((x.start + x.end) / 2, frame.height - 4, chart.x, "muted middle")
    for tick in y.ticks(6) if chart.tick_labels else []:
        yield f'<line class="grid" x1="{x.start:.1f}" x2="{x.end:.1f}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
        yield _text(x.start - 7, y(tick) + 4, number(tick), "muted end")
    for tick in x.ticks(6 if frame.width > NARROW[0] else 3) if chart.tick_labels else []:
        yield f'<line class="axis" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{y.start:.1f}" y2="{y.start + 4:.1f}"/>'
        yield _text(x(tick), y.start + 17, number(tick), "muted middle")
    yield f'<line class="axis" x1="{x.start:.1f}" x2="{x.end:.1f}" y1="{y.start:.1f}" y2="{y.start:.1f}"/>'
    if not chart.tick_labels:
        yield f'<line class="axis" x1="{x.start:.1f}" x2="{x.start:.1f}" y1="{y.start:.1f}" y2="{y.end:.1f}"/>'


def _series(series: Series, frame: _Frame) -> Iterator[str]:
    """The lines and dots of a series."""
    places = [(frame.x(x), frame.y(y)) for x, y in series.points]
    if series.draw == "level":
        [(x, y)] = places
        yield f'<line class="level line-{series.role}" x1="{x:.1f}" x2="{frame.x.end:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield _dot(series, x, y, 0)
        return
    if series.draw in ("line", "step"):
        path = f"M{places[0][0]:.1f} {places[0][1]:.1f}"
        path += "".join(f"H{x:.1f}V{y:.1f}" if series.draw == "step" else f"L{x:.1f} {y:.1f}" for x, y in places[1:])
        yield f'<path class="curve line-{series.role}" d="{path}"/>'
    if series.draw == "line" and not series.hints:
        return
    shown = [(len(places) - 1, places[-1])] if series.draw == "step" else list(enumerate(places))
    yield from (_dot(series, x, y, i) for i, (x, y) in shown)


def _dot(series: Series, x: float, y: float, index: int) -> str:
    colour = f"shade-{series.shades[index]}" if series.shades else f"fill-{series.role}"
    hint = f"<title>{escape(series.hints[index])}</title>" if series.hints else ""
    if series.shape == "ring":
        return f'<circle class="ring" cx="{x:.1f}" cy="{y:.1f}" r="7">{hint}</circle>'
    if series.shape == "square":
        side = 2 * _DOT
        return (
            f'<rect class="dot {colour}" x="{x - _DOT:.1f}" y="{y - _DOT:.1f}" width="{side}" height="{side}">'
            f"{hint}</rect>"
        )
    return f'<circle class="dot {colour}" cx="{x:.1f}" cy="{y:.1f}" r="{_DOT}">{hint}</circle>'


def _labels(chart: Chart, frame: _Frame) -> Iterator[str]:
    """The labels at the right, at the height of their last points, moved apart where they would overlap."""
    labelled = sorted((s for s in chart.series if s.label), key=lambda series: frame.y(series.points[-1][1]))
    heights = [frame.y(series.points[-1][1]) for series in labelled]
    for series, height, place in zip(labelled, heights, apart(heights, _LINE), strict=True):
        x, role = frame.x.end, series.role
        yield f'<path class="leader line-{role}" d="M{x + 4:.1f} {height:.1f}L{frame.labels - 4:.1f} {place:.1f}"/>'
        yield _text(frame.labels, place + 4, series.label, f"text-{role}")
        if frame.has_values:
            yield _text(frame.width - 2, place + 4, series.value, f"text-{role} end")
    if labelled and frame.has_values:
        top = min(heights[0], frame.y.end + 9) - 18
        yield _text(frame.width - 2, min(top, frame.y.end - 9), chart.value_title, "muted end")


def _keys(chart: Chart, width: int) -> Iterator[str]:
    """The legend, a line of it at a time: the named series without a label, and the scale of the shades."""
    entries = [(_key(series), series.name) for series in chart.series if series.name and not series.label]
    line, x = "", 6.0
    for symbol, name in entries:
        needed = 14 + len(name) * _CHARACTER + 18
        if line and x + needed > width:
            yield line
            line, x = "", 6.0
        line += f'<g transform="translate({x:.1f} 0)">{symbol}{_text(10, 4, name, "")}</g>'
        x += needed
    if chart.scale is not None:
        texts = [f"{chart.scale[0]}", f"{chart.scale[1]}"]
        needed = 14 * SHADES + sum(map(len, texts)) * _CHARACTER + 14
        if line and x + needed > width:
            yield line
            line, x = "", 6.0
        start = x - 4 + len(texts[0]) * _CHARACTER + 6
        line += _text(x - 4, 4, texts[0], "muted")
        line += "".join(
            f'<rect class="shade-{i}" x="{start + 14 * i:.1f}" y="-5" width="13" height="9"/>' for i in range(SHADES)
        )
        line += _text(start + 14 * SHADES + 6, 4, texts[1], "muted")
    if line:
        yield line


def _key(series: Series) -> str:
    """The symbol of a series in the legend."""
    if series.draw in ("line", "step"):
        return f'<line class="curve line-{series.role}" x1="-5" x2="6" y1="0" y2="0"/>'
    neutral = Series("", (), role=series.role, shape=series.shape, shades=(SHADES - 2,) if series.shades else ())
    return _dot(neutral, 0, 0, 0).replace('r="7"', 'r="5"')


def _text(x: float, y: float, text: str, style: str) -> str:
    named = f' class="{style}"' if style else ""
    return f'<text{named} x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def is_drawable(chart: Chart) -> bool:
    """Whether all points are finite, there is one at least, and those on logarithmic axes are above 0."""
    points = [point for series in chart.series for point in series.points]
    fits = all(math.isfinite(x) and math.isfinite(y) for x, y in points)
    return fits and bool(points) and all((x > 0 or not chart.log_x) and (y > 0 or not chart.log_y) for x, y in points)
