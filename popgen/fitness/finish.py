"""Functions that finish a candidate before it is scored, each from weights to weights; a run chooses them before it starts.

Batch norm comes first, then the head, then steps of SGD on the whole network. A refitted head also gives its leave-one-out loss, because
a head that is fitted to few examples scores too well on them; steps of SGD after it make that loss meaningless.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.archs.adapters.config import phrase_features
from popgen.archs.adapters.network import TEMPERATURE
from popgen.fitness.batch_norm import BatchNorm, treated
from popgen.fitness.heads import fit_phrase_head, fit_ridge_head
from popgen.fitness.sgd import SgdSteps, take_steps

Examples = tuple[Tensor, Tensor]  # prepared inputs and targets


@dataclass(frozen=True)
class Unfinished:
    """Weights (p,) on the way to being finished, and the leave-one-out loss of a head that is as it was refitted."""

    flat: Tensor
    loo_loss: float | None = None
    left_out: Tensor | None = None  # leave-one-out outputs (n, classes) of the training examples under that head


Finish = Callable[[Unfinished], Unfinished]


def batch_norm_of(spec: ArchSpec, inputs: Tensor, treatment: BatchNorm) -> Finish:
    """Measure the running statistics of batch norm anew on training inputs, wholly or by a share."""
    return lambda weights: Unfinished(treated(spec, weights.flat, inputs, treatment), weights.loo_loss)


def remapped_head(spec: ArchSpec, finished: ArchSpec, rows: tuple[int, ...]) -> Finish:
    """Keep the head's rows of the data set's classes, in their order; `finished` is the network with as many outputs."""

    def finish(weights: Unfinished) -> Unfinished:
        state = spec.to_state(weights.flat)
        bias = state.get(f"{spec.head}.bias", torch.zeros(spec.config.classes))
        chosen = list(rows)
        head = state[f"{spec.head}.weight"][chosen], bias[chosen]
        return Unfinished(_with_head(spec, finished, weights.flat, *head))

    return finish


def refitted_head(spec: ArchSpec, finished: ArchSpec, targets: Tensor, features: Callable[[Tensor], Tensor]) -> Finish:
    """Fit the head in closed form to the training targets.

    Args:
        features: what enters the head (n, f) on the training inputs, for weights (p,).
    """
    intercept = any(tensor.name == f"{finished.head}.bias" for tensor in finished.tensors)
    phrases = phrase_features(finished.config)

    def finish(weights: Unfinished) -> Unfinished:
        x = features(weights.flat)
        head = (
            fit_ridge_head(x, targets, finished.config.classes, intercept)
            if phrases is None
            else fit_phrase_head(x, targets, phrases)
        )
        flat = _with_head(spec, finished, weights.flat, head.weight, head.bias)
        return Unfinished(flat, head.loss + 1 - head.accuracy, head.left_out)

    return finish


def steps_of_sgd(finished: ArchSpec, train: Examples, sgd: SgdSteps) -> Finish:
    """Train the whole network for some steps."""
    return lambda weights: Unfinished(take_steps(finished, weights.flat, *train, sgd))


def with_phrase_head(spec: ArchSpec, flat: Tensor) -> tuple[ArchSpec, Tensor]:
    """A network whose head is made of phrases, with this head among its tensors, so that its file says all; others as they are."""
    finished, phrases = spec.with_own_head(), phrase_features(spec.config)
    if finished is spec or phrases is None:
        return spec, flat
    return finished, _with_head(spec, finished, flat, TEMPERATURE * phrases, torch.zeros(len(phrases)))


def _with_head(spec: ArchSpec, finished: ArchSpec, flat: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    state = {**spec.to_state(flat), f"{spec.head}.weight": weight, f"{spec.head}.bias": bias}
    return finished.to_flat(state)  # to_flat leaves the bias out where the head has none
