"""What a result is compared with, each finished (batch norm, head) and scored as the search's own candidates are.

random: a freshly initialised network. best_zoo: the zoo's best checkpoint of the architecture by validation loss. average:
the mean of the weights of the checkpoints on the data sets closest to this one, the best of two, three and four of them. ridge: ridge regression from the data set's
embedding to the zoo's weights. noise: the zoo's best with noise of several sizes, the best of as many tries as the search had.
Steps of SGD before a score are the rivals', too, and cost them what they cost the search.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import cycle, islice
from typing import Any

import torch
from sklearn.linear_model import RidgeCV
from torch import Tensor

from popgen.archs import ArchSpec, build
from popgen.data import DataSet
from popgen.fitness import Fitness, Score
from popgen.generator.generator import Generator
from popgen.networks.forward import task_score
from popgen.types import Flat
from popgen.zoo import Checkpoint, Zoo

CLOSEST = (
    2,
    3,
    4,
)  # how many data sets' checkpoints are averaged: both neighbours on a line of tasks, or two on each side
_NOISE = (0.02, 0.05, 0.1, 0.2, 0.4)  # standard deviations, in units of each tensor's own


@dataclass(frozen=True)
class Row:
    """A line of the table: how many evaluations it took, by their cost and rounded up, and accuracies 0 to 1.

    `score` is its network, None where the line is a mean over several. `finetuned` are accuracies of that network after
    epochs of training, on the whole training split.
    """

    name: str
    evaluations: int
    val_accuracy: float
    test_accuracy: float
    val_loss: float
    finetuned: list[Finetuned] = field(default_factory=list)
    score: Score | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, name: str, evaluations: float, score: Score, data: DataSet) -> Row:
        """The row of one network; the only place where its test accuracy is looked at."""
        loss = score.loss if math.isfinite(score.loss) else math.inf
        return cls(name, whole(evaluations), score.accuracy, test_accuracy(score, data), loss, score=score)

    def to_json(self) -> dict[str, Any]:
        """The keys of a row in result.json: all but the network."""
        content = asdict(replace(self, score=None))
        del content["score"]
        return content


@dataclass(frozen=True)
class Finetuned:
    """Accuracies, 0 to 1, after so many epochs of fine-tuning."""

    epochs: int
    val_accuracy: float
    test_accuracy: float


def whole(evaluations: float) -> int:
    """Evaluations by their cost, rounded up."""
    return math.ceil(evaluations - 1e-9)


def test_accuracy(score: Score, data: DataSet) -> float:
    """Accuracy of a finished network on the test split. Only tables call this."""
    return task_score(score.spec, score.flat, data.test)


test_accuracy.__test__ = False  # type: ignore[attr-defined]  # not a test for pytest


@dataclass(frozen=True)
class Rivals:
    """The baselines of one architecture on one data set."""

    generator: Generator
    zoo: Zoo | None
    arch: str
    data: DataSet
    fitness: Fitness
    seed: int
    closest: list[str]  # the zoo's data sets, closest first

    def rows(self, evaluations: int, noise: bool) -> Iterator[Row]:
        """All rows that can be made: without a zoo only `random`. `evaluations`: of the search, by their cost."""
        spec = self.generator.spec(self.arch)
        yield self._best("random", [random_weights(spec, self.seed)])
        if self.zoo is None:
            return
        records = self.zoo.select(arch=self.arch, held_out=False)
        if not records:
            return
        weights = self.zoo.matrix(records)
        yield self._best("best_zoo", weights)
        near = [name for name in self.closest if any(r.data == name for r in records)]
        if near:
            counts = [k for k in CLOSEST if k <= len(near)] or [len(near)]  # a zoo of one data set has one average
            yield self._best("average", [average(records, weights, near[:k]) for k in counts])
        ridge = self.ridge(records, weights)
        if ridge is not None:
            yield self._best("ridge", [ridge])
        if noise:
            start = min(weights, key=lambda flat: self._loss(self.fitness.score(flat)))
            tries = max(1, int(evaluations / self.fitness.cost + 1e-9))
            yield self._best("noise", islice(noisy(spec, start, self.seed), tries))

    def ridge(self, records: list[Checkpoint], weights: Flat) -> Tensor | None:
        """Weights (p,) predicted from the data set's embedding by a ridge regression over the zoo."""
        known = dict(zip(self.generator.provenance.data, self.generator.data_vectors, strict=True))
        rows = [i for i, r in enumerate(records) if r.data in known]
        if len(rows) < 3:
            return None
        scaling = self.generator.scalings[self.arch]
        x = torch.stack([known[records[i].data] for i in rows]).numpy()
        model = RidgeCV(alphas=[10.0**k for k in range(-4, 4)]).fit(x, scaling.normalise(weights[rows]).numpy())
        here = self.generator.mean_embedding(self.arch, self.data).numpy()
        return scaling.denormalise(torch.from_numpy(model.predict(here[None])).float())[0]

    def _best(self, name: str, candidates: Iterable[Tensor]) -> Row:
        """The row of the candidate with the lowest validation loss; only its test accuracy is looked at."""
        count, best = 0, None
        for flat in candidates:
            score, count = self.fitness.score(flat), count + 1
            if best is None or self._loss(score) < self._loss(best):
                best = score
        assert best is not None
        return Row.of(name, count * self.fitness.cost, best, self.data)

    @staticmethod
    def _loss(score: Score) -> float:
        return score.loss if math.isfinite(score.loss) else math.inf


def random_weights(spec: ArchSpec, seed: int) -> Tensor:
    """A freshly initialised network's weights (p,)."""
    return spec.to_flat(build(spec.config, seed=seed).state_dict())


def noisy(spec: ArchSpec, flat: Tensor, seed: int) -> Iterator[Tensor]:
    """The network `flat` (p,) with normal noise of several sizes in turn, without end."""
    generator = torch.Generator().manual_seed(seed)
    deviations = torch.cat(
        [t.std(unbiased=False).expand(t.numel()) for t in flat.split([t.size for t in spec.tensors])]
    )
    is_variance = torch.cat([torch.full((t.size,), t.kind == "norm_var") for t in spec.tensors])
    for size in cycle(_NOISE):
        moved = flat + size * deviations * torch.randn(flat.shape, generator=generator)
        yield torch.where(is_variance, moved.clamp_min(1e-5), moved)


def average(records: list[Checkpoint], weights: Flat, data: list[str]) -> Tensor:
    """The mean of the rows of `weights` whose checkpoints belong to one of these data sets."""
    return weights[[i for i, r in enumerate(records) if r.data in data]].mean(0)
