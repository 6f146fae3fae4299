"""Finishes a network that is given as a vector of weights, and measures its loss and score on the validation split.

A Fitness holds training and validation examples only; test examples never enter it. It is picklable, so that workers hold one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.fitness.batch_norm import CHOICES, BatchNorm, mixed, most_informative
from popgen.fitness.finish import (
    Examples,
    Finish,
    Unfinished,
    batch_norm_of,
    refitted_head,
    remapped_head,
    steps_of_sgd,
)
from popgen.fitness.loss import image_losses, information_loss, search_loss
from popgen.fitness.sgd import SgdSteps
from popgen.networks.batchnorm import reestimate
from popgen.networks.passes import Passes
from popgen.tasks import Task, get_task
from popgen.types import Flat, Labels, StateDict
from popgen.weights.in_place import in_place
from popgen.weights.mask import Mask


@dataclass(frozen=True)
class Scored:
    """A finished network (weights of `spec`) with its loss, lower is better, and its score in the unit of its task.

    `outputs` (n, ...) are those of the validation examples that were looked at, in the order of `targets`.
    """

    spec: ArchSpec
    flat: Tensor
    loss: float
    score: float
    outputs: Tensor
    targets: Tensor
    groups: Labels | None = None  # the group of each of these examples, where the data set has groups
    left_out: bool = False  # whether the head of each of these outputs was fitted to the other examples

    @property
    def finite_loss(self) -> float:
        """The loss, infinity where it is not a number: for comparisons."""
        return self.loss if math.isfinite(self.loss) else math.inf

    def image_losses(self) -> Tensor:
        """The share (n,) of each example in the loss of a classifier."""
        return image_losses(self.outputs, self.targets, errors=not self.left_out)

    def state(self) -> StateDict:
        """A plain state dict."""
        return {name: tensor.clone() for name, tensor in self.spec.to_state(self.flat).items()}


@dataclass(frozen=True)
class Fitness:
    """Finishes and scores candidates of one architecture on one data set."""

    spec: ArchSpec  # architecture of the candidates
    finished: ArchSpec  # architecture of the finished networks; it has another head where the number of classes differs
    head: str  # keep, remap or refit
    batch_norm: BatchNorm  # keep, reestimate, or a share between 0 and 1
    head_rows: tuple[int, ...]  # remap: the head's row for each class of the data set
    train: Examples
    val: Examples
    sgd: SgdSteps | None = None  # steps before a candidate is scored
    groups: Labels | None = None  # the group of each validation example
    mask: Mask | None = None  # the tensors that candidates share; layers before the first other tensor then run once
    left_out: bool = False  # the examples are the same in both splits; a refitted head is scored by leaving each out
    label_free: bool = False  # the loss is that of `information_loss`; labels then count in the score alone
    # Networks are run in bfloat16; statistics of batch norm, heads, steps of SGD and losses are computed in float32 or finer.
    bfloat16: bool = False

    def __getstate__(self) -> dict[str, Any]:
        """The fields, without what was computed from them; examples as numpy arrays, which Ray's workers read in place."""
        state = {one.name: getattr(self, one.name) for one in fields(self)}
        return state | {name: tuple(one.numpy(force=True) for one in state[name]) for name in ("train", "val")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        arrays = {name: tuple(in_place(one) for one in state[name]) for name in ("train", "val")}
        self.__dict__.update(state | arrays)

    @property
    def task(self) -> Task:
        """The task that networks are scored at."""
        return get_task(self.spec.config.task)

    @property
    def examples(self) -> int:
        """Number of examples that a loss is averaged over."""
        counts_train = self.head == "refit" and self.sgd is None and not self.left_out
        return len(self.val[1]) + (len(self.train[1]) if counts_train else 0)

    @property
    def cost(self) -> float:
        """The cost of one evaluation, in forward passes over the validation examples: 1, and what steps of SGD cost.

        What re-estimation and a refitted head read is not counted: it is the same for every row of a table.
        """
        steps = 0 if self.sgd is None else self.sgd.passes(len(self.train[1]))
        return 1 + steps / len(self.val[1])

    @property
    def images(self) -> int:
        """Image passes of one evaluation with all that finishing reads; a gradient costs two passes.

        Validation images once, and training images once for each of re-estimation and a refitted head.
        """
        readers = (self.batch_norm != "keep") + (self.head == "refit")
        steps = 0 if self.sgd is None else self.sgd.passes(len(self.train[1]))
        return len(self.val[1]) + readers * len(self.train[1]) + steps

    def as_finished(self) -> Fitness:
        """The Fitness of networks that are finished already: it scores them as they are."""
        return replace(self, spec=self.finished, head="keep", batch_norm="keep", head_rows=(), sgd=None)

    @cached_property
    def racing_order(self) -> Tensor:
        """Indices of the validation examples in an order such that any first part has the classes in their proportions.

        Without labels the order is drawn.
        """
        targets = self.val[1]
        if self.label_free:
            return torch.randperm(len(targets), generator=torch.Generator().manual_seed(0)).to(targets.device)
        if targets.dim() > 1:  # An example has many targets, and so no class.
            return torch.arange(len(targets))
        rank = torch.empty(len(targets), dtype=torch.float64)
        for label in targets.unique():
            index = (targets == label).nonzero()[:, 0]
            rank[index] = (torch.arange(len(index), dtype=torch.float64) + 0.5) / len(index)
        return rank.argsort(stable=True)

    @torch.no_grad()
    def score(self, flat: Tensor) -> Scored:
        """Finish the network with weights `flat` (p,) and score it.

        The loss is that of `search_loss`, or of `information_loss` without labels. With a refitted head it is taken over validation examples and, left out
        one by one, training examples. After steps of SGD validation examples alone count.
        """
        done = self._finish(flat)
        is_left_out = self.left_out and done.left_out is not None
        outputs = done.left_out if is_left_out else self._on_val.outputs(done.flat)
        assert outputs is not None
        return self._scored(done, outputs, torch.arange(len(outputs)))

    def loss_of(self, flat: Tensor) -> float:
        """The loss of `score`, infinity where it is not a number or the network cannot be scored: for comparisons."""
        return min((scored.finite_loss for scored in scores_of(self, [flat])), default=math.inf)

    @torch.no_grad()
    def score_many(self, weights: Flat) -> list[Scored]:
        """`score` of each of the weights (n, p); in one pass where the networks need no finishing of their own."""
        if self.head == "refit" or self.batch_norm != "keep" or self.sgd is not None:
            return [self.score(flat) for flat in weights]
        finished = [self._finish(flat) for flat in weights]
        outputs = self._on_val.outputs_of_many(torch.stack([one.flat for one in finished]))
        index = torch.arange(outputs.shape[1])
        return [self._scored(one, own, index) for one, own in zip(finished, outputs, strict=True)]

    def to(self, device: str) -> Fitness:
        """The same on another device."""
        train, val = ((inputs.to(device), targets.to(device)) for inputs, targets in (self.train, self.val))
        mask = None if self.mask is None else self.mask.to(device)
        groups = None if self.groups is None else self.groups.to(device)
        return replace(self, train=train, val=val, mask=mask, groups=groups)

    @torch.no_grad()
    def look(self, flat: Tensor, shares: Sequence[float], before: Tensor | None = None) -> Scored:
        """Finish and score on the first `shares[-1]` of the validation examples in `racing_order`.

        `shares` grow. The outputs are computed share by share, so that they are the same to the last digit whether
        `before`, the outputs of an earlier look at fewer examples, is there or not.
        """
        done = self._finish(flat)
        order, pieces = self.racing_order, [] if before is None else [before]
        seen = 0 if before is None else len(before)
        for share in shares:
            end = math.ceil(share * len(order))
            if end > seen:
                pieces.append(self._on_racing.outputs(done.flat, seen, end))
                seen = end
        return self._scored(done, torch.cat(pieces), order[:seen])

    def prefer_batch_norm(self, flat: Tensor, options: Sequence[BatchNorm] = CHOICES) -> Fitness:
        """The Fitness with the batch-norm treatment that gives these weights the lowest loss; keep where there is none.

        Without labels keep is given up only for a gain beyond its error (see `most_informative`).
        """
        scored = scores_under(self, flat, options) if self.spec.has_batch_norm else {}
        if self.label_free:
            return replace(
                self, batch_norm=most_informative({name: one.outputs for name, one in scored.items()}).treatment
            )
        losses = {name: scored[name].finite_loss if name in scored else math.inf for name in options}
        return replace(self, batch_norm=min(losses, key=losses.__getitem__) if scored else "keep")

    @property
    def evaluation(self) -> str:
        """The way networks are run, in words (see `popgen.networks.fast`)."""
        return self._on_val.text

    @cached_property
    def finishing(self) -> list[Finish]:
        """The functions that finish a candidate, in their order."""
        chosen: list[Finish] = []
        if self.batch_norm != "keep":
            chosen.append(batch_norm_of(self.spec, self.train[0], self.batch_norm))
        if self.head == "refit":
            chosen.append(refitted_head(self.spec, self.finished, self.train[1], self._on_train.features))
        if self.head == "remap":
            chosen.append(remapped_head(self.spec, self.finished, self.head_rows))
        if self.sgd is not None:
            chosen.append(steps_of_sgd(self.finished, self.train, self.sgd))
        return chosen

    @cached_property
    def _on_train(self) -> Passes:
        return self._passes(self.spec, self.train[0])

    @cached_property
    def _on_val(self) -> Passes:
        return self._passes(self.finished, self.val[0])

    @cached_property
    def _on_racing(self) -> Passes:
        return self._passes(self.finished, self.val[0][self.racing_order])

    def _passes(self, spec: ArchSpec, inputs: Tensor) -> Passes:
        fixed = None if self.mask is None else self.mask.fixed(self.spec)
        return Passes(spec, inputs, fixed, bfloat16=self.bfloat16)

    def _finish(self, flat: Tensor) -> Unfinished:
        weights = Unfinished(flat)
        for finish in self.finishing:
            weights = finish(weights)
        return weights

    def _scored(self, done: Unfinished, outputs: Tensor, index: Tensor) -> Scored:
        """`index` says which validation examples the outputs belong to."""
        targets = self.val[1][index]
        left_out = self.left_out and done.left_out is not None
        loss = information_loss(outputs) if self.label_free else search_loss(self.task, outputs, targets, left_out)
        if done.loo_loss is not None and not self.left_out:
            n_val, n_train = len(targets), len(self.train[1])
            loss = (n_val * loss + n_train * done.loo_loss) / (n_val + n_train)
        score = float(np.float32(self.task.score(outputs, targets)))  # histories keep scores in single precision
        groups = None if self.groups is None else self.groups[index]
        return Scored(self.finished, done.flat, loss, score, outputs, targets, groups, left_out)


def scores_of(fitness: Fitness, weights: Iterable[Tensor]) -> list[Scored]:
    """The scores of those networks (p,) that can be finished and run; a search records the others as failures."""
    found = []
    for flat in weights:
        try:
            found.append(fitness.score(flat))
        except Exception:  # A network of the user's own may raise anything, which the engine would record as a failure.
            continue
    return found


def scores_under(fitness: Fitness, flat: Tensor, options: Sequence[BatchNorm]) -> dict[BatchNorm, Scored]:
    """The scores of a network (p,) under each treatment of batch norm that can be scored.

    The statistics are measured once for all of them; the scores are those of a Fitness with that treatment.
    """
    kept, found = replace(fitness, batch_norm="keep"), {}
    reestimated: Tensor | None = None
    for name in options:
        try:
            if name != "keep" and reestimated is None:
                reestimated = reestimate(fitness.spec, flat, fitness.train[0])
            weights = flat if reestimated is None else mixed(fitness.spec, flat, reestimated, name)
            found[name] = kept.score(weights)
        except Exception:  # as in `scores_of`
            continue
    return found
