"""Samples latents from the prior that is asked for, under a condition of some strength or under a control."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from popgen.configs.sampling import Sampling
from popgen.data import DataSet
from popgen.errors import BadInput, unknown_name
from popgen.generator.controls import Control
from popgen.generator.model.closed_form_priors import CodeTable
from popgen.generator.model.conditions import Description
from popgen.generator.records import Condition
from popgen.generator.strength import Strength, choose_strength
from popgen.types import Latents

if TYPE_CHECKING:
    from popgen.generator.generator import Generator

PRIORS = ("network", "ridge", "kde")  # the trained network, and the closed-form priors


@torch.no_grad()
def sample(
    generator: Generator,
    arch: str,
    condition: Condition,
    seed: int,
    sampling: Sampling,
    strength: float,
    control: Control | None,
) -> Latents:
    """Sample standardised latents (n, k, d), one for each row of the condition.

    Args:
        seed: seed of the noise, and of the data sets that the control `shuffled` draws.
        strength: factor of the data set's embedding, 0 to 1; `strength_for` gives it.

    Raises:
        NotFound: there is no such prior.
        BadInput: the prior was not trained for the sampler, or the control of a closed-form prior is `empty`.
    """
    prior, n = prior_name(generator, sampling.prior), len(condition.data)
    rng = torch.Generator().manual_seed(seed)
    noise = torch.randn(n, *generator.latent_shape, generator=rng)
    embedding = strength * condition.data
    if control == "shuffled":
        embedding = generator.data_vectors[torch.randint(len(generator.data_vectors), (n,), generator=rng)]
    if prior == "network":
        without = torch.tensor([[control == "empty", False]]).expand(n, -1)
        raw = generator.prior.sample(embedding, condition.arch, noise, sampling, without)
        return generator.standardise(arch, raw)
    if control == "empty":
        raise BadInput(f"the prior {prior!r} has no empty condition", "it is a function of the data set", "")
    table = code_table(generator, arch)
    return table.ridge(embedding, noise) if prior == "ridge" else table.kde(embedding, noise, rng)


def strength_for(
    generator: Generator, arch: str, data: DataSet | Description, sampling: Sampling, control: Control | None = None
) -> Strength:
    """Return the strength of the condition: that of `sampling`, else that of the generator's settings.

    `auto` chooses the strength by networks that the prior of `sampling` generates (popgen/generator/strength.py). It
    means 1 for a description, because there are no images. A control has strength 1 if `sampling` does not give one.
    """
    wanted = sampling.over(generator.config.prior.sampling).strength
    if control is not None and sampling.strength is None:
        wanted = 1.0
    if wanted != "auto" or isinstance(data, Description):
        return Strength(1.0 if wanted in ("auto", None) else float(wanted), {})
    condition = generator.condition(arch, data)

    def network(strength: float) -> Tensor:
        how = Sampling(prior=sampling.prior, strength=strength)
        return generator.decode(arch, generator.sample(arch, data, 1, sampling=how, condition=condition))[0]

    return choose_strength(generator.spec(arch), data.val.inputs, network)


def prior_name(generator: Generator, prior: str | None) -> str:
    """Return the name of the prior to sample from: `prior`, or the one that training chose if it is None.

    Raises:
        NotFound: `prior` is not one of PRIORS.
        BadInput: `prior` is `network`, which was not trained.
    """
    prior = prior or generator.provenance.prior
    if prior not in PRIORS:
        raise unknown_name("prior", prior, PRIORS)
    kind = generator.config.prior.kind
    if prior == "network" and kind in PRIORS:
        raise BadInput(
            "the generator has no trained prior", f"its spec says prior: {kind}", "Choose --prior ridge or kde."
        )
    return prior


def code_table(generator: Generator, arch: str) -> CodeTable:
    """Return the codes of an architecture's training checkpoints, for the closed-form priors."""
    index = {name: i for i, name in enumerate(generator.provenance.data)}
    records = [code for code in generator.records if code.arch == arch and code.data in index]
    return CodeTable(
        generator.codes[[code.row for code in records]],
        generator.data_vectors[[index[code.data] for code in records]],
        torch.tensor([code.goodness for code in records]),
    )
