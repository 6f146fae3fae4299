"""Data sets: labelled images or texts with fixed stratified splits; variants and subsets are part of a data set's name.

The names below load their modules on first use, so that a wrong name can be refused before torch is imported.
"""

from typing import TYPE_CHECKING

from popgen.lazy import lazy

if TYPE_CHECKING:
    from popgen.data.dataset import DataSet, Part
    from popgen.data.description import describe
    from popgen.data.images.variants import VARIANTS
    from popgen.data.load import load_data


__all__ = [
    "VARIANTS",
    "DataSet",
    "Part",
    "describe",
    "load_data",
]

__getattr__ = lazy(
    __name__,
    {
        "popgen.data.dataset": ["DataSet", "Part"],
        "popgen.data.description": ["describe"],
        "popgen.data.images.variants": ["VARIANTS"],
        "popgen.data.load": ["load_data"],
    },
)
