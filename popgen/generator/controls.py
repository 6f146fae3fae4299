"""Controls of the condition: latents are sampled under a wrong condition or none, to show that the right one matters.

`shuffled` takes the embeddings of randomly drawn training data sets, `empty` leaves the data set out.
"""

from __future__ import annotations

from typing import Literal

Control = Literal["shuffled", "empty"]
CONTROLS: tuple[Control, ...] = ("shuffled", "empty")
