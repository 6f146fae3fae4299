"""The settings of `popgen adapt`."""

from __future__ import annotations

from pydantic import Field

from popgen.configs.load import Strict


class AdaptConfig(Strict):
    """The network to adapt, and the images that it is adapted to."""

    arch: str
    data: str  # a data set, or folder:FOLDER with images and no folders in it
    data_dir: str | None = None  # folder of named data sets; None: POPGEN_DATA, else ./data
    generator: str = Field(min_length=1)  # a folder that `popgen train` wrote, or a built-in one
    images: int = Field(1000, ge=2)  # images at most that candidates are compared by, and as many for statistics
    batch: int | None = Field(None, ge=2)  # images of a stream that are adapted to together; None: all at once
    tent: int = Field(0, ge=0, le=1000)  # epochs of entropy minimisation of the rivals `TENT`; 0: without these rows
    seed: int = Field(0, ge=0, lt=2**31)
