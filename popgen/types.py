"""Aliases and axis letters used in signatures, defined once.

Axes: `n` images or networks, `c h w` image channels, height, width, `p` parameters of one network, `t` tokens of one
network, `width` numbers in a token, `k d` the latent's tokens and their width, `cond` a condition's features.
"""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

StateDict = dict[str, Tensor]
Images = Float[Tensor, "n c h w"]
Labels = Int[Tensor, " n"]
Flat = Float[Tensor, "n p"]
Tokens = Float[Tensor, "n t width"]
Latents = Float[Tensor, "n k d"]
