"""Checks a data set that a user's own function has made, which may break any of the rules of `DataSet`."""

from __future__ import annotations

import torch
from torch import Tensor

from popgen.data.dataset import SPLITS, DataSet, Part
from popgen.errors import BadInput
from popgen.tasks import CLASSIFICATION


def check_made(name: str, data: DataSet) -> tuple[str, ...]:
    """Refuse a data set whose parts do not fit together; return remarks on what is unusual in it.

    Args:
        name: the function as module:function, for errors.

    Raises:
        BadInput: a split is empty or holds no tensors, inputs and targets differ in number, inputs of the splits differ
            in shape or are not finite, a class index is none of the classes, or phrases are not as many as the classes.
    """
    for split in SPLITS:
        why = _fault(getattr(data, split), data)
        if why:
            raise BadInput(f"{split} of the data set that {name!r} returned does not fit", why, "Correct the function.")
    if data.task == CLASSIFICATION and not data.classes:
        raise BadInput(f"the data set that {name!r} returned has no classes", "", "Give their names.")
    if data.phrases and len(data.phrases) != len(data.classes):
        counts = f"{len(data.phrases)} phrases for {len(data.classes)} classes"
        raise BadInput(
            f"the data set that {name!r} returned has {counts}", "", "Give a phrase for each class, or none."
        )
    shapes = sorted({tuple(getattr(data, split).inputs.shape[1:]) for split in SPLITS})
    if len(shapes) > 1:
        raise BadInput(
            f"the splits that {name!r} returned have inputs of different shapes", f"{shapes}", "Give them one."
        )
    if not data.has_images:
        return ()
    low = min(float(getattr(data, split).inputs.amin()) for split in SPLITS)
    high = max(float(getattr(data, split).inputs.amax()) for split in SPLITS)
    return () if low >= 0 and high <= 1 else (f"pixels go from {low:.3g} to {high:.3g}, where 0 to 1 is expected",)


def _fault(part: Part, data: DataSet) -> str:
    """What is wrong with one split, or ""."""
    inputs, targets = part.inputs, part.targets
    if not isinstance(inputs, Tensor) or not isinstance(targets, Tensor):
        return f"inputs and targets are {type(inputs).__name__} and {type(targets).__name__}, and must be tensors"
    if inputs.dim() == 0 or targets.dim() == 0 or len(inputs) != len(targets) or len(targets) == 0:
        return f"inputs have the shape {tuple(inputs.shape)}, targets {tuple(targets.shape)}"
    if inputs.is_floating_point() and not bool(torch.isfinite(inputs).all()):
        return "some inputs are NaN or infinite"
    if data.task != CLASSIFICATION:
        return ""
    if targets.dim() != 1 or targets.dtype != torch.long:
        return f"targets are {targets.dtype} of shape {tuple(targets.shape)}, and must be int64 of shape (n,)"
    if int(targets.min()) < 0 or int(targets.max()) >= len(data.classes):
        return (
            f"targets go from {int(targets.min())} to {int(targets.max())}, and there are {len(data.classes)} classes"
        )
    return ""
