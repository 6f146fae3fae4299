"""Data sets: labelled images with fixed stratified splits; variants and subsets are part of a data set's name."""

from popgen.data.dataset import DataSet, Part
from popgen.data.describe import describe
from popgen.data.images.variants import VARIANTS
from popgen.data.load import load_data

__all__ = ["VARIANTS", "DataSet", "Part", "describe", "load_data"]
