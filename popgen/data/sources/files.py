"""Reads `folder:FOLDER`, a folder of images for each class, with or without folders for the splits above them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from popgen.data.dataset import DataSet, from_parts
from popgen.data.images.reader import read_image
from popgen.data.sources.gather import UnreadImages, gather
from popgen.data.sources.listing import list_folder
from popgen.data.sources.splits import say_counts


def load_folder(name: str, root: Path, size: int | None = None, alpha: str = "white") -> DataSet:
    """Load image files `root/{train,val,test}/CLASS/image`, or `root/CLASS/image`, which are split here.

    Files that cannot be read are passed over. Remarks say how many images were read and what was passed over.

    Args:
        size: the side in pixels that images are resized and cropped to (see `popgen.data.sources.gather`). If None, all
            images must have the same size.
        alpha: what lies behind transparent pixels (see `popgen.data.images.reader`).

    Raises:
        BrokenFile: no image of a split can be read.
        BadInput: the folder has another layout or no images, or the images differ in size.
    """
    listing = list_folder(root)
    unread = {split: unread_images(files, alpha) for split, files in listing.files.items()}
    gathered = gather(name, unread, size, passes_over=True)
    not_read = []
    for split, errors in gathered.unreadable.items():
        for index, error in errors.items():
            path = listing.files[split][index][0].relative_to(root).as_posix()
            not_read.append(path)
            listing.passed_over[split].add("unreadable", f"{path}: {error.why}")
    counts = say_counts({split: len(part) for split, part in gathered.parts.items()}, listing.passed_over, "files")
    data = from_parts(name, listing.classes, gathered.parts, (*counts, *gathered.remarks))
    return replace(data, unread=tuple(not_read))


def unread_images(files: list[tuple[Path, int]], alpha: str) -> UnreadImages:
    """Image files with their labels, which are read one by one."""

    def read(i: int) -> tuple[np.ndarray, int]:
        path, label = files[i]
        return read_image(path, str(path), alpha), label

    return UnreadImages(len(files), read)
