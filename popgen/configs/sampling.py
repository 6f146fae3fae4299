"""Settings of sampling latents from a generator, the same in a spec, a search, `popgen generate` and Generator.sample."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from popgen.configs.load import Strict

PriorName = Literal["network", "ridge", "kde"]
Sampler = Literal["euler", "heun", "ddim", "ddpm"]
# Statistics of batch norm: the network's own, those of the training images, or a share of the way; auto chooses.
BatchNorm = Literal["auto", "keep", "reestimate"] | Annotated[float, Field(ge=0, le=1)]


class Sampling(Strict):
    """Settings of one sampling; None leaves a setting to the generator.

    >>> Sampling(steps=8).over(Sampling(steps=4, guidance=1.0))
    Sampling(prior=None, sampler=None, steps=8, guidance=1.0, strength=None)
    """

    prior: PriorName | None = None  # the trained network, or a prior in closed form
    sampler: Sampler | None = None  # euler or heun for a flow, ddim or ddpm for a DDPM
    steps: int | None = Field(None, ge=1)  # steps of the sampler
    guidance: float | None = Field(None, ge=0, allow_inf_nan=False)  # 1 is the plain conditional model
    # How far the condition is trusted: 0 is the average training data set's, auto chooses without labels.
    strength: Annotated[float, Field(ge=0, le=1)] | Literal["auto"] | None = None

    def over(self, defaults: Sampling) -> Sampling:
        """These settings, with `defaults` where they say nothing."""
        return defaults.model_copy(update=self.model_dump(exclude_none=True))
