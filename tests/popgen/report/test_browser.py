"""Reports in a real browser: light, dark, narrow and printed, by keyboard, and without a request. Skipped where there is none."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import EXECUTABLE, Chromium
from PIL import Image

from popgen.jobs.report import report

pytestmark = pytest.mark.skipif(EXECUTABLE is None, reason="needs Chromium: apt-get install chromium")

# The contrast of every text with the background behind it, by the formula of WCAG 2.1; the lowest ones first.
CONTRASTS = """
(() => {
  const canvas = document.createElement('canvas'); canvas.width = canvas.height = 1;
  const pen = canvas.getContext('2d', {willReadFrequently: true});
  const rgb = colour => { pen.clearRect(0, 0, 1, 1); pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1);
    return [...pen.getImageData(0, 0, 1, 1).data]; };
  const light = c => { const [r, g, b] = c.slice(0, 3).map(v => v / 255)
    .map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
  const behind = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor);
    if (c[3] > 250) return c; } return [255, 255, 255, 255]; };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement, text = walker.currentNode.textContent.trim();
    if (!text || !e.getClientRects().length || e.closest('title')) continue;
    const style = getComputedStyle(e), a = light(rgb(e.closest('svg') ? style.fill : style.color)), b = light(behind(e));
    found.push([(Math.max(a, b) + .05) / (Math.min(a, b) + .05), text]);
  }
  return found.sort((a, b) => a[0] - b[0]);
})()
"""
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with Chromium() as one:
        yield one


@pytest.fixture(scope="module")
def page(run_folder: tuple[Path, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a search for two architectures."""
    return Path(report(str(run_folder[0]), str(tmp_path_factory.mktemp("report") / "report.html")).path)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1100, 700, 360])
def test_it_is_readable_at_every_width(browser: Chromium, page: Path, width: int, scheme: str) -> None:
    browser.open(page, width, scheme)
    assert browser.requests() == [page.resolve().as_uri()] and browser.complaints() == []
    assert browser.evaluate(OVERFLOW) == 0, "only tables scroll, inside of the page"
    contrasts = browser.evaluate(CONTRASTS)
    assert len(contrasts) > 200 and contrasts[0][0] >= 4.5, contrasts[:5]
    shown = (
        "[...document.querySelectorAll('svg.chart')].filter(e => e.getClientRects().length).map(e => e.classList[1])"
    )
    assert set(browser.evaluate(shown)) == {"narrow" if width == 360 else "wide"}
    image = Image.open(io.BytesIO(browser.screenshot())).convert("RGB")
    assert image.width == width and image.height > 3000
    red, green, blue = image.getpixel((2, 2))  # type: ignore[misc]
    assert (red + green + blue < 150) == (scheme == "dark")
    assert len(image.getcolors(1 << 24) or ()) > 50


def test_texts_of_charts_stay_inside(browser: Chromium, page: Path) -> None:
    outside = """[...document.querySelectorAll('svg.chart text')].filter(e => { const a = e.getBoundingClientRect(),
        b = e.closest('svg').getBoundingClientRect(); return a.width && (a.right > b.right + 1 || a.left < b.left - 1); })
        .map(e => e.textContent)"""
    for width in (1100, 360):
        browser.open(page, width)
        assert browser.evaluate(outside) == []


def test_it_works_by_keyboard(browser: Chromium, page: Path) -> None:
    browser.open(page)
    focused = "document.activeElement.textContent.trim()"
    browser.press("Tab", 9)
    assert browser.evaluate(focused) == "Skip to the results"
    assert browser.evaluate("document.activeElement.getBoundingClientRect().left") >= 0, (
        "it is seen when it has the focus"
    )
    stops = []
    for _ in range(200):
        browser.press("Tab", 9)
        stops.append(
            browser.evaluate("document.activeElement.tagName + ' ' + (document.activeElement.ariaLabel || '')")
        )
        if stops[-1].startswith("SUMMARY"):
            break
    assert {re.sub(r" .*", "", stop) for stop in stops} >= {"A", "DIV", "SUMMARY"}
    is_open = "document.activeElement.parentElement.open"
    assert browser.evaluate(is_open) is False
    browser.press(" ", 32)
    assert browser.evaluate(is_open) is True


def test_its_pictures_have_names(browser: Chromium, page: Path) -> None:
    browser.open(page)
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    images = [node for node in nodes if node.get("role", {}).get("value") in ("image", "img")]
    assert {node["name"]["value"] for node in images} == {"Best so far", "The population in two dimensions"}
    roles = [node.get("role", {}).get("value") for node in nodes]
    assert roles.count("main") == 1 and roles.count("navigation") == 1 and roles.count("table") >= 6


def test_it_prints_in_light_colours(browser: Chromium, page: Path) -> None:
    browser.open(page, 700, "dark", "print")
    red, green, blue = map(int, re.findall(r"\d+", browser.evaluate("getComputedStyle(document.body).backgroundColor")))
    assert min(red, green, blue) > 240
    assert browser.evaluate("document.querySelector('nav').getClientRects().length") == 0
    assert browser.pdf().startswith(b"%PDF")
