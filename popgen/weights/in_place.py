"""Tensors that many workers read in place: they are pickled as numpy arrays, which Ray keeps once on a machine."""

from __future__ import annotations

import warnings
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import Tensor


class InPlace:
    """A base class of dataclasses whose tensors are so pickled; what is unpickled is not to be written to."""

    def __getstate__(self) -> dict[str, Any]:
        values = {one.name: getattr(self, one.name) for one in fields(self)}  # type: ignore[arg-type]
        return {name: one.numpy(force=True) if isinstance(one, Tensor) else one for name, one in values.items()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update({k: in_place(one) if isinstance(one, np.ndarray) else one for k, one in state.items()})


def in_place(array: np.ndarray) -> Tensor:
    """A tensor of the same memory, which nobody writes to: read-only where it belongs to Ray's store."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array)
