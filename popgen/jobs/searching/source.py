"""Where the candidates of a search come from: the latents of a generator, or weights around a zoo's experts.

The search itself only asks for what `Source` lists.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from popgen.baselines.rivals import Row
from popgen.configs.search import SearchConfig
from popgen.fitness import Fitness
from popgen.generator import Generator
from popgen.generator.decoder import WeightDecoder
from popgen.generator.strength import Strength
from popgen.jobs.searching.checks import Job
from popgen.jobs.searching.experts import ExpertSource
from popgen.jobs.searching.folder import RunFolder
from popgen.jobs.searching.population import condition_of, make_population
from popgen.jobs.searching.table import control_rows, generated_rows, rival_rows
from popgen.zoo import Zoo
from search import Population


class Source(Protocol):
    """Of one architecture and one data set."""

    @property
    def spent(self) -> int:
        """Evaluations that choosing took; they count in the budget."""
        ...

    @property
    def coordinates(self) -> str:
        """Those in which the optimizer moves: one of search.SPACES."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the candidates' outputs, () where they are unknown."""
        ...

    @property
    def decoder(self) -> WeightDecoder: ...

    def population(self) -> Population:
        """The vectors that a search starts from."""
        ...

    def fitness(self, population: Population) -> Fitness:
        """The job's, with batch norm decided."""
        ...

    def centre(self, population: Population) -> np.ndarray:
        """Where the best vector is believed to lie, before any evaluation."""
        ...

    def rows(self, folder: RunFolder, population: Population, fitness: Fitness, evaluations: int) -> list[Row]:
        """What stands beside the search in its table."""
        ...

    def details(self) -> dict[str, Any]:
        """What result.json says of it."""
        ...


def make_source(
    generator: Generator | None,
    zoo: Zoo | None,
    job: Job,
    config: SearchConfig,
    folder: RunFolder,
    say: Callable[[str], None],
) -> Source:
    """A generator's latents where there is one, else the experts of the zoo."""
    if generator is not None:
        return GeneratorSource(generator, zoo, job, config, say)
    assert zoo is not None
    return ExpertSource(zoo, job, config, folder, say)


class GeneratorSource:
    """Latents sampled for the run's condition, beside codes of the zoo's checkpoints."""

    spent = 0

    def __init__(
        self, generator: Generator, zoo: Zoo | None, job: Job, config: SearchConfig, say: Callable[[str], None]
    ) -> None:
        self.generator, self.zoo, self.job, self.config, self.say = generator, zoo, job, config, say
        self.target = job.target
        if self.target.transplant is not None:
            say(
                f"{job.arch}: untrained architecture; networks of {self.target.source} are generated and "
                f"{self.target.transplant.changes.text()}. "
                "The table shows other ways to fill it with weights; train what you choose."
            )

    @property
    def coordinates(self) -> str:
        """As asked for; else the latent's own."""
        return self.config.space or "identity"

    @property
    def classes(self) -> tuple[str, ...]:
        """As the generator has them."""
        return tuple(self.generator.provenance.classes)

    @cached_property
    def closest(self) -> list[str]:
        """The training data sets, closest to the run's condition first."""
        return self.generator.closest(self.target.source, condition_of(self.job.data, self.config))

    @cached_property
    def strength(self) -> Strength:
        """How far the condition is trusted."""
        condition = condition_of(self.job.data, self.config)
        return self.generator.strength_for(self.target.source, condition, self.config.sampling)

    @cached_property
    def decoder(self) -> WeightDecoder:
        return replace(self.target.decoder(self.generator), parts=self.job.parts)

    def population(self) -> Population:
        """Latents (n, k * d)."""
        job, strength = self.job, self.strength
        if strength.information:
            self.say(f"{job.arch}: {strength.text()}")
        source = self.target.source
        return make_population(self.generator, job.arch, job.data, self.closest, self.config, source, strength.value)

    def fitness(self, population: Population) -> Fitness:
        """Batch norm as it is better for the population's mean."""
        if self.config.batch_norm != "auto" or self.job.parts is not None:
            return self.job.fitness  # a base's statistics are kept with its other tensors
        return self.job.fitness.prefer_batch_norm(self.decoder.weights(population.mean()))

    def centre(self, population: Population) -> np.ndarray:
        """The mean of what was sampled."""
        return population.vectors[[o == "generated" for o in population.origins]].mean(0)

    def rows(self, folder: RunFolder, population: Population, fitness: Fitness, evaluations: int) -> list[Row]:
        """Rivals, controls, and the population before the search."""
        finished, rows = replace(self.job, fitness=fitness), list[Row]()
        if self.config.baselines != "none":
            rows += rival_rows(self.generator, self.zoo, finished, self.config, self.closest, evaluations)
            rows += control_rows(self.generator, self.decoder, finished, self.config)
            if self.zoo is None:
                self.say(
                    f"{self.job.arch}: the zoo {self.generator.provenance.zoo!r} was not found, so its rows are missing; "
                    "name its folder with --zoo"
                )
        return rows + generated_rows(folder, population, self.decoder, finished)

    def details(self) -> dict[str, Any]:
        """The closest data sets, and what was done for an untrained architecture."""
        strength = self.strength
        found: dict[str, Any] = {"source": "generator", "closest": self.closest[:4], "strength": strength.value}
        if strength.information:
            found["mutual_information"] = {f"{choice:g}": value for choice, value in strength.information.items()}
        if self.target.transplant is not None:
            found["untrained"] = {"source": self.target.source, "changes": self.target.transplant.changes.text()}
        return found
