"""The settings of `popgen layers`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from popgen.configs.load import Strict
from popgen.errors import BadInput


class LayersConfig(Strict):
    """The weights whose matrices are ranked, and how."""

    base: str = Field(
        min_length=1
    )  # a .safetensors file, an index of several, a folder with either, lm:BASE, hf:NAME, or ZOO#ID
    top: str | None = None  # how many of each kind are chosen, such as 25% or 2; None: none
    together: bool = False  # compare all matrices with each other, not only those of one kind
    # The median of fewer singular values says little about the noise.
    min_side: int = Field(8, ge=2)  # matrices with a shorter side are left out
    formula: Literal["calibrated", "spectrum"] = "calibrated"  # see popgen.weights.spectrum


@dataclass(frozen=True)
class Top:
    """How many of a group are chosen: a share of it, or a number."""

    share: float | None
    number: int

    @classmethod
    def parse(cls, text: str) -> Top:
        """Read `25%` or `2`.

        Raises:
            BadInput: it is neither, or not above zero, or above 100%.

        >>> Top.parse("25%").of(6), Top.parse("25%").of(1), Top.parse("4").of(3)
        (2, 0, 3)
        """
        found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)%|(\d{1,9})", text.strip())
        share = float(found[1]) / 100 if found and found[1] else None
        number = int(found[2]) if found and found[2] else 0
        if not found or not (0 < share <= 1 if share is not None else number):
            raise BadInput(
                f"--top {text} is no number of matrices", "a share up to 100%, or a number from 1", "For example 25%."
            )
        return cls(share, number)

    def of(self, count: int) -> int:
        """Return how many of a group of `count` are chosen; a share is rounded to the nearest number, a half up."""
        return min(count, self.number if self.share is None else math.floor(count * self.share + 0.5))
