"""Candidates without a generator: weights around the experts of a zoo, as mixtures of them or as low-rank steps from the best one.

The zoo's checkpoints of the architecture are ranked by their loss on the run's data, and the best are aligned with the very best. Two
networks mix where the loss at their midpoint, batch norm re-estimated, is hardly above that at the ends; `auto` mixes the experts that
mix with the best, and takes low-rank steps where none does. All of this is evaluations, which count in the budget.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from popgen.baselines.rivals import Row, noisy, random_weights
from popgen.configs.load import parse
from popgen.configs.search import SearchConfig
from popgen.errors import BadInput, BrokenFile, brief
from popgen.files import safe_name, write_text
from popgen.fitness import Fitness, Score
from popgen.jobs.searching.checks import Job, expert_records
from popgen.jobs.searching.folder import RunFolder
from popgen.types import Flat
from popgen.weights.mixing import Around, low_rank, mixture
from popgen.zoo import Zoo
from popgen.zoo.aligned import align_records
from search import Population

# Of the way from the ends' loss to that of guessing. Midpoints of independent ResNet20, aligned by images, are at .40 to .44 on
# imagenet32. That of one lineage of ResNet56 has .91 accuracy on CIFAR-10, its ends .94.
_MIXES = 0.1
_RANK = 4  # low-rank steps of each group of layers: 20 coordinates for a ResNet
_IMAGES = 256  # that units are matched on
_AVERAGES = (2, 3, 4)  # of the best experts, as the table's `average` has it


class Choice(BaseModel):
    """What was decided before the search, kept in the run's folder."""

    model_config = ConfigDict(extra="forbid")

    space: Literal["mix", "low-rank"]
    reason: str
    experts: list[str] = Field(min_length=1)  # ids, the base first
    batch_norm: str
    spent: int  # evaluations
    losses: dict[str, float]  # of every checkpoint alone, by id
    barriers: dict[str, float] = {}  # of the midpoints with the base: 0 as the ends, 1 as guessing


class ExpertSource:
    """Weights around the best checkpoints of an architecture in a zoo."""

    coordinates = "identity"  # coefficients have a scale of their own

    def __init__(self, zoo: Zoo, job: Job, config: SearchConfig, folder: RunFolder, say: Callable[[str], None]) -> None:
        self.zoo, self.job, self.config, self.say = zoo, job, config, say
        self.spec = job.fitness.spec
        self.records = expert_records(zoo, job.arch)
        self._aligned: dict[str, Tensor] = {}  # (p,) by id
        file = folder.path / f"experts-{safe_name(job.arch)}.json"
        self.choice = _read(file) if file.exists() else self._choose()
        if not file.exists():
            write_text(file, self.choice.model_dump_json(indent=1) + "\n")
        self.experts = self._align(self.choice.experts)
        say(f"{job.arch}: space {self.choice.space} around {self.choice.experts[0]}, because {self.choice.reason}")

    @property
    def spent(self) -> int:
        """Evaluations that ranking and measuring took."""
        return self.choice.spent

    @cached_property
    def decoder(self) -> Around:
        if self.choice.space == "mix":
            return mixture(self.spec, self.experts[0], self.experts[1:], self.job.parts)
        return low_rank(self.spec, self.experts[0], _RANK, self.config.seed, self.job.parts)

    def population(self) -> Population:
        """Mixtures: each expert, its midpoint with the base, the average. Low-rank: the expert, and steps drawn around it."""
        ids, decoder = self.choice.experts, self.decoder
        if self.choice.space == "low-rank":
            steps = np.random.default_rng(self.config.seed).normal(size=(self.config.population, decoder.dim))
            steps[0] = 0
            return Population(steps, [f"expert:{ids[0]}", *["step"] * (len(steps) - 1)])
        one = np.eye(len(ids))[:, 1:]  # coefficients of the others, the base's row first
        rows = [*one, *(one[1:] / 2), np.full(len(ids) - 1, 1 / len(ids))]
        origins = [*(f"expert:{i}" for i in ids), *(f"midpoint:{ids[0]}+{i}" for i in ids[1:]), "average"]
        if len(ids) == 2:  # their midpoint is their average
            rows, origins = rows[:-1], origins[:-1]
        return Population(np.stack([decoder.vector(row) for row in rows]), origins)

    def fitness(self, population: Population) -> Fitness:
        """Batch norm as it was better for the base or the experts' mean."""
        return replace(self.job.fitness, batch_norm=self.choice.batch_norm)

    def centre(self, population: Population) -> np.ndarray:
        """The expert, or the mean of the mixtures."""
        return population.vectors[0] if self.choice.space == "low-rank" else population.mean()

    @property
    def classes(self) -> tuple[str, ...]:
        """As the experts have them."""
        return self.records[0].classes

    def rows(self, folder: RunFolder, population: Population, fitness: Fitness, evaluations: int) -> list[Row]:
        """What needs no generator. Batch norm is kept or re-estimated, whichever is better for each candidate of a row."""
        if self.config.baselines == "none":
            return []
        self.say(f"{self.job.arch}: rows that need a generator are left out (ridge, shuffled, empty, generated)")
        weights = self.zoo.matrix(self.records)
        order = sorted(range(len(weights)), key=lambda i: self.choice.losses[self.records[i].id])
        ranked = self._align([self.records[i].id for i in order[: max(_AVERAGES)]])
        averages = [ranked[:k].mean(0) for k in _AVERAGES if k <= len(ranked)]
        rows = [
            self._row("random", [random_weights(self.spec, self.config.seed)]),
            self._row("best_zoo", weights),
            *([self._row("average", averages)] if averages else []),
        ]
        if self.config.baselines == "all":
            count = max(1, int(evaluations / fitness.cost + 1e-9))
            tries = islice(noisy(self.spec, weights[order[0]], self.config.seed), count)
            rows.append(self._row("noise", tries, [fitness]))
        return rows

    def details(self) -> dict[str, Any]:
        """What was chosen, and the measurements behind it."""
        chosen = self.choice
        return {
            "source": f"experts of the zoo {self.zoo.name}",
            "space": chosen.space,
            "space_reason": chosen.reason,
            "groups": list(self.decoder.groups),
            "experts": chosen.experts,
            "expert_losses": [chosen.losses[i] for i in chosen.experts],
            "barriers": chosen.barriers,
            "evaluations_before": chosen.spent,
        }

    def _row(self, name: str, candidates: Iterable[Tensor], treatments: list[Fitness] | None = None) -> Row:
        """The candidate with the lowest validation loss; only its test accuracy is looked at."""
        options = treatments or self._treatments()
        scores = [option.score(flat) for flat in candidates for option in options]
        best = min(scores, key=_loss)
        return Row.of(name, len(scores) * self.job.fitness.cost, best, self.job.data)

    def _treatments(self) -> list[Fitness]:
        """The job's fitness under each treatment of batch norm that the user leaves open."""
        if self.config.batch_norm != "auto" or self.job.parts is not None or not self.spec.has_batch_norm:
            return [self.job.fitness]
        return [replace(self.job.fitness, batch_norm=name) for name in ("keep", "reestimate")]

    def _choose(self) -> Choice:
        keep, *again = self._treatments()
        losses = {
            r.id: _loss(keep.score(flat)) for r, flat in zip(self.records, self.zoo.matrix(self.records), strict=True)
        }
        ranked = sorted(losses, key=lambda i: losses[i])[: max(self.config.experts, 1)]
        wanted, barriers = self.config.space, dict[str, float]()
        if wanted == "mix" and len(ranked) < 2:
            raise BadInput(
                f"--space mix has one expert of {self.job.arch!r} to mix",
                f"the zoo {self.zoo.folder} has {len(self.records)}, and --experts is {self.config.experts}",
                "Use --space low-rank, or a zoo with more of them.",
            )
        if wanted != "low-rank":
            mixed = (again or [keep])[0]
            barriers = {i: self._barrier(ranked[0], i, losses, mixed) for i in ranked[1:]}
        spent = len(losses) + len(barriers)
        if wanted == "mix":
            space, reason, experts = "mix", "it was asked for", ranked
        elif wanted == "low-rank":
            space, reason, experts = "low-rank", "it was asked for", ranked[:1]
        else:
            experts = [ranked[0], *(i for i, barrier in barriers.items() if barrier <= _MIXES)]
            space, reason = _because(experts, barriers)
        treatment = keep
        if again:
            mean = self._align(experts).mean(0)
            tried = [(losses[ranked[0]], keep), *((_loss(f.score(self._align(ranked[:1])[0])), f) for f in again)]
            tried += [(_loss(f.score(mean)), f) for f in (keep, *again) if len(experts) > 1]
            spent += len(tried) - 1
            treatment = min(tried, key=lambda pair: pair[0])[1]
        return Choice(
            space=space,
            reason=reason,
            experts=experts,
            batch_norm=treatment.batch_norm,
            spent=spent,
            losses=losses,
            barriers=barriers,
        )

    def _barrier(self, base: str, other: str, losses: dict[str, float], fitness: Fitness) -> float:
        """How far the midpoint's loss is on the way from the ends' mean loss to that of guessing."""
        ends = (losses[base] + losses[other]) / 2
        classes = len(self.job.data.classes)
        guessing = math.log(classes) + 1 - 1 / classes  # as `classification_loss` has it
        middle = _loss(fitness.score(self._align([base, other]).mean(0)))
        if not math.isfinite(middle) or not ends < guessing:
            return 0.0 if middle <= ends else 1.0
        return (middle - ends) / (guessing - ends)

    def _align(self, ids: list[str]) -> Flat:
        """Weights (n, p) of checkpoints, aligned with the first that was ever asked for: the best."""
        if not self._aligned:
            self._aligned[ids[0]] = self.zoo.matrix([self.zoo.record(ids[0])])[0]
        base, missing = self.zoo.record(next(iter(self._aligned))), [i for i in ids if i not in self._aligned]
        if missing:
            records = [self.zoo.record(i) for i in missing]
            try:
                found = [a.weights for a in align_records(self.zoo, records, base, self.job.fitness.train[0][:_IMAGES])]
            except BadInput as error:
                self.say(f"{self.job.arch}: experts are mixed as they are: {error.what}")
                found = list(self.zoo.matrix(records))
            self._aligned |= dict(zip(missing, found, strict=True))
        return torch.stack([self._aligned[i] for i in ids])


def _because(experts: list[str], barriers: dict[str, float]) -> tuple[Literal["mix", "low-rank"], str]:
    measured = ", ".join(f"{barrier:.2f}" for barrier in barriers.values())
    how = f"midpoints with the best expert are at {measured} of the way to guessing (up to {_MIXES} mixes)"
    if len(experts) > 1:
        return "mix", f"{len(experts)} experts mix: {how}"
    if not barriers:
        return "low-rank", "there is one expert"
    return "low-rank", f"no other expert mixes with the best: {how}"


def _read(file: Path) -> Choice:
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise BrokenFile(f"{file} cannot be read", brief(error), "Start a new run.") from error
    return parse(content, Choice, str(file))


def _loss(score: Score) -> float:
    return score.loss if math.isfinite(score.loss) else math.inf
