"""Controls of the condition: sampling with the conditions of other data sets (`shuffled`), or with none (`empty`)."""

from __future__ import annotations

from typing import Literal

Control = Literal["shuffled", "empty"]
CONTROLS: tuple[Control, ...] = ("shuffled", "empty")
