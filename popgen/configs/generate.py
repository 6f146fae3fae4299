"""The settings of `popgen generate`."""

from __future__ import annotations

from pydantic import Field

from popgen.configs.load import Strict
from popgen.configs.sampling import BatchNorm, Sampling


class GenerateConfig(Strict):
    """The networks to generate and the data set or description they are for."""

    archs: list[str] = Field(min_length=1)
    data: str | None = None  # the data set whose training images are the condition, and on which networks are scored
    describe: str | None = Field(None, min_length=1)  # the condition in words; `data` then only scores
    phrases: list[str] = []  # in words what each class of a task of texts means, in order; [] takes those of `data`
    data_dir: str | None = None  # folder of named data sets; None: POPGEN_DATA, else ./data
    n: int = Field(16, ge=1)  # networks of each architecture
    generator: str = "digits"  # a built-in generator, or the folder that `popgen train` wrote
    sampling: Sampling = Sampling()
    batch_norm: BatchNorm = "keep"  # auto chooses without labels
    finish: str | None = None  # tent:EPOCHS or eta:EPOCHS, entropy minimisation of each network on the training images
    parts: list[str] = []  # `head` or globs of tensors' names: only these are generated
    base: str | None = None  # a .safetensors file, whose tensors all others are
    seed: int = Field(0, ge=0, lt=2**31)
    address: str | None = None  # a Ray cluster that samples each architecture on one of its CPUs
