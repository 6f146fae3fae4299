"""Data sets: labelled images with fixed stratified splits; variants and subsets are part of a data set's name.

The names below load their modules on first use, so that a wrong name can be refused before torch is imported.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from popgen.data.dataset import DataSet, Part
    from popgen.data.images.variants import VARIANTS
    from popgen.data.load import load_data

_PUBLIC = {
    "DataSet": "popgen.data.dataset",
    "Part": "popgen.data.dataset",
    "VARIANTS": "popgen.data.images.variants",
    "load_data": "popgen.data.load",
}

__all__ = [
    "VARIANTS",
    "DataSet",
    "Part",
    "load_data",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
