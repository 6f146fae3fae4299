"""Remarks on a data set that is unusual or too thin to measure on: blank images, classes without examples, few examples."""

from __future__ import annotations

import torch

from popgen.data.dataset import SPLITS, DataSet, Part
from popgen.tasks import CLASSIFICATION

_NAMED = 5  # classes that a remark names
_ROUNDING = 1e-5  # below one step of 16 bits; resizing changes pixels of one value by less
_FEW = 5  # validation images of which each counts for 20 points of accuracy or more


def source_remarks(data: DataSet) -> tuple[str, ...]:
    """Remarks on the user's own data: blank images, classes that train lacks, and class names that stand there twice."""
    remarks = []
    for split in SPLITS:
        part: Part = getattr(data, split)
        blank = 0
        if data.has_images:
            pixels = part.inputs.flatten(1)
            blank = int((pixels.amax(1) - pixels.amin(1) < _ROUNDING).sum())
        if blank:
            remarks.append(f"{blank} of {len(part)} {split} images are blank: all their pixels have one value")
    if data.task != CLASSIFICATION:
        return tuple(remarks)
    trained = set(data.train.targets.unique().tolist())
    absent = [name for label, name in enumerate(data.classes) if label not in trained]
    if absent:
        unseen = torch.tensor([label for label in range(len(data.classes)) if label not in trained])
        counts = [f"{int(torch.isin(getattr(data, s).targets, unseen).sum())} {s}" for s in ("val", "test")]
        remarks.append(
            f"train has no {data.noun.removesuffix('s')} of {_listed(absent)}, to which {' and '.join(counts)} {data.noun} belong"
        )
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
    remarks, one = [], data.noun.removesuffix("s")
    if len(data.classes) == 1 and data.task == CLASSIFICATION:
        remarks.append(f"there is one class, so that every network is right on all {data.noun}")
    if len(data.val) <= _FEW:
        remarks.append(f"val has {len(data.val)} {data.noun}: its accuracy says next to nothing, and one {one} decides")
    return tuple(remarks)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more classes" if len(names) > _NAMED else ""
    return ", ".join(map(repr, names[:_NAMED])) + more
