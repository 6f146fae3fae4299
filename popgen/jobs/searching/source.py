"""The interface of a source of candidates, and the source that samples them from a generator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property
from typing import Protocol

import numpy as np

from popgen.baselines.layers import DRAWN_AND_TRAINED
from popgen.baselines.rivals import ADAPTERS, FINE_TUNES, STANDARD, RivalInputs, rival_rows
from popgen.baselines.row import Row
from popgen.baselines.starts import UNTRAINED
from popgen.configs.sampling import Sampling
from popgen.configs.search import SearchConfig
from popgen.files import write_text
from popgen.fitness import Fitness
from popgen.fitness.batch_norm import CHOICES, KEPT_OR_NOT
from popgen.generator import Generator
from popgen.generator.decoder import AnchoredDecoder, Decoder, WeightDecoder
from popgen.generator.strength import Strength
from popgen.jobs.searching.checks import ArchSearch
from popgen.jobs.searching.details import SourceDetails
from popgen.jobs.searching.folder import RunFolder, read_batch_norm
from popgen.jobs.searching.population import condition_of, make_population, make_task_population
from popgen.jobs.searching.table import control_rows, generated_rows, task_rows
from popgen.jobs.searching.tuning.training import finetune_recipe
from popgen.json_text import json_text
from popgen.zoo import Zoo
from search import Population

Say = Callable[[str], None]


class Source(Protocol):
    """Candidates for one architecture and one data set. The search asks for nothing else."""

    @property
    def spent(self) -> int:
        """Evaluations that choosing the candidates took; they count in the budget."""
        ...

    @property
    def coordinates(self) -> str:
        """The space in which the optimizer moves: one of search.SPACES."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the candidates' outputs, () where they are unknown."""
        ...

    @property
    def decoder(self) -> WeightDecoder:
        """Decoder of vectors of the space into weights."""
        ...

    def population(self) -> Population:
        """The vectors that a search starts from."""
        ...

    def fitness(self, population: Population) -> Fitness:
        """The fitness with the treatment of batch norm decided."""
        ...

    def centre(self, population: Population) -> np.ndarray:
        """The centre of the prior over vectors, as it is believed before any evaluation."""
        ...

    def start(self, population: Population) -> tuple[np.ndarray, str]:
        """The vector that a search without labels gives back where it gains nothing over it, and its name."""
        ...

    def rows(self, folder: RunFolder, population: Population, fitness: Fitness, evaluations: int) -> list[Row]:
        """The rows that stand beside the search in its table."""
        ...

    def rival_inputs(self, fitness: Fitness, evaluations: float) -> RivalInputs:
        """What the rivals of a search with so many evaluations may use."""
        ...

    def details(self) -> SourceDetails:
        """The details for result.json."""
        ...


class GeneratorSource:
    """Latents sampled for the run's condition, beside codes of the zoo's checkpoints."""

    def __init__(
        self, generator: Generator, zoo: Zoo | None, one: ArchSearch, config: SearchConfig, folder: RunFolder, say: Say
    ) -> None:
        self.generator, self.zoo, self.one, self.config, self.folder, self.say = (
            generator,
            zoo,
            one,
            config,
            folder,
            say,
        )
        self.target = one.target
        # Trained architectures whose conditions are tasks of texts: candidates are a strength away from the zoo's reference.
        self.is_anchored = generator.is_of_texts and self.target.is_trained
        if self.target.transplant is not None:
            say(
                f"{one.arch}: untrained architecture; networks of {self.target.source} are generated and "
                f"{self.target.transplant.changes.text()}. "
                "The table shows other ways to fill it with weights; train what you choose."
            )

    @property
    def spent(self) -> int:
        """Nothing is chosen before."""
        return 0

    @property
    def coordinates(self) -> str:
        """The space that was asked for; else the latent's own coordinates."""
        return self.config.space or "identity"

    @property
    def classes(self) -> tuple[str, ...]:
        """The generator's class names."""
        return tuple(self.generator.provenance.classes)

    @cached_property
    def closest(self) -> list[str]:
        """The training data sets, closest to the run's condition first."""
        return self.generator.closest(self.target.source, condition_of(self.one.data, self.config))

    @cached_property
    def strength(self) -> Strength:
        """The strength of the condition, and the measurements that chose it."""
        condition = condition_of(self.one.data, self.config)
        return self.generator.strength_for(self.target.source, condition, self.config.sampling)

    @cached_property
    def decoder(self) -> WeightDecoder:
        """The generator's decoder of the architecture; a base's tensors stand where they are not searched."""
        decoder = replace(self.target.decoder(self.generator), mask=self.one.mask)
        if self.is_anchored and isinstance(decoder, Decoder):
            return AnchoredDecoder(decoder)
        return decoder

    def population(self) -> Population:
        """Latents (n, k * d), for tasks of texts with a strength behind each."""
        if self.is_anchored:
            fitness = self.one.fitness
            labels = len(fitness.val[1]) if self.target.spec.is_adapter and not fitness.label_free else 0
            return make_task_population(
                self.generator, self.one.arch, self.one.data, self.closest, self.config, self.target.source, labels
            )
        if self.strength.information:
            self.say(f"{self.one.arch}: {self.strength.text()}")
        return make_population(
            self.generator,
            self.one.arch,
            self.one.data,
            self.closest,
            self.config,
            self.target.source,
            self.strength.value,
        )

    def fitness(self, population: Population) -> Fitness:
        """Batch norm is treated as is better for the population's mean. A base's statistics are kept with its other tensors.

        What was chosen is kept in the run's folder.
        """
        fitness, file = self.one.fitness, self.folder.batch_norm(self.one.arch)
        if self.config.batch_norm != "auto" or self.one.mask is not None or not fitness.spec.has_batch_norm:
            return fitness
        if file.exists():
            return replace(fitness, batch_norm=read_batch_norm(file))
        # A run with a population and without this file was begun by an earlier version, and goes on as it began.
        begun = self.folder.population(self.one.arch).exists()
        chosen = fitness.prefer_batch_norm(self.decoder.weights(population.mean()), KEPT_OR_NOT if begun else CHOICES)
        write_text(file, json_text({"batch_norm": chosen.batch_norm}) + "\n")
        return chosen

    def start(self, population: Population) -> tuple[np.ndarray, str]:
        """The population's mean."""
        return population.mean(), "mean"

    def centre(self, population: Population) -> np.ndarray:
        """The mean of what was sampled."""
        return population.vectors[[o == "generated" for o in population.origins]].mean(0)

    def rows(self, folder: RunFolder, population: Population, fitness: Fitness, evaluations: int) -> list[Row]:
        """The rows of rivals, of controls, and of the population before the search."""
        finished = replace(self.one, fitness=fitness)
        if self.is_anchored:
            rows = task_rows(folder, population, self.decoder, finished)
        else:
            rows = generated_rows(folder, population, self.decoder, finished)
        if self.config.baselines == "none":
            return rows
        controls = (
            [] if self.is_anchored else control_rows(self.generator, self.decoder, finished, self.config, self.say)
        )
        if self.zoo is None:
            self.say(
                f"{self.one.arch}: the zoo {self.generator.provenance.zoo!r} was not found, so its rows are missing; "
                "name its folder with --zoo"
            )
        return [*self._rivals(fitness, evaluations), *controls, *rows]

    def _rivals(self, fitness: Fitness, evaluations: int) -> Iterator[Row]:
        """The zoo's rows; for an architecture that no network of the zoo has, the other ways to fill it with weights."""
        has_base = self.is_anchored and not self.target.spec.is_adapter
        names = FINE_TUNES if has_base else ADAPTERS if self.is_anchored else STANDARD
        if self.config.baselines == "all":
            names = (*names, "noise", *(DRAWN_AND_TRAINED if has_base else ()))
        given = self.rival_inputs(fitness, evaluations)
        yield from rival_rows(names if self.target.is_trained else UNTRAINED, given, say=self.say)

    def rival_inputs(self, fitness: Fitness, evaluations: float) -> RivalInputs:
        """The zoo's networks of the architecture, and the generator under the run's condition."""
        zoo, trained = self.zoo, self.target.is_trained
        return RivalInputs(
            spec=fitness.spec,
            data=self.one.data,
            fitness=fitness,
            seed=self.config.seed,
            evaluations=evaluations,
            zoo=zoo,
            records=zoo.select(arch=self.target.source, held_out=False) if zoo is not None and trained else (),
            generator=self.generator,
            closest=self.closest,
            target=self.target,
            condition=condition_of(self.one.data, self.config),
            sampling=Sampling(strength=self.strength.value).over(self.config.sampling),
            recipe=finetune_recipe(self.config, fitness.spec, self.one.trained_parts(self.config)),
            base=self.generator.bases.get(self.target.source) if self.one.mask is None else self.one.mask.base,
        )

    def details(self) -> SourceDetails:
        """The closest data sets, and what was done for an untrained architecture."""
        strength, untrained = self.strength, None
        if self.target.transplant is not None:
            untrained = {"source": self.target.source, "changes": self.target.transplant.changes.text()}
        information = {f"{choice:g}": value for choice, value in strength.information.items()}
        return SourceDetails(
            "generator",
            closest=self.closest[:4],
            strength=strength.value,
            mutual_information=information or None,
            untrained=untrained,
        )
