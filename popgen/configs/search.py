"""The settings of `popgen search`, as they stand in a run's config.yaml."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Baselines = Literal["none", "standard", "all"]
EXPERT_SPACES = ("mix", "low-rank")  # weights around the experts of a zoo


class SearchConfig(BaseModel):
    """What is searched for, how, and for how long.

    The defaults of the search are those that did best in examples/bench/search_settings.py.
    """

    model_config = ConfigDict(extra="forbid")

    archs: list[str] = Field(min_length=1)
    data: str
    data_dir: str | None = None  # folder of named data sets; None: POPGEN_DATA, else ./data
    generator: str | None = None  # None: the built-in one where it knows the architecture, else what is found here
    zoo: str | None = (
        None  # for the baselines: a folder or built-in name; None: the generator's own, where it can be found
    )
    parts: list[str] = []  # `head` or globs of tensors' names: only these are generated
    base: str | None = None  # a .safetensors file, whose tensors all others are
    head: Literal["auto", "keep", "remap", "refit"] = "auto"
    batch_norm: Literal["auto", "keep", "reestimate"] = "auto"
    split: str = "val"  # that candidates are scored on; `test` is refused
    sgd_steps: int = Field(0, ge=0, le=10_000)  # of SGD on training images before a candidate is scored
    sgd_lr: float = Field(0.01, gt=0, allow_inf_nan=False)  # of the first step; it falls to zero along half a cosine
    sgd_batch: int = Field(50, ge=2)  # images of a step
    evaluations: int = Field(300, ge=1)  # of each architecture, seeds included; in passes over the validation images
    seconds: float | None = Field(None, gt=0, allow_inf_nan=False)  # of each architecture
    target: float | None = Field(None, allow_inf_nan=False)  # stop at this loss
    patience: int | None = Field(None, ge=1)  # stop after so many evaluations without a better one
    optimizer: str = "CMA"
    space: str | None = (
        None  # of a generator's latent: identity (its own coordinates, which have variance 1 over the zoo),
    )
    # std or pca; around experts of a zoo: mix or low-rank; auto: whichever suits. None: identity, or auto without a generator
    sigma: float | None = Field(None, gt=0, allow_inf_nan=False)  # first step, in units of the population's spread
    batch: int = Field(12, ge=1)  # candidates asked at a time; part of the algorithm, not of the machine
    mode: Literal["exact", "async"] = "exact"  # async: no worker waits for another, and no two histories are the same
    rungs: list[float] = []  # shares of the validation images at which the worse half of a batch drops out
    objectives: list[str] = Field(
        ["loss"], min_length=1
    )  # or measures of popgen.fitness.measures, or module:function; several: their front
    groups: str | None = None  # a CSV file with the group of each validation image, for worst_group_error
    weights: list[float] | None = None  # of the objectives: one sum instead of a front
    population: int = Field(16, ge=1)  # sampled from the generator
    experts: int = Field(
        8, ge=0
    )  # of the zoo among the seeds: codes of those on the data sets closest to this one, or,
    # without a generator, the best by validation loss
    warm_start: str | None = None  # the folder of an earlier run, whose best candidates join the population
    warm_best: int = Field(8, ge=1)  # how many of them
    prior_width: float = Field(0.5, ge=0, allow_inf_nan=False)  # how far from the sampled population's mean the best
    # latent is believed to lie (standard deviation, latent units); 0: anywhere, the validation loss alone counts
    describe: str | None = Field(None, min_length=1)  # the condition in words; None: images of the training split
    strength: float | None = Field(None, ge=0, le=1)  # of the condition; None: as the generator decides
    prior: Literal["network", "ridge", "kde"] | None = None  # None: the one chosen when the generator was trained
    sampler: Literal["euler", "heun", "ddim", "ddpm"] | None = None  # of the trained prior; None: the generator's own
    sample_steps: int | None = Field(None, ge=1)
    guidance: float | None = Field(None, ge=0, allow_inf_nan=False)  # None: the generator's own
    workers: int | Literal["auto"] = "auto"  # 0: this process; auto: Ray where the search takes longer than starting it
    address: str | None = None  # of a Ray cluster
    timeout: float | None = Field(None, gt=0, allow_inf_nan=False)  # seconds for one candidate; needs workers
    gpus: float = Field(0, ge=0, allow_inf_nan=False)  # share of a GPU for each worker
    group: int = Field(1, ge=1)  # candidates that a worker with a GPU evaluates at once
    baselines: Baselines = "standard"
    finetune_epochs: list[Annotated[int, Field(ge=0, le=10_000)]] = []  # after which the table's rows are compared, too
    finetune_lr: float = Field(0.03, gt=0, allow_inf_nan=False)  # its peak, of one cycle over the epochs
    finetune_batch: int = Field(50, ge=2)
    seed: int = Field(0, ge=0, lt=2**31)

    def frozen_fields(self) -> dict[str, object]:
        """What may not change when a run is resumed: all but budgets, workers and what is only reported."""
        free = {"evaluations", "seconds", "target", "patience", "workers", "address", "timeout", "baselines", "zoo"}
        free |= {"data_dir", "finetune_epochs", "finetune_lr", "finetune_batch"}
        free.add("base")  # its content counts, by its hash
        return self.model_dump(exclude=free)
