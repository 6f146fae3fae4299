"""Weights of one architecture as vectors: normalised, as tokens, aligned, mixed, transplanted, masked, quantised."""

from popgen.weights.scaling import Scaling
from popgen.weights.tokens import TokenLayout

__all__ = ["Scaling", "TokenLayout"]
