"""Rows of small tables of texts."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]

PLACES = ("harbour", "library", "garden", "station", "museum", "market", "bridge", "tower", "school", "chapel")


def opinions(count: int = 10, start: int = 0) -> list[Row]:
    """Rows of a text and its label, good and bad in turn; no two texts are the same."""
    return [
        {
            "text": f"The {PLACES[i % 10]} was {('lovely', 'dreadful')[i % 2]} on day {start + i}.",
            "label": ("good", "bad")[i % 2],
        }
        for i in range(count)
    ]
