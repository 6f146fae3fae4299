"""A report as HTML and as Markdown: hostile texts stay text, headings and charts are accessible, charts are drawn to scale."""

from __future__ import annotations

import math
import re
from dataclasses import fields, is_dataclass, replace
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest

from popgen.report import (
    Chart,
    Code,
    Confusion,
    Facts,
    Figure,
    Mark,
    Paragraph,
    Report,
    Section,
    Series,
    Table,
    html_page,
    markdown_page,
)
from popgen.report.svg import NARROW, WIDE, chart_svg, is_drawable, mark_svg

HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>--></style></svg>{{ 7*7 }}&lt;|`\\"
CHART = Chart(
    "Best so far",
    "It falls.",
    "evaluations",
    "loss",
    (
        Series("rival", ((1.0, 0.5),), "level", label="rival", value="0.8"),
        Series("near", ((1.0, 0.5001),), "level", label="near", value="0.7"),
        Series("search", ((1.0, 0.4), (5.0, 0.2), (10.0, 0.2)), "step", "search", label="search", value="0.9"),
        Series("seeds", ((2.0, 0.3), (3.0, 0.1)), shape="square", shades=(0, 5), hints=("a", "b")),
    ),
    scale=("high", "low"),
    value_title="test",
    table=Table("Numbers", ("x", "y"), (("1", "2"),), is_detail=True),
)
BLOCKS = (
    Paragraph("text"),
    Paragraph("careful", is_remark=True),
    Facts((("name", "value"),)),
    Code("popgen search"),
    Table(
        "Rows", ("", "score"), (("a", "1"), ("b", "2")), notes=("one", "two"), marks=(Mark(0.5, 0.4, 0.6), None),
        marked="score", strong=(1,),
    ),
    CHART,
    Confusion("Confusion", ("cat", "dog"), ((5, 1), (0, 6)), "1 error."),
)  # fmt: skip
REPORT = Report(
    "search", "a on b", ("It won.", "By far."), (Figure("0.9", "accuracy", "good"),),
    (Section("One", BLOCKS), Section("Two", (), (Section("Part", BLOCKS),))), "1.0",
)  # fmt: skip


class Page(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def hostile(content: Any) -> Any:
    """The content with the hostile text in place of every text that is not a choice of a few."""
    if isinstance(content, str):
        return HOSTILE if content else ""
    if isinstance(content, tuple):
        return tuple(map(hostile, content))
    if is_dataclass(content):
        kept = ("draw", "role", "shape")
        return replace(
            content,  # type: ignore[type-var]
            **{one.name: hostile(getattr(content, one.name)) for one in fields(content) if one.name not in kept},
        )
    return content


def test_hostile_texts_stay_text() -> None:
    page, plain = Page(html_page(hostile(REPORT))), Page(html_page(REPORT))
    known = {(name, *attributes) for name, attributes in plain.tags}
    assert {(name, *attributes) for name, attributes in page.tags} <= known
    assert not {"script", "img", "iframe", "link", "object"} & {name for name, _ in page.tags}
    assert not [key for _, attributes in page.tags for key in attributes if key.startswith("on")]
    assert page.text.count(HOSTILE) > 30
    assert {attributes["aria-label"] for attributes in page.all("svg") if "aria-label" in attributes} == {HOSTILE}


def test_a_page_asks_for_nothing() -> None:
    text = html_page(REPORT)
    page = Page(text)
    assert "default-src 'none'" in str(page.all("meta"))
    assert not [one for _, one in page.tags if "src" in one or not str(one.get("href", "#")).startswith("#")]
    assert re.findall(r"https?://[^\"\s]+", text) == ["http://www.w3.org/2000/svg"] * text.count("xmlns=")
    assert "@import" not in text and "url(" not in text


def test_headings_nest_and_links_lead_to_them() -> None:
    page = Page(html_page(REPORT))
    assert [name for name, _ in page.tags if re.fullmatch("h[1-6]", name)] == ["h1", "h2", "h2", "h3"]
    ids = [one["id"] for _, one in page.tags if "id" in one]
    assert len(ids) == len(set(ids))
    assert {one["href"] for one in page.all("a")} <= {f"#{name}" for name in ids}
    assert {one["aria-labelledby"] for one in page.all("section")} <= set(ids)


def test_everything_has_a_text_alternative() -> None:
    page = Page(html_page(REPORT))
    charts = [one for one in page.all("svg") if "chart" in str(one["class"])]
    assert len(charts) == 4, "wide and narrow, twice"
    assert all(one["role"] == "img" and one["aria-label"] == "Best so far" for one in charts)
    assert all(one["aria-hidden"] == "true" for one in page.all("svg") if one not in charts), "the table has the number"
    assert len(page.all("figcaption")) == len(page.all("figure")) == 4
    assert page.text.count("It falls.") == 2
    assert all("scope" in one for one in page.all("th"))
    regions = [one for one in page.all("div") if one.get("role") == "region"]
    assert regions and all(one["tabindex"] == "0" and one["aria-label"] for one in regions)


def test_a_chart_is_drawn_to_scale() -> None:
    chart = Chart("t", "", "x", "y", (Series("s", ((0.0, 0.0), (10.0, 1.0)), "dots"), Series("m", ((5.0, 0.5),))))
    root = ElementTree.fromstring(chart_svg(chart))
    dots = [one for one in root.iter() if one.get("class") == "dot fill-rival"][2:]  # the first two are the legend's
    (x0, y0), (x1, y1), (x2, y2) = ((float(one.get("cx", "")), float(one.get("cy", ""))) for one in dots)
    assert x2 == pytest.approx((x0 + x1) / 2, abs=0.11) and y2 == pytest.approx((y0 + y1) / 2, abs=0.11)
    assert x0 < x1 and y0 > y1, "up is more"
    square = replace(chart, is_square=True, series=(Series("s", ((0.0, 0.0), (1.0, 1.0))),))
    (x0, y0), (x1, y1) = (
        (float(one.get("cx", "")), float(one.get("cy", "")))
        for one in list(ElementTree.fromstring(chart_svg(square)).iter())
        if one.get("class") == "dot fill-rival" and one.get("cx") != "0.0"
    )
    assert x1 - x0 == pytest.approx(y0 - y1, abs=0.21)


@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_labels_stand_apart_and_inside(size: tuple[int, int]) -> None:
    root = ElementTree.fromstring(chart_svg(CHART, size))
    texts = [one for one in root.iter("{http://www.w3.org/2000/svg}text")]
    labels = sorted(float(one.get("y", "")) for one in texts if one.text in ("rival", "near", "search"))[-3:]
    assert min(b - a for a, b in zip(labels, labels[1:], strict=False)) >= 14.9
    assert all(0 <= float(one.get("x", "")) <= size[0] and float(one.get("y", "")) <= size[1] for one in texts)
    shown = {one.text for one in texts}
    assert ("0.9" in shown) == (size == WIDE), "a narrow chart leaves the second column to the table"


@pytest.mark.parametrize("bad", [(1.0, math.nan), (math.inf, 1.0), (1.0, -1.0)])
def test_what_cannot_be_drawn_is_said(bad: tuple[float, float]) -> None:
    chart = replace(CHART, series=(Series("s", (bad,)),), log_y=True)
    assert not is_drawable(chart) and not is_drawable(replace(CHART, series=()))
    page = html_page(replace(REPORT, sections=(Section("One", (chart,)),)))
    assert "It falls." in page and "<figure" not in page
    assert markdown_page(replace(REPORT, sections=(Section("One", (chart,)),)), "c")[1] == {}


def test_a_mark_outside_of_the_line_is_an_arrow() -> None:
    assert "<circle" in mark_svg(Mark(0.9, 0.85, 0.95), 0.8, 1.0)
    assert "<path" in mark_svg(Mark(0.1, 0.1, 0.2), 0.8, 1.0) and "<circle" not in mark_svg(Mark(0.1, 0.1, 0.2), 0.8, 1)


def test_markdown_has_the_same_and_its_charts_are_files() -> None:
    text, charts = markdown_page(REPORT, "charts")
    assert text.startswith("# a on b\n\n**It won.**\n\nBy far.\n")
    assert "| **b** | **two** | **2** |" in text and "| cat | 5 | 1 |" in text and "> careful" in text
    assert text.count("](charts/chart-") == len(charts) == 2
    for svg in charts.values():
        root = ElementTree.fromstring(svg)
        assert root.get("aria-label") == "Best so far"
        assert "prefers-color-scheme: dark" in svg


def test_hostile_texts_stay_text_in_markdown() -> None:
    text, charts = markdown_page(hostile(replace(REPORT, sections=(Section("One", BLOCKS[:5]),))), "charts")
    fence = "`" * 3
    outside = re.sub(rf"^{fence}.*?^{fence}$", "", text, flags=re.M | re.S)
    assert not re.search(r"(?<!\\)[<`|](?=script|img|/)", outside)
    rows = [line for line in outside.splitlines() if line.startswith("| ")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in rows} == {4}, "no text ends a cell"
    assert charts == {}
