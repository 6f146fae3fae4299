"""Transformer blocks of the VAE and the denoiser."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def zero_linear(width: int, out: int) -> nn.Linear:
    """Return a linear layer that is initialised with zeros, so that it adds nothing before it is trained."""
    layer = nn.Linear(width, out)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class Mlp(nn.Sequential):
    """Two linear layers with a GELU between them."""

    def __init__(self, width: int, hidden: int, out: int | None = None) -> None:
        super().__init__(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, out or width))


class CrossBlock(nn.Module):
    """Pre-norm cross-attention from queries (n, q, width) to a context (n, m, width), followed by an MLP."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_q, self.norm_c, self.norm_m = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_q, self.to_kv, self.out = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)
        self.mlp = Mlp(width, 2 * width)
        self.heads = heads

    def forward(self, queries: Tensor, context: Tensor) -> Tensor:
        """Attend from queries (n, q, width), or (1, q, width) for the same in each, to a context (n, c, width); returns (n, q, width)."""
        q = self.to_q(self.norm_q(queries)).expand(len(context), -1, -1)
        k, v = self.to_kv(self.norm_c(context)).chunk(2, dim=-1)
        q, k, v = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (q, k, v))  # (n, heads, ., width / heads)
        y = F.scaled_dot_product_attention(q, k, v)
        queries = queries + self.out(y.transpose(1, 2).flatten(2))
        return queries + self.mlp(self.norm_m(queries))


class SelfBlock(CrossBlock):
    """Pre-norm self-attention, followed by an MLP: a CrossBlock whose context is its queries."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Attend from tokens (n, t, width) to themselves; `context` is not used."""
        return super().forward(x, x)


class AdaBlock(nn.Module):
    """Transformer block that a condition (n, width) modulates: adaLN-Zero of DiT (Peebles & Xie, arXiv 2212.09748)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(width, elementwise_affine=False) for _ in range(2))
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = Mlp(width, 4 * width)
        self.steer = nn.Sequential(nn.SiLU(), zero_linear(width, 6 * width))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Attend among tokens (n, t, width) under a condition (n, c); returns (n, t, width)."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.steer(condition).unsqueeze(1).chunk(6, dim=-1)
        y = self.norm1(x) * (1 + scale1) + shift1
        x = x + gate1 * self.attention(y, y, y, need_weights=False)[0]
        return x + gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2)


def time_features(t: Tensor, width: int) -> Tensor:
    """Return sine and cosine features (n, width) of times (n,) in [0, 1]."""
    rates = torch.exp(torch.linspace(0, math.log(1000), width // 2, device=t.device))
    angles = t[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)
