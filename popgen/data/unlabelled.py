"""Loads images for adaptation: a data set by name, or a flat folder of images without labels."""

from __future__ import annotations

from pathlib import Path

from popgen.data.dataset import DataSet
from popgen.data.folder import local_path
from popgen.data.images.reader import ALPHAS
from popgen.data.load import load_data, split_name
from popgen.data.reading import split_reading
from popgen.data.sources.flat import flat_images, load_flat


def load_images(
    name: str, classes: tuple[str, ...], size: int | None = None, data_dir: str | Path | None = None
) -> tuple[DataSet, bool]:
    """Load a data set, or `folder:FOLDER` with images and no folders in it, and whether it has labels.

    The images of a flat folder are all three splits.

    Args:
        classes: names of the network's outputs, which unlabelled images get as their classes.
        size: the side in pixels that the images of a flat folder are resized and cropped to, if the name has no size.
        data_dir: the folder of named data sets. None: that of POPGEN_DATA, or else ./data.

    Raises:
        PopgenError: as `popgen.data.load.load_data`.
    """
    source, variants = split_name(name)
    base, reading = split_reading(source)
    prefix, _, path = base.partition(":")
    if prefix != "folder" or variants or not flat_images(local_path(path)):
        return load_data(name, data_dir), True
    return load_flat(name, local_path(path), classes, reading.size or size, reading.alpha or ALPHAS[0]), False
