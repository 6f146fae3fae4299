"""Controls of a generator's condition: what it makes under other data sets' conditions, and under none."""

from __future__ import annotations

from typing import Literal

Control = Literal["shuffled", "empty"]
CONTROLS: tuple[Control, ...] = ("shuffled", "empty")
