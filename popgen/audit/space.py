"""Where a network lies in weight space relative to the training checkpoints, as it is and modulo permutation of its units.

Weights are divided by each tensor's root mean square over the checkpoints, so that every tensor counts alike; running statistics of batch
norm follow from the other weights and the data, and are left out. Three numbers describe a network g:

- nearest: its distance to the nearest checkpoint, d(g) = min over t of ||g - t||;
- span: its distance to the affine span of all checkpoints, which averages, PCA and linear regressions never leave;
- anchor: with the nearest checkpoint t and another one u of another lineage, (||g - u||^2 - ||g - t||^2) / ||u - t||^2, at its least over u.
  It is 1 for t itself and, in expectation, for t with noise of any strength; 0 where g is as far from u as from t, as in an average.
  Networks that stand beside the checkpoints, which nothing was trained on, are among the u, too: with them even checkpoints of one
  lineage have others.

Modulo permutation means that each is the best of several orders of the network's units: its own, and those that match it to checkpoints
that it may come from (popgen/weights/align.py). Checkpoints of other starts are first brought into the order of one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.errors import PopgenError
from popgen.types import Flat
from popgen.weights.align import align

_EXACT = 1e-10  # eigenvalues of the Gram matrix below this share of the largest are taken for rounding


@dataclass(frozen=True)
class Places:
    """Where n networks lie; all tensors have the shape (n,)."""

    nearest: Tensor  # scaled distance to the nearest checkpoint, modulo permutation
    span: Tensor  # scaled distance to the affine span of the checkpoints, modulo permutation
    anchor: Tensor  # 1 at a checkpoint or around it, 0 half-way between two
    plain: Tensor  # scaled distance to the nearest checkpoint, units in their own order
    l2: Tensor  # the same with the weights as they are, as the paper plots it


@dataclass(frozen=True)
class Beside:
    """Independent networks (r, p), units in the order of the checkpoints, and their lineages."""

    weights: Flat
    lineages: Sequence[str]


class WeightSpace:
    """The training checkpoints of one architecture as points in weight space.

    Args:
        weights: (m, p), the checkpoints as they are.
        aligned: (m, p), with their units in the order of one of them; None: their units correspond, or cannot be aligned.
        lineages: of each checkpoint.
        permutable: whether units are permuted at all.
        beside: networks that only the anchor is measured from.
    """

    def __init__(
        self,
        spec: ArchSpec,
        weights: Flat,
        lineages: Sequence[str],
        aligned: Flat | None = None,
        permutable: bool = True,
        beside: Beside | None = None,
    ) -> None:
        self.spec, self.lineages, self.permutable = spec, list(lineages), permutable
        self.frame = weights if aligned is None else aligned
        self._weights, self._learned = weights, _learned(spec)
        factor = _factor(spec, weights)
        self._own_order = _Points(weights, lineages, factor, beside)
        self._in_frame = self._own_order if aligned is None else _Points(aligned, lineages, factor, beside)

    def places(self, weights: Flat, likely: Tensor, lineages: Sequence[str | None] | None = None) -> Places:
        """Locate networks (n, p).

        Args:
            likely: (n, k), indices of checkpoints that each network may come from; its units are matched to theirs and to
                those of the nearest one. With k = 0 units stay in their order.
            lineages: of each network, whose checkpoints it is not compared with; None: outside of all lineages.
        """
        rows = [
            self._place(*one) for one in zip(weights, likely.tolist(), lineages or [None] * len(weights), strict=True)
        ]
        return Places(*torch.tensor(rows).reshape(len(rows), 5).T)

    def _place(self, flat: Tensor, likely: list[int], lineage: str | None) -> tuple[float, ...]:
        plain = self._own_order.look(flat, lineage)
        looks = [plain, self._in_frame.look(flat, lineage)] if self._in_frame is not self._own_order else [plain]
        if self.permutable and likely:
            for i in dict.fromkeys([*likely, self._own_order.nearest(flat, lineage)]):
                matched = self._matched(flat, self.frame[i])
                if not torch.equal(matched, flat):
                    looks.append(self._in_frame.look(matched, lineage))
        best = min(looks, key=lambda look: (look.span, look.nearest))
        nearest = min(look.nearest for look in looks)
        return nearest, best.span, best.anchor, plain.nearest, self._l2(flat, lineage)

    def _matched(self, flat: Tensor, checkpoint: Tensor) -> Tensor:
        """The network with its units in the order of a checkpoint's; as it is, where its outputs overflow."""
        try:
            return align(self.spec, flat, checkpoint).weights
        except PopgenError:  # `align` proves by the outputs that the function is the same
            return flat

    def _l2(self, flat: Tensor, lineage: str | None) -> float:
        """Distance to the nearest checkpoint of another lineage, without scaling."""
        others = [t for t, of in zip(self._weights, self.lineages, strict=True) if lineage is None or of != lineage]
        return min(float((flat - t)[self._learned].norm()) for t in others)

    def spread(self, weights: Flat) -> float:
        """Mean scaled distance between two of the networks (n, p); 0 for fewer than two."""
        return float(torch.pdist(self._own_order.scaled(weights)).mean()) if len(weights) > 1 else 0.0


@dataclass(frozen=True)
class _Look:
    nearest: float
    span: float
    anchor: float


class _Points:
    """Checkpoints, then networks beside them, as scaled points around their mean, with their inner products."""

    def __init__(self, weights: Flat, lineages: Sequence[str], factor: Tensor, beside: Beside | None = None) -> None:
        self._checkpoints = len(weights)
        if beside is not None:
            weights, lineages = torch.cat([weights, beside.weights]), [*lineages, *beside.lineages]
        self._factor, self._lineages = factor.double(), list(lineages)
        names = list(dict.fromkeys(lineages))
        self._lineage_of = torch.tensor([names.index(lineage) for lineage in lineages])
        scaled = weights.double() * self._factor
        self._mean = scaled.mean(0)
        self._x = scaled - self._mean
        self._gram = self._x @ self._x.T
        self._solvers: dict[str | None, tuple[Tensor, Tensor]] = {}

    def scaled(self, weights: Flat) -> Tensor:
        return weights.double() * self._factor - self._mean

    def nearest(self, flat: Tensor, lineage: str | None) -> int:
        """Index of the nearest checkpoint of another lineage."""
        kept = self._solver(lineage)[0]
        return int(kept[self._squares(self.scaled(flat))[0][kept].argmin()])

    def look(self, flat: Tensor, lineage: str | None) -> _Look:
        x = self.scaled(flat)
        squares, products = self._squares(x)
        kept, inverse = self._solver(lineage)
        first = kept[squares[kept].argmin()]
        return _Look(
            float(squares[first].sqrt()),
            self._span(x, products, kept, inverse),
            self._anchor(squares, lineage, first),
        )

    def _squares(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Squared distances (m,) to the checkpoints, and inner products (m,) with them."""
        products = self._x @ x
        return (x @ x - 2 * products + self._gram.diagonal()).clamp_min(0), products

    def _span(self, x: Tensor, products: Tensor, kept: Tensor, inverse: Tensor) -> float:
        """Distance to the affine span of the checkpoints in `kept`, by their differences from the first of them."""
        origin, others = kept[0], kept[1:]
        to_origin = x @ x - 2 * products[origin] + self._gram[origin, origin]
        along = products[others] - products[origin] - self._gram[others, origin] + self._gram[origin, origin]
        return float((to_origin - along @ (inverse @ along)).clamp_min(0).sqrt())

    def _solver(self, lineage: str | None) -> tuple[Tensor, Tensor]:
        """Indices of the checkpoints of other lineages, and the pseudo-inverse of their differences' Gram matrix."""
        if lineage not in self._solvers:
            kept = self._others(lineage)
            kept = kept[kept < self._checkpoints]
            origin, others = kept[0], kept[1:]
            towards = self._gram[others, origin]
            gram = self._gram[others][:, others] - towards[:, None] - towards[None] + self._gram[origin, origin]
            inverse = torch.linalg.pinv(gram, rtol=_EXACT, hermitian=True) if len(others) else gram
            self._solvers[lineage] = kept, inverse
        return self._solvers[lineage]

    def _others(self, lineage: str | None) -> Tensor:
        """Indices of all points of other lineages."""
        return torch.tensor([i for i, other in enumerate(self._lineages) if lineage is None or other != lineage])

    def _anchor(self, squares: Tensor, lineage: str | None, first: Tensor) -> float:
        kept = self._others(lineage)
        between = self._gram.diagonal()[kept] + self._gram[first, first] - 2 * self._gram[kept, first]
        others = (self._lineage_of[kept] != self._lineage_of[first]) & (between > _EXACT * self._gram.diagonal().max())
        values = (squares[kept] - squares[first])[others] / between[others]
        return float(values.min()) if len(values) else 1.0


def _learned(spec: ArchSpec) -> Tensor:
    """Mask (p,) of all weights but running statistics of batch norm."""
    return torch.cat([torch.full((t.size,), t.kind not in ("norm_mean", "norm_var")) for t in spec.tensors])


def _factor(spec: ArchSpec, weights: Flat) -> Tensor:
    """One over each tensor's root mean square over the checkpoints (p,); 0 for running statistics and tensors of zeros."""
    parts = []
    for tensor, values in zip(spec.tensors, weights.split([t.size for t in spec.tensors], dim=1), strict=True):
        size = values.square().mean().sqrt()
        counts = tensor.kind not in ("norm_mean", "norm_var") and float(size) > 0
        parts.append((1 / size if counts else torch.zeros(())).expand(tensor.size))
    return torch.cat(parts)
