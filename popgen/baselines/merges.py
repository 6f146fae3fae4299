"""Merges of a zoo's experts by the published methods (popgen.merging), as rivals of a search and as its starts.

A merge gets what the search has: unlabelled images of each expert's own data where they are at hand and else of the target, the network that the
experts were trained from where it is known, and the search's loss on validation examples where labels count. AdaMerging is fitted to the
target's images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from popgen.baselines.rivals import Merge, RivalInputs, rival
from popgen.errors import BadInput, brief
from popgen.fitness import Fitness
from popgen.merging import METHODS, MergeSettings, merge
from popgen.merging.make import check_needs, check_task
from popgen.merging.names import NEEDS_IMAGES
from popgen.merging.vectors import compared
from popgen.types import Flat
from popgen.zoo.record import weights_sha256

MERGES = tuple(f"merge_{name}" for name in METHODS)  # the rivals' names
SETTINGS = MergeSettings()
IMAGES = 128  # unlabelled images of each expert


@dataclass
class Merger:
    """Merges experts; each method runs once."""

    experts: Flat  # (n, p), aligned
    fitness: Fitness  # with the treatment of batch norm that merged networks get
    base: Tensor | None  # (p,), the network that the experts were trained from
    own: Callable[[], Sequence[Tensor]]  # prepared unlabelled images of each expert's own data
    seed: int
    losses: Mapping[str, float]  # losses of networks that were scored before, by the hash of their weights
    say: Callable[[str], None]  # called with a line where a method fails
    made: dict[str, Merge] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)

    def why_not(self, method: str) -> str | None:
        """Why a method cannot merge these experts, in words; None where it can."""
        try:
            check_task(method, self.fitness.spec)
            check_needs(method, len(self.experts), self.base is not None, True, not self.fitness.label_free)
        except BadInput as error:
            return error.what
        return None

    def merge(self, method: str) -> Merge | None:
        """The merge by a method; None where it is not for these networks, or fails."""
        if method not in self.made:
            if method in self.failed or self.why_not(method) is not None:
                return None
            scores = _Scores(self.fitness, dict(self.losses))
            try:
                found = merge(
                    method,
                    self.fitness.spec,
                    self.experts,
                    base=self.base,
                    inputs=self._inputs(method),
                    validate=None if self.fitness.label_free else scores,
                    seed=self.seed,
                    settings=SETTINGS,
                )
            except Exception as error:  # A network of the user's own may raise anything.
                self.failed.add(method)
                self.say(f"{self.fitness.spec.name}: the merge by {method} failed: {brief(error)}")
                return None
            passes = found.passes / (self.fitness.images / self.fitness.cost)
            self.made[method] = Merge(found.weights, found.text, scores.count * self.fitness.cost + passes)
        return self.made[method]

    def _inputs(self, method: str) -> Sequence[Tensor] | None:
        """The images of each expert for a method: its own data's, or for AdaMerging equal parts of the target's."""
        if method not in NEEDS_IMAGES:
            return None
        if method != "adamerging":
            return self.own()
        target = self.fitness.train[0]
        order = torch.randperm(len(target), generator=torch.Generator().manual_seed(self.seed))
        count = min(len(target), IMAGES * len(self.experts))
        return target[order[:count]].chunk(len(self.experts))

    def expected_cost(self, method: str) -> float:
        """About what a merge by a method costs, in evaluations with that of scoring it."""
        n = len(self.experts)
        passes = {
            "regmean": 2 * n * IMAGES,
            "fisher": n * (IMAGES + SETTINGS.images * (1 + 2 * min(self.fitness.spec.config.classes, 16))),
            "adamerging": n * (IMAGES + 3 * SETTINGS.steps * SETTINGS.batch),
        }
        scored = n if method == "greedy_soup" else compared(method, n)
        count = 1 if self.fitness.label_free else 1 + scored
        return count * self.fitness.cost + passes.get(method, 0) / (self.fitness.images / self.fitness.cost)


@dataclass
class _Scores:
    """The search's loss as a score, which counts the networks that it had not seen."""

    fitness: Fitness
    known: dict[str, float]
    count: int = 0

    def __call__(self, flat: Tensor) -> float:
        key = weights_sha256(flat)
        if key not in self.known:
            self.known[key], self.count = self.fitness.loss_of(flat), self.count + 1
        return -self.known[key]


def _candidates(method: str, given: RivalInputs) -> Iterable[Tensor]:
    made = None if given.merge is None else given.merge(method)
    return [] if made is None else [made.weights]


def _cost(method: str, given: RivalInputs, scored: int) -> float:
    made = None if given.merge is None else given.merge(method)
    return scored * given.fitness.cost + (0.0 if made is None else made.cost)


for _name in METHODS:
    rival(f"merge_{_name}", cost=partial(_cost, _name))(partial(_candidates, _name))
