"""Data sets: images with labels, variants as part of the name, fixed stratified splits."""

from popgen.data.datasets import DataSet, Part, load_data
from popgen.data.describe import describe
from popgen.data.variants import VARIANTS

__all__ = ["VARIANTS", "DataSet", "Part", "describe", "load_data"]
