"""Candidates without a generator: weights around the experts of a zoo, as mixtures of them or as low-rank steps from the best one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, cached_property, partial

import numpy as np
import torch
from torch import Tensor

from popgen.baselines.layers import AROUND_BASE, DRAWN_AND_TRAINED
from popgen.baselines.merges import Merger
from popgen.baselines.rivals import WITH_EXPERTS, RivalInputs, rival_rows
from popgen.baselines.row import Row
from popgen.configs.search import SearchConfig
from popgen.errors import BadInput
from popgen.files import safe_name, write_text
from popgen.fitness import Fitness
from popgen.fitness.batch_norm import CHOICES, BatchNorm
from popgen.jobs.searching.checks import ArchSearch
from popgen.jobs.searching.decide import SpaceDecision, decide_space, rank, read_decision
from popgen.jobs.searching.details import SourceDetails
from popgen.jobs.searching.folder import RunFolder
from popgen.jobs.searching.origin import expert_records
from popgen.jobs.searching.sources.merges import affordable, base_of, own_images, read_merges, with_merges, write_merges
from popgen.jobs.searching.tuning.training import finetune_recipe
from popgen.merging import METHODS
from popgen.types import Flat
from popgen.weights.mixing import WeightSubspace, around, low_rank, mixture, principal
from popgen.zoo import Zoo
from popgen.zoo.aligned import align_records
from popgen.zoo.record import weights_sha256
from search import Population

_RANK = 4  # low-rank steps of each group of layers: 20 coordinates for a ResNet
_STEPS = 2  # low-rank steps of each group of layers beside the coefficients of experts, around a merge
_DRAWN = 4  # low-rank steps in the population around a merge
_EXAMPLES = 256  # training examples that units are matched on


class ExpertSource:
    """Weights around the best checkpoints of an architecture in a zoo. It has the interface of `Source`."""

    coordinates = "identity"  # coefficients have a scale of their own

    def __init__(
        self, zoo: Zoo, one: ArchSearch, config: SearchConfig, folder: RunFolder, say: Callable[[str], None]
    ) -> None:
        self.zoo, self.one, self.config, self.say = zoo, one, config, say
        self.spec = one.fitness.spec
        self.records = expert_records(zoo, one.arch)
        self._aligned: dict[str, Tensor] = {}  # (p,) by id
        self.decision = self._decided(folder)
        self.experts = self._align(self.decision.experts)
        decided = self.decision
        say(f"{one.arch}: space {decided.space} around {decided.start or decided.experts[0]}, because {decided.reason}")

    def _decided(self, folder: RunFolder) -> SpaceDecision:
        """The decision of an earlier session of the run, or a new one, which is kept in the run's folder with the merges."""
        name, one, config = safe_name(self.one.arch), self.one, self.config
        file, merges = folder.path / f"experts-{name}.json", folder.path / f"merges-{name}.safetensors"
        if file.exists():
            decision = read_decision(file)
            self.merger = self._make_merger(decision)
            self.merger.made |= read_merges(merges, decision)
            return decision
        batch_norms = self._batch_norms()
        decision = decide_space(self.zoo, self.records, one, config, batch_norms, self._align)
        self.merger = self._make_merger(decision)
        if decision.space == "mix" and config.merges != []:
            decision = with_merges(decision, self.merger, config.merges, batch_norms, self.say)
            write_merges(merges, self.merger)
        write_text(file, decision.model_dump_json(indent=1) + "\n")
        return decision

    def _make_merger(self, decision: SpaceDecision) -> Merger:
        """Merges of the experts of a mixture, or else of the best checkpoints."""
        ids, one = decision.experts, self.one
        if len(ids) == 1:
            ids = rank(decision.losses)[: max(self.config.few_experts, 1)]
        records, experts = [self.zoo.record(i) for i in ids], self._align(ids)
        base = base_of(self.zoo, records) if one.mask is None else one.mask.base
        if one.mask is not None:
            experts = one.mask.compose(experts)
        fitness = replace(one.fitness, batch_norm=self._batch_norms()[:2][-1])
        known = decision.losses if fitness.batch_norm == one.fitness.batch_norm and one.mask is None else {}
        losses = {weights_sha256(flat): known.get(i) for i, flat in zip(ids, experts, strict=True)}
        own = partial(own_images, records, fitness.train[0], self.config.data_dir, self.config.seed)
        return Merger(
            experts,
            fitness,
            base,
            cache(own),
            self.config.seed,
            {key: loss for key, loss in losses.items() if loss is not None},
            self.say,
        )

    @property
    def spent(self) -> int:
        """Evaluations that ranking and measuring took."""
        return self.decision.spent

    @cached_property
    def decoder(self) -> WeightSubspace:
        """Decoder of coefficients into weights."""
        if self.decision.space == "principal":
            return self._principal[0]
        if self.decision.start is not None:
            start = self.merger.made[self.decision.start].weights
            return around(self.spec, start, self.experts, _STEPS, self.config.seed, self.one.mask)
        if self.decision.space == "mix":
            return mixture(self.spec, self.experts[0], self.experts[1:], self.one.mask)
        return low_rank(self.spec, self.experts[0], _RANK, self.config.seed, self.one.mask)

    def population(self) -> Population:
        """Mixtures: each expert, its midpoint with the base, the average. Low-rank: the expert, and steps drawn around it."""
        ids, decoder = self.decision.experts, self.decoder
        if self.decision.space == "low-rank":
            steps = np.random.default_rng(self.config.seed).normal(size=(self.config.population, decoder.dim))
            steps[0] = 0
            return Population(steps, [f"expert:{ids[0]}", *["step"] * (len(steps) - 1)])
        if self.decision.space == "principal":
            vectors = self._principal[1]
            return Population(np.vstack([vectors, 0 * vectors[:1]]), [*(f"expert:{i}" for i in ids), "average"])
        if self.decision.start is not None:
            return self._around_start(self.decision.start)
        one = np.eye(len(ids))[:, 1:]  # coefficients of the others, the base's row first
        rows = [*one, *(one[1:] / 2), np.full(len(ids) - 1, 1 / len(ids))]
        origins = [*(f"expert:{i}" for i in ids), *(f"midpoint:{ids[0]}+{i}" for i in ids[1:]), "average"]
        if len(ids) == 2:  # their midpoint is their average
            rows, origins = rows[:-1], origins[:-1]
        return Population(np.stack([decoder.vector(row) for row in rows]), origins)

    def _around_start(self, start: str) -> Population:
        """The merge, a step towards each expert, and low-rank steps drawn around it."""
        ids, decoder = self.decision.experts, self.decoder
        towards = [decoder.vector(row) for row in np.eye(len(ids) + _STEPS)[: len(ids)]]
        steps = np.random.default_rng(self.config.seed).normal(size=(_DRAWN, decoder.dim))
        steps[:, : len(ids) * len(decoder.groups)] = 0
        origins = [f"merge:{start}", *(f"towards:{i}" for i in ids), *["step"] * _DRAWN]
        return Population(np.stack([np.zeros(decoder.dim), *towards, *steps]), origins)

    def fitness(self, population: Population) -> Fitness:
        """Batch norm is treated as was better for the base or the experts' mean, or as was best for the merge."""
        return replace(self.one.fitness, batch_norm=self.decision.batch_norm)

    def centre(self, population: Population) -> np.ndarray:
        """The expert, the merge, or the mean of the mixtures."""
        is_first = self.decision.space == "low-rank" or self.decision.start is not None
        return population.vectors[0] if is_first else population.mean()

    def start(self, population: Population) -> tuple[np.ndarray, str]:
        """The best expert, or the merge that a mixture starts from."""
        return population.vectors[0].copy(), population.origins[0]

    @property
    def classes(self) -> tuple[str, ...]:
        """The experts' class names."""
        return self.records[0].classes

    def rows(self, folder: RunFolder, population: Population, fitness: Fitness, evaluations: int) -> list[Row]:
        """The rivals that need no generator. Each candidate has the treatment of batch norm that is best for it."""
        if self.config.baselines == "none":
            return []
        self.say(f"{self.one.arch}: rows that need a generator are left out (ridge, shuffled, empty, generated)")
        given = self.rival_inputs(self.one.fitness, evaluations)
        of_base = AROUND_BASE if self.one.mask is not None else ()
        rows = list(rival_rows((*WITH_EXPERTS, *self._merge_rows(), *of_base), given, self._batch_norms(), self.say))
        if self.config.baselines == "all":  # noise has as many tries as the search, and its treatment of batch norm
            drawn = ("noise", *(DRAWN_AND_TRAINED if of_base else ()))
            rows += rival_rows(drawn, replace(given, fitness=fitness), say=self.say)
        return rows

    def _merge_rows(self) -> list[str]:
        """The rivals that are merges: those that were asked for; else the cheapest, or with --baselines all every one."""
        asked = self.config.merges
        if asked is None and self.config.baselines == "all":
            asked = list(METHODS)
        elif asked is None:
            asked, dear = affordable(self.merger)
            if dear:
                self.say(
                    f"{self.one.arch}: rows of merges that cost more are left out ({', '.join(dear)}); --baselines all has them"
                )
        return [f"merge_{method}" for method in asked]

    def rival_inputs(self, fitness: Fitness, evaluations: float) -> RivalInputs:
        """The zoo's networks of the architecture, as they were ranked."""
        index = {record.id: i for i, record in enumerate(self.records)}
        return RivalInputs(
            spec=self.spec,
            data=self.one.data,
            fitness=fitness,
            seed=self.config.seed,
            evaluations=evaluations,
            zoo=self.zoo,
            records=self.records,
            order=[index[i] for i in rank(self.decision.losses)],
            align=self._align,
            merge=self.merger.merge,
            base=None if self.one.mask is None else self.one.mask.base,
            recipe=finetune_recipe(self.config, self.one.fitness.spec, self.one.trained_parts(self.config)),
        )

    def details(self) -> SourceDetails:
        """The decision, and the measurements behind it."""
        decided = self.decision
        return SourceDetails(
            f"experts of the zoo {self.zoo.name}",
            space=decided.space,
            space_reason=decided.reason,
            layer_groups=list(self.decoder.groups),
            experts=decided.experts,
            expert_losses=[loss for i in decided.experts if (loss := decided.losses[i]) is not None],
            barriers=decided.barriers,
            start=decided.start,
            merges={method: one.model_dump() for method, one in decided.merges.items()} or None,
            evaluations_before=decided.spent,
        )

    @cached_property
    def _principal(self) -> tuple[WeightSubspace, np.ndarray]:
        return principal(self.spec, self.experts, self.one.mask)

    def _batch_norms(self) -> Sequence[BatchNorm]:
        """The treatments of batch norm that the user leaves open."""
        if self.config.batch_norm != "auto" or self.one.mask is not None or not self.spec.has_batch_norm:
            return [self.one.fitness.batch_norm]
        return CHOICES

    def _align(self, ids: list[str]) -> Flat:
        """Weights (n, p) of checkpoints, aligned with the first that was ever asked for: the best."""
        if not self._aligned:
            self._aligned[ids[0]] = self.zoo.matrix([self.zoo.record(ids[0])])[0]
        base, missing = self.zoo.record(next(iter(self._aligned))), [i for i in ids if i not in self._aligned]
        if missing:
            records = [self.zoo.record(i) for i in missing]
            try:
                examples = self.one.fitness.train[0][:_EXAMPLES]
                found = [aligned.weights for aligned in align_records(self.zoo, records, base, examples)]
            except BadInput as error:
                self.say(f"{self.one.arch}: experts are mixed as they are: {error.what}")
                found = list(self.zoo.matrix(records))
            self._aligned |= dict(zip(missing, found, strict=True))
        return torch.stack([self._aligned[i] for i in ids])
