"""The settings of `popgen rank`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from popgen.configs.load import Strict

Method = Literal["direct", "knn", "ridge", "logme", "h-score", "leep", "n-leep"]


class RankConfig(Strict):
    """The data set, the checkpoints that are ranked for it, and how much of an exhaustive evaluation that may cost."""

    data: str
    data_dir: str | None = None  # folder of named data sets; None: POPGEN_DATA, else ./data
    zoo: str = Field("digits", min_length=1)  # a folder, a zoo that the package ships, or hub:OWNER/NAME
    archs: list[str] = []  # architectures of the zoo; []: all
    method: Literal["auto"] | Method = "auto"  # auto: direct where the names of classes match, else from features
    share: float = Field(0.2, gt=0, le=1)  # image passes at most, as a share of showing every checkpoint every example
    images: int = Field(1000, ge=2)  # examples at most: those of validation, and of training where these are too few
    top: int = Field(1, ge=1)  # checkpoints that are chosen
    seed: int = Field(0, ge=0, lt=2**31)  # draws the examples
