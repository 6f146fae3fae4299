"""Data sets: images with labels, variants as part of the name, fixed stratified splits."""

from popgen.data.describe import describe
from popgen.data.images.variants import VARIANTS
from popgen.data.load import DataSet, Part, load_data

__all__ = ["VARIANTS", "DataSet", "Part", "describe", "load_data"]
