"""Merging by task vectors, the differences of experts from the network that they were trained from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from popgen.merging.given import Merged, Merging
from popgen.types import Flat

# Scales that are compared by validation. Without it: .4 for sums of task vectors and 1 for TIES (arXiv 2306.01708, section 4).
SUM_SCALES = tuple(i / 10 for i in range(1, 11))
SUM_PUBLISHED = 0.4
TIES_SCALES = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.5, 2.0, 3.0)
TIES_PUBLISHED = 1.0
# Shares that are compared by validation. The first is published, the others are for experts that are far from the base.
KEEPS = (0.2, 0.5, 1.0)
DROPS = (0.9, 0.5, 0.1)


def compared(method: str, experts: int) -> int:
    """How many networks a method of task vectors scores with the default settings; 0 for other methods.

    >>> compared("task_arithmetic", 8), compared("ties", 8), compared("regmean", 8)
    (11, 30, 0)
    """
    sums = len(_sum_scales(experts))
    counts = {"task_arithmetic": sums, "ties": len(KEEPS) * len(TIES_SCALES), "dare": len(DROPS) * sums}
    return counts.get(method, 0)


def task_arithmetic(given: Merging) -> Merged:
    """base + scale * the sum of the task vectors (Ilharco et al., arXiv 2212.04089).

    One of the scales is a share for each expert, at which the result is the uniform soup.
    """
    return _scaled(given, {"": given.vectors.sum(0)}, _sum_scales(len(given.experts)), SUM_PUBLISHED)


def _sum_scales(experts: int) -> list[float]:
    return sorted({*SUM_SCALES, 1 / experts})


def _scaled(given: Merging, steps: Mapping[str, Tensor], scales: Sequence[float], published: float) -> Merged:
    """The best of base + scale * step; without scores the first step at the published scale, or at the one in the settings.

    Args:
        steps: merged task vectors (p,) by what they are in words.
    """
    base, scale = given.base, given.settings.scale
    assert base is not None, "checked before"
    scales = (scale,) if scale is not None else scales if given.score is not None else (published,)
    made = [
        (f"{text}scale {by:.3g}", partial(torch.add, base, step, alpha=by))
        for text, step in steps.items()
        for by in scales
    ]
    return given.best(made if given.score is not None else made[:1])


def ties(given: Merging) -> Merged:
    """Trim, elect signs, and average what agrees with them (Yadav et al., arXiv 2306.01708)."""
    keeps = KEEPS if given.settings.keep is None else (given.settings.keep,)
    steps = {f"keep {keep:g}, ": ties_vector(given.vectors, keep) for keep in keeps}
    return _scaled(given, steps, TIES_SCALES, TIES_PUBLISHED)


def ties_vector(vectors: Flat, keep: float) -> Tensor:
    """The merged task vector (p,) of task vectors (n, p), before it is scaled.

    Of each task vector the share `keep` of its values with the largest magnitudes remains. The sign of a value is that of the sum
    over the task vectors, and the value is the mean of those that have this sign.

    >>> ties_vector(torch.tensor([[3.0, -2.0, 0.1], [1.0, 4.0, 0.2]]), keep=2 / 3)
    tensor([2., 4., 0.])
    """
    count = max(1, round(keep * vectors.shape[1]))
    smallest = vectors.abs().topk(count, dim=1).values[:, -1:]
    trimmed = torch.where(vectors.abs() >= smallest, vectors, 0.0)
    agrees = (trimmed.sign() == trimmed.sum(0).sign()) & (trimmed != 0)
    return (trimmed * agrees).sum(0) / agrees.sum(0).clamp_min(1)


def dare(given: Merging) -> Merged:
    """Task arithmetic of task vectors with values dropped at random and the others rescaled (Yu et al., arXiv 2311.03099)."""
    drops = DROPS if given.settings.drop is None else (given.settings.drop,)
    steps = {f"drop {drop:g}, ": drop_and_rescale(given.vectors, drop, given.seed).sum(0) for drop in drops}
    return _scaled(given, steps, _sum_scales(len(given.experts)), SUM_PUBLISHED)


def drop_and_rescale(vectors: Flat, drop: float, seed: int) -> Flat:
    """Task vectors (n, p) with each value zero with probability `drop`, and else divided by 1 - drop, which keeps the expectation."""
    generator = torch.Generator().manual_seed(seed)
    kept = torch.rand(vectors.shape, generator=generator).to(vectors.device) >= drop
    return torch.where(kept, vectors / (1 - drop), 0.0)
