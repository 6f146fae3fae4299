"""Weights in the form that a generator learns: scaled differences from a reference, cut into tokens with positions."""

from popgen.weights.scaling import Scaling
from popgen.weights.tokens import TokenLayout

__all__ = ["Scaling", "TokenLayout"]
