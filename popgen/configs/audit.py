"""The settings of `popgen audit`."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from popgen.configs.load import Strict
from popgen.errors import BadInput


class AuditConfig(Strict):
    """The networks to audit, the training checkpoints that they are compared with, and how."""

    generator: str | None = Field(None, min_length=1)  # a built-in generator, or the folder that `popgen train` wrote
    generated: str | None = Field(None, min_length=1)  # a folder of state dicts that another tool made
    zoo: str | None = None  # the training checkpoints; None: the generator's own zoo
    reference_zoo: str | None = None  # independent networks that the generator was not trained on; None: those of `zoo`
    data: list[str] = []  # data sets to audit; []: a few of the zoo's, evenly spaced
    archs: list[str] = []  # architectures to audit; []: all that are known
    data_dir: str | None = None  # folder of named data sets; None: POPGEN_DATA, else ./data
    samples: int = Field(20, ge=2)  # generated networks of each architecture and data set
    controls: int = Field(16, ge=2)  # networks of each control
    references: int = Field(32, ge=2)  # checkpoints at most that make the references
    images: int = Field(2000, ge=2)  # test images at most
    batch_norm: Literal["auto", "keep", "reestimate"] = "auto"  # the same for every network
    head: Literal["keep", "ridge"] = "keep"  # the same for every network
    rounds: int = Field(1000, ge=100)  # resamples of the bootstrap
    seed: int = Field(0, ge=0, lt=2**31)

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.generator is None) == (self.generated is None):
            given = "neither of them is" if self.generator is None else "both of them are"
            raise BadInput(
                f"an audit is of a generator or of a folder of networks, and {given} named",
                "a folder holds state dicts that another tool made",
                "Name a generator such as digits, or --generated FOLDER --zoo ZOO.",
            )
        if self.generated is not None and self.zoo is None:
            raise BadInput(
                f"the zoo of the networks in {self.generated} is not named",
                "they are compared with the checkpoints that they were learned from",
                "Name it with --zoo; `popgen zoo import` makes one of checkpoint files.",
            )
        return self
