"""Remarks on a data set that is unusual or too thin to measure on: blank images, classes without images, few images."""

from __future__ import annotations

import torch

from popgen.data.dataset import SPLITS, DataSet, Part

_NAMED = 5  # classes that a remark names
_FEW = 5  # validation images of which each counts for 20 points of accuracy or more


def source_remarks(data: DataSet) -> tuple[str, ...]:
    """Remarks on the user's own data: blank images, classes that train lacks, and class names that stand there twice."""
    remarks = []
    for split in SPLITS:
        part: Part = getattr(data, split)
        blank = int((part.inputs.flatten(1).amax(1) == part.inputs.flatten(1).amin(1)).sum()) if data.has_images else 0
        if blank:
            remarks.append(f"{blank} of {len(part)} {split} images are blank: all their pixels have one value")
    trained = set(data.train.targets.unique().tolist())
    absent = [name for label, name in enumerate(data.classes) if label not in trained]
    if absent:
        unseen = torch.tensor([label for label in range(len(data.classes)) if label not in trained])
        counts = [f"{int(torch.isin(getattr(data, s).targets, unseen).sum())} {s}" for s in ("val", "test")]
        remarks.append(f"train has no image of {_listed(absent)}, to which {' and '.join(counts)} images belong")
    double = sorted({name for name in data.classes if data.classes.count(name) > 1})
    if double:
        remarks.append(f"several classes are called {_listed(double)}; they are not matched with other classes by name")
    return tuple(remarks)


def thin_remarks(data: DataSet) -> tuple[str, ...]:
    """Remarks on a data set on which accuracy says little: one class, or very few validation images.

    >>> from popgen.data import load_data
    >>> thin_remarks(load_data("digits"))
    ()
    """
    remarks = []
    if len(data.classes) == 1:
        remarks.append("there is one class, so that every network is right on all images")
    if len(data.val) <= _FEW:
        remarks.append(f"val has {len(data.val)} images: its accuracy says next to nothing, and one image decides")
    return tuple(remarks)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more classes" if len(names) > _NAMED else ""
    return ", ".join(map(repr, names[:_NAMED])) + more
