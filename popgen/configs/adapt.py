"""The settings of `popgen adapt`."""

from __future__ import annotations

from pydantic import Field

from popgen.configs.load import Strict


class AdaptConfig(Strict):
    """The network to adapt, and the images that it is adapted to."""

    arch: str
    data: str  # a data set, or folder:FOLDER with images and no folders in it
    data_dir: str | None = None  # folder of named data sets; None: POPGEN_DATA, else ./data
    generator: str = Field("cifar_shifts", min_length=1)  # a built-in generator, or a folder that `popgen train` wrote
    zoo: str | None = None  # the zoo of the row `best zoo`; None: the generator's own, where it is found under its name
    images: int = Field(1000, ge=2)  # images at most that candidates are compared by, and as many for statistics
    batch: int | None = Field(None, ge=2)  # images of a stream that are adapted to together; None: all at once
    # Epochs of entropy minimisation in the rows of TENT and ETA; 0: without these rows.
    tent: int = Field(0, ge=0, le=1000)
    eta: int = Field(0, ge=0, le=1000)
    finish: str | None = None  # tent:EPOCHS or eta:EPOCHS, which the chosen network is finished with
    seed: int = Field(0, ge=0, lt=2**31)
