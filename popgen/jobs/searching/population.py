"""Makes the population that a search in a generator's latent space starts from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from popgen.configs.sampling import Sampling
from popgen.configs.search import SearchConfig
from popgen.data import DataSet
from popgen.generator import Generator
from popgen.generator.controls import Control
from popgen.generator.model.conditions import Description
from popgen.generator.task_sets import TASK_KINDS, TaskKind
from popgen.jobs.searching.folder import RunFolder
from popgen.jobs.searching.results.label_choice import ENOUGH_LABELS
from search import Population, best_of

_STRENGTHS = (0.5, 1.0)  # Each mean of generated adapters is tried at these strengths, beside the frozen base.


def make_task_population(
    generator: Generator,
    arch: str,
    data: DataSet,
    closest: list[str],
    config: SearchConfig,
    source: str,
    labels: int = 0,
) -> Population:
    """Candidates for adapters, as vectors of an `AnchoredDecoder`: latents with a strength.

    They are the frozen base; what is generated for the task's words, its texts, both and neither, at half and whole strength;
    samples for both; and codes of the zoo's adapters, those on the closest tasks first.

    Args:
        labels: how many labels choose among them. By enough of them, all adapters of the zoo are candidates, unless the settings
            say how many.
    """
    data = data if config.describe is None else replace(data, description=config.describe)
    named: list[tuple[str, Tensor, float]] = [("frozen", torch.zeros(generator.latent_shape), 0.0)]
    for kind in TASK_KINDS:
        mean = _task_samples(generator, source, data, config, kind).mean(0)
        named += [(f"{kind}@{strength:g}", mean, strength) for strength in _STRENGTHS]
    named += [("generated", latent, 1.0) for latent in _task_samples(generator, source, data, config, "both")]
    most = None if config.experts is None and labels >= ENOUGH_LABELS else config.few_experts
    codes = generator.stored_near(source, closest, most)
    named += [(f"expert:{code.id}", latent, 1.0) for code, latent in codes]
    vectors = [torch.cat([latent.flatten(), torch.tensor([strength])]) for _, latent, strength in named]
    return _warmed(torch.stack(vectors).double().numpy(), [name for name, _, _ in named], arch, config)


def _warmed(vectors: np.ndarray, origins: list[str], arch: str, config: SearchConfig) -> Population:
    """The population with the best of an earlier run, where the settings name one."""
    if config.warm_start is not None:
        run = RunFolder.open(config.warm_start)
        best = best_of(run.history, arch, Population.load(run.population(arch)), config.warm_best)
        vectors, origins = np.vstack([vectors, best.vectors]), [*origins, *best.origins]
    return Population(vectors, origins)


def _task_samples(generator: Generator, arch: str, data: DataSet, config: SearchConfig, kind: TaskKind) -> Tensor:
    condition = generator.condition(arch, data, config.population, config.seed, kind)
    return generator.sample(
        arch, data, config.population, seed=config.seed, sampling=config.sampling, condition=condition
    )


def make_population(
    generator: Generator,
    arch: str,
    data: DataSet,
    closest: list[str],
    config: SearchConfig,
    source: str | None = None,
    strength: float | None = None,
) -> Population:
    """Latents sampled for the condition, stored codes of checkpoints on the closest data sets, and the best of an earlier run.

    Args:
        source: the trained architecture whose latents are searched for `arch`; None: `arch` itself.
        strength: how far the condition is trusted, 0 to 1; None: the generator decides.
    """
    trained = source or arch
    sampled = sample(generator, trained, data, config, config.population, strength=strength).flatten(1)
    near = generator.stored_near(trained, closest, config.few_experts)
    experts = [(f"expert:{code.id}", latent.flatten()) for code, latent in near]
    vectors = torch.cat([sampled, *(latent[None] for _, latent in experts)]).double().numpy()
    origins = ["generated"] * len(sampled) + [origin for origin, _ in experts]
    return _warmed(vectors, origins, arch, config)


def sample(
    generator: Generator,
    arch: str,
    data: DataSet,
    config: SearchConfig,
    n: int,
    control: Control | None = None,
    strength: float | None = None,
) -> Tensor:
    """Latents (n, k, d) under the run's condition, or under a control."""
    return generator.sample(
        arch,
        condition_of(data, config),
        n,
        seed=config.seed,
        sampling=Sampling(strength=strength).over(config.sampling),
        control=control,
    )


def condition_of(data: DataSet, config: SearchConfig) -> DataSet | Description:
    """The run's condition: its description where it has one, else the images of the data set."""
    return data if config.describe is None else Description(config.describe)
