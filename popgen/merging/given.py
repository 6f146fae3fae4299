"""What a merging method gets, and what it gives back."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.networks.batchnorm import reestimate
from popgen.types import Flat, StateDict

STATISTICS = ("norm_mean", "norm_var")  # kinds of tensors
_MOST_IMAGES = 2000  # more images change statistics of batch norm by little, and every candidate pays for them
Score = Callable[[Tensor], float]  # weights (p,) -> a number of which a higher one is better


@dataclass(frozen=True)
class MergeSettings:
    """Settings of the methods; the defaults are published ones where a method has them."""

    scale: float | None = None  # factor of the summed task vectors; None: by validation, else the published one
    keep: float | None = None  # ties: share of each task vector's values that are kept; None: as `scale`
    drop: float | None = None  # dare: share of each task vector's values that are dropped; None: as `scale`
    shrink: float = 0.9  # regmean: factor of the Gram matrices' entries off the diagonal
    images: int = 64  # fisher: images of each expert at most
    steps: int = 100  # adamerging: steps of Adam; 500 in the paper
    lr: float = 0.001  # adamerging
    batch: int = 16  # adamerging: images of each expert in a step
    reestimate: bool = True  # whether batch norm gets the statistics of the images, where images are given


@dataclass(frozen=True)
class Merged:
    """A merged network, what was chosen for it in words, and what it took."""

    weights: Tensor  # (p,)
    text: str = ""
    evaluations: int = 0  # networks that were scored
    passes: int = 0  # forward passes of an image beside those of scores; a backward pass counts as two


@dataclass(frozen=True)
class Merging:
    """Networks to merge, and all that may be known beside them."""

    spec: ArchSpec
    experts: Flat  # (n, p)
    base: Tensor | None = None  # (p,)
    inputs: tuple[Tensor, ...] = ()  # prepared inputs of each expert, or one tensor for all
    score: Score | None = None
    seed: int = 0
    settings: MergeSettings = field(default_factory=MergeSettings)

    @cached_property
    def vectors(self) -> Flat:
        """Task vectors (n, p): the experts' differences from the base, without running statistics of batch norm."""
        assert self.base is not None, "checked before"
        return torch.where(self.is_statistic, 0.0, self.experts - self.base)

    @cached_property
    def is_statistic(self) -> Tensor:
        """Whether each value (p,) is a running statistic of batch norm."""
        kinds = [torch.full((t.size,), t.kind in STATISTICS) for t in self.spec.tensors]
        return torch.cat(kinds).to(self.experts.device)

    @property
    def reestimates(self) -> bool:
        """Whether merged networks get the statistics of the images."""
        return self.settings.reestimate and bool(self.inputs) and self.spec.has_batch_norm

    @property
    def passes(self) -> int:
        """Forward passes of an image that finishing a network takes."""
        return len(self._of_statistics) if self.reestimates else 0

    @cached_property
    def _of_statistics(self) -> Tensor:
        """The inputs whose statistics batch norm gets: evenly spaced ones of each tensor, as many of each."""
        most = max(1, _MOST_IMAGES // len(self.inputs))
        counts = [min(most, len(one)) for one in self.inputs]
        pairs = zip(self.inputs, counts, strict=True)
        return torch.cat([one[torch.arange(count) * len(one) // count] for one, count in pairs])

    def inputs_of(self, expert: int) -> Tensor:
        """The inputs of an expert by its index."""
        return self.inputs[expert] if len(self.inputs) > 1 else self.inputs[0]

    def differentiable(self, flat: Tensor) -> StateDict:
        """The state dict of weights (p,), in which running statistics are copies: torch has no gradient for them."""
        state = self.spec.to_state(flat)
        statistics = [t.name for t in self.spec.tensors if t.kind in STATISTICS]
        return {**state, **{name: state[name].detach().clone() for name in statistics}}

    def finished(self, flat: Tensor) -> Tensor:
        """The weights (p,) with the batch-norm statistics of the images, or else the average of the experts' statistics."""
        averaged = torch.where(self.is_statistic, self.experts.mean(0), flat)
        return reestimate(self.spec, averaged, self._of_statistics) if self.reestimates else averaged

    def scored(self, flat: Tensor) -> float:
        """The score of weights (p,); -infinity where it is not a number."""
        assert self.score is not None, "checked before"
        score = self.score(flat)
        return -math.inf if math.isnan(score) else score

    def best(self, candidates: Sequence[tuple[str, Callable[[], Tensor]]]) -> Merged:
        """The candidate with the highest score after it is finished, the first of equals; a single one is not scored.

        A score that is not a number is the lowest.

        Args:
            candidates: what each is in words, and what makes its weights (p,).
        """
        if len(candidates) == 1 or self.score is None:
            text, make = candidates[0]
            return Merged(self.finished(make()), text, passes=self.passes)
        best: tuple[float, str, Tensor] | None = None
        for text, make in candidates:
            flat = self.finished(make())
            score = self.scored(flat)
            if best is None or score > best[0]:
                best = score, text, flat
        assert best is not None, "there are candidates"
        count = len(candidates)
        return Merged(best[2], f"{best[1]}, the best of {count} by validation", count, count * self.passes)
