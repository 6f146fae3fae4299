"""Candidates along the directions from a generator's base, for data sets to which the head is fitted.

The loss is the leave-one-out cross-entropy of the fitted head. A prior keeps few labels from choosing at random: the gain of
a coordinate has to be worth its distance from half of the way. With 5 labels a class this gained 3.1 points over the base, and twice
as wide a prior 2.6; with 20 labels it costs nothing (examples/results/few_labels.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property

import numpy as np

from popgen.baselines.rivals import RivalInputs, rival_rows
from popgen.baselines.row import Row
from popgen.fitness import Fitness, scores_of
from popgen.generator.model.directions import Start
from popgen.jobs.searching.details import SourceDetails
from popgen.jobs.searching.folder import RunFolder
from popgen.jobs.searching.population import condition_of
from popgen.jobs.searching.source import GeneratorSource
from popgen.weights.mixing import WeightSubspace
from search import Population

# Shares of the way along the directions, where the line is tried. Data unlike the base's own want most of the way, data like them
# a part of it.
_SHARES = (0.25, 0.5, 0.75, 1.0)
# The share that is believed beforehand. It is the unit of the coordinates, so that with --prior-width .5 a group is believed to lie
# between a quarter and three quarters of the way.
_CENTRE = 0.5


class DirectionSource(GeneratorSource):
    """A start and the line along its directions; the search moves each group of layers by itself.

    Of several starts it takes the one with the lowest loss half of the way along its directions.
    """

    rank = 0  # how many starts have a lower loss than the one that is taken

    @property
    def spent(self) -> int:
        """Evaluations that the choice of a start took."""
        return len(self.order) if len(self.order) > 1 and not self.rank else 0

    @cached_property
    def order(self) -> list[int]:
        """The starts, the lowest loss half of the way along their directions first."""
        starts = self.generator.starts(self.target.source)
        if len(starts) == 1:
            return [0]
        half = [replace(one.directions.space(one.base), mask=self.one.mask) for one in starts]
        losses = [self.one.fitness.loss_of(space.weights(np.full(space.dim, _share(space)))) for space in half]
        ranked = sorted(range(len(starts)), key=losses.__getitem__)
        listed = ", ".join(f"{starts[i].id} {losses[i]:.3f}" for i in ranked)
        self.say(f"{self.one.arch}: loss half of the way from each start: {listed}; the search takes the first")
        return ranked

    def others(self, count: int) -> list[DirectionSource]:
        """The sources of at most so many other starts, the best first."""
        found = []
        for rank in range(1, min(count + 1, len(self.order))):
            other = DirectionSource(self.generator, self.zoo, self.one, self.config, self.folder, self.say)
            other.order, other.rank = self.order, rank
            found.append(other)
        return found

    @property
    def start_of(self) -> Start:
        """The start with its directions."""
        return self.generator.starts(self.target.source)[self.order[self.rank]]

    @property
    def name(self) -> str:
        """The id of the start in the zoo, or that there is none."""
        return self.start_of.id or "the base"

    @cached_property
    def decoder(self) -> WeightSubspace:
        """Decoder of coordinates, one for each direction and group of layers, into weights."""
        one = self.start_of
        space = one.directions.space(one.base)
        return replace(space, directions=_share(space) * space.directions, mask=self.one.mask)

    @cached_property
    def proposal(self) -> np.ndarray:
        """The coordinates (directions * groups,) that the condition proposes."""
        condition = condition_of(self.one.data, self.config)
        proposed = self.generator.propose(self.target.source, condition, start=self.order[self.rank]).double().numpy()
        return np.asarray(proposed / _share(self.decoder))

    def population(self) -> Population:
        """The base, and points of the line along the directions.

        What the condition proposes is no seed: it goes further than the labels want, and an optimizer would start from there.
        """
        line = [np.full(self.decoder.dim, share / _CENTRE) for share in (0.0, *_SHARES)]
        return Population(np.stack(line), ["base", *(f"line@{share:g}" for share in _SHARES)])

    def fitness(self, population: Population) -> Fitness:
        """Statistics of batch norm are the base's, as in training, unless another treatment is asked for."""
        return self.one.fitness

    def centre(self, population: Population) -> np.ndarray:
        """Half of the way in each group of layers."""
        return np.ones(self.decoder.dim)

    def rows(self, folder: RunFolder, population: Population, fitness: Fitness, evaluations: int) -> list[Row]:
        """The rivals that need no latents, the base, the proposal, and the best point of the line."""
        one = replace(self.one, fitness=fitness)
        vectors = [*population.vectors, self.proposal]
        scored = list(scores_of(fitness, (self.decoder.weights(vector.copy()) for vector in vectors)))
        rows = []
        if len(scored) == len(vectors):
            best = min(scored[:-1], key=lambda network: network.finite_loss)
            named = (("base", 1, scored[0]), ("generated", 1, scored[-1]), ("line", len(scored) - 1, best))
            rows = [Row.of(name, count * fitness.cost, network, one.data) for name, count, network in named]
        if self.config.baselines == "none":
            return rows
        if self.zoo is None:
            self.say(
                f"{one.arch}: the zoo {self.generator.provenance.zoo!r} was not found, so its rows are missing; name it with --zoo"
            )
        return [*self._zoo_rows(fitness, evaluations), *rows]

    def _zoo_rows(self, fitness: Fitness, evaluations: int) -> Iterator[Row]:
        yield from rival_rows(("random", "best_zoo"), self.rival_inputs(fitness, evaluations), say=self.say)

    def rival_inputs(self, fitness: Fitness, evaluations: float) -> RivalInputs:
        """The zoo's networks of the architecture."""
        zoo = self.zoo
        records = () if zoo is None else zoo.select(arch=self.target.source, held_out=False)
        return RivalInputs(
            fitness.spec,
            self.one.data,
            fitness,
            self.config.seed,
            evaluations,
            zoo,
            records,
            self.generator,
            target=self.target,
        )

    def details(self) -> SourceDetails:
        """The closest data sets of training, and the groups of layers."""
        return SourceDetails(
            "generator",
            space="directions",
            closest=self.closest[:4],
            layer_groups=list(self.decoder.groups),
            start=self.start_of.id or None,
            evaluations_before=self.spent or None,
        )


def _share(space: WeightSubspace) -> float:
    """The coordinate of each direction half of the way along the mean of all."""
    return _CENTRE / len(space.directions)
