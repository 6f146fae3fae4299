"""Reads a flat folder of images, without folders for classes and so without labels."""

from __future__ import annotations

from pathlib import Path

import torch

from popgen.data.dataset import DataSet, Part
from popgen.data.sources.files import unread_images
from popgen.data.sources.gather import gather
from popgen.data.sources.listing import SUFFIXES, is_hidden
from popgen.data.sources.splits import PassedOver, say_counts

UNLABELLED = -1  # the target of an image without a label


def flat_images(root: Path) -> list[Path]:
    """Return the images that lie in a folder itself, sorted by name; none if the folder has folders of its own."""
    if not root.is_dir() or any(path.is_dir() and not is_hidden(path.name) for path in root.iterdir()):
        return []
    return [path for path in sorted(root.iterdir()) if not is_hidden(path.name) and path.suffix.lower() in SUFFIXES]


def load_flat(name: str, root: Path, classes: tuple[str, ...], size: int | None, alpha: str = "white") -> DataSet:
    """Load the images of a flat folder as each of the three splits, with UNLABELLED as their targets.

    Files that cannot be read are passed over. Remarks say how many images were read and what was passed over.

    Args:
        classes: names of the network's outputs.
        size: the side in pixels that images are resized and cropped to; None: all have the same size.
        alpha: what lies behind transparent pixels (see `popgen.data.images.reader`).

    Raises:
        BrokenFile: no image can be read.
        BadInput: the images differ in size.
    """
    files, passed = flat_images(root), PassedOver()
    gathered = gather(name, {"train": unread_images([(path, 0) for path in files], alpha)}, size, passes_over=True)
    for index, error in gathered.unreadable["train"].items():
        passed.add("unreadable", f"{files[index].name}: {error.why}")
    others = [path for path in root.iterdir() if path not in set(files) and not is_hidden(path.name)]
    for path in sorted(others):
        passed.add("with another suffix", path.suffix or path.name)
    inputs = gathered.parts["train"].inputs
    part = Part(inputs, torch.full((len(inputs),), UNLABELLED))
    counts = say_counts({"all": len(part)}, {"all": passed}, "files")[1:]
    remarks = (f"images read: {len(part)}, without labels", *counts, *gathered.remarks)
    return DataSet(name, classes, part, part, part, remarks)
