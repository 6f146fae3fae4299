"""Type aliases for tensors, and the letters of their axes, which all signatures share.

Axes: `n` images or networks; `c h w` channels, height and width of an image; `p` parameters of one network; `t` tokens
of one network; `width` values in a token; `k d` tokens of the latent and their width; `cond` features of a condition.
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
