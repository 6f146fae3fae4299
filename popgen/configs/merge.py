"""The settings of `popgen merge`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from popgen.configs.load import Strict


class MergeConfig(Strict):
    """The networks to merge, the method with its settings, and the images that it may see."""

    experts: list[str] = Field(min_length=1)  # ids in the zoo, or globs of ids
    zoo: str = Field(min_length=1)
    method: str = "all"  # one of popgen.merging.METHODS, or all
    # An id in the zoo, or ZOO#ID; None: the parent or the start that the experts share, where the zoo knows it.
    base: str | None = None
    # A data set for all experts, as many as experts in their order, or `own`: those in the experts' records.
    data: list[str] = []
    data_dir: str | None = None  # folder of named data sets; None: POPGEN_DATA, else ./data
    images: int = Field(1000, ge=2)  # training images of each data set at most, without their labels
    # Whether batch norm gets the statistics of these images, or the average of the experts' statistics.
    batch_norm: Literal["reestimate", "keep"] = "reestimate"
    scale: float | None = Field(
        None, gt=0
    )  # factor of summed task vectors; None: by validation, else the published one
    keep: float | None = Field(None, gt=0, le=1)  # ties: share of values that are kept; None: as `scale`
    drop: float | None = Field(None, ge=0, lt=1)  # dare: share of values that are dropped; None: as `scale`
    shrink: float = Field(0.9, ge=0, le=1)  # regmean: factor of the Gram matrices' entries off the diagonal
    fisher_images: int = Field(64, ge=1)  # fisher: images of each expert at most
    steps: int = Field(100, ge=1, le=100_000)  # adamerging
    lr: float = Field(0.001, gt=0)  # adamerging
    batch: int = Field(16, ge=2)  # adamerging: images of each data set in a step
    seed: int = Field(0, ge=0, lt=2**31)
