"""Coordinates in which the optimizer moves: an affine map u -> centre + u @ basis around the seeds.

In these coordinates the seeds have unit spread, so that an optimizer needs no scale of its own. `identity` keeps the
vector's own axes and units; `std` scales each coordinate by the seeds' spread; `pca` keeps only the seeds' principal
components; `auto` takes pca where these are fewer than half the coordinates, and components learned on one half of the
seeds explain the other half, else std.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np

from ..errors import UnknownName
from .population import Population

SPACES = ("identity", "std", "pca", "auto")
# A budget of a few hundred evaluations is about 25 generations of CMA, which is what 32 coordinates can use.
MAX_DIM = 32
VARIANCE_KEPT = 0.99
# On seeds that fill all directions, half of them explain about n / 2 dim of the rest; on a sheet nearly everything.
AUTO_EXPLAINED = 0.8
AUTO_MIN_SEEDS = 8
# As many components as coordinates leave nothing out, and their lengths are half chance: on 16 coordinates and 40 seeds
# CMA ends two times worse than with std.
AUTO_MAX_SHARE = 0.5
# A coordinate on which all seeds agree may still move, at a tenth of the typical spread.
SPREAD_FLOOR = 0.1


@dataclass(frozen=True)
class Space:
    """An affine map. `basis` is (dim, vector_dim), or (dim,) where it is diagonal.

    Example:
        >>> space = Space("std", "given", np.array([1.0, 1.0]), np.array([2.0, 4.0]))
        >>> space.to_vector(np.array([1.0, 0.5]))
        array([3., 3.])
    """

    name: str
    reason: str
    centre: np.ndarray
    basis: np.ndarray

    @property
    def dim(self) -> int:
        """Number of coordinates."""
        return int(self.basis.shape[0])

    def to_vector(self, coordinates: np.ndarray) -> np.ndarray:
        """The vector (vector_dim,) at `coordinates` (dim,)."""
        if self.basis.ndim == 1:
            return np.asarray(self.centre + coordinates * self.basis)
        return np.asarray(self.centre + coordinates @ self.basis)

    def to_coordinates(self, vector: np.ndarray) -> np.ndarray:
        """The coordinates (dim,) nearest to `vector` in least squares."""
        if self.basis.ndim == 1:
            return np.asarray((vector - self.centre) / self.basis)
        return np.asarray(np.linalg.lstsq(self.basis.T, vector - self.centre, rcond=None)[0])


def make_space(
    name: str, population: Population, losses: Sequence[float | None] | None = None, *, max_dim: int = MAX_DIM
) -> Space:
    """Build the named space around a population.

    With `losses` (one a row, None or non-finite for a failure) the centre is the rank-weighted mean of the better half,
    else the plain mean. `max_dim` bounds the components of pca.

    Raises:
        UnknownName: unknown name.

    Example:
        >>> seeds = Population(np.array([[0.0, 0.0], [2.0, 4.0]]), ["a", "b"])
        >>> make_space("std", seeds).centre
        array([1., 2.])
    """
    check_space(name)
    vectors = population.vectors
    centre = _better_half_mean(vectors, losses)
    reason = "as asked"
    if name == "auto":
        name, reason = _choose(vectors, max_dim)
    if name == "identity":
        return Space(name, reason, centre, np.ones(population.dim))
    if not np.ptp(vectors, axis=0).any():
        return Space("identity", "the seeds are all the same: no spread to scale by", centre, np.ones(population.dim))
    if name == "std":
        return Space(name, reason, centre, _floored_spread(vectors))
    return Space(name, reason, centre, _components(vectors, max_dim))


def check_space(name: str) -> None:
    """Refuse a name that `make_space` does not know.

    Raises:
        UnknownName: unknown name.
    """
    if name not in SPACES:
        near = get_close_matches(name, SPACES, n=3) or list(SPACES)
        raise UnknownName(
            f"unknown space {name!r}\n"
            f"the coordinates of a search are one of: {', '.join(SPACES)}\n"
            f"did you mean: {', '.join(near)}?"
        )


def rank_weights(count: int) -> np.ndarray:
    """The weights (count,) that CMA gives to its parents, best first; they sum to 1."""
    weights = np.log(count + 0.5) - np.log(np.arange(1, count + 1))
    return np.asarray(weights / weights.sum())


def _better_half_mean(vectors: np.ndarray, losses: Sequence[float | None] | None) -> np.ndarray:
    if losses is None:
        return np.asarray(vectors.mean(axis=0))
    worth = np.array([np.inf if loss is None or not np.isfinite(loss) else loss for loss in losses])
    order = np.argsort(worth, kind="stable")[: int(np.isfinite(worth).sum())]
    if not len(order):
        return np.asarray(vectors.mean(axis=0))
    better = order[: (len(order) + 1) // 2]
    # A product by hand: its result does not depend on the number of threads of the linear algebra library.
    return np.asarray((rank_weights(len(better))[:, None] * vectors[better]).sum(axis=0))


def _floored_spread(vectors: np.ndarray) -> np.ndarray:
    spread = vectors.std(axis=0, ddof=1)
    return np.asarray(np.maximum(spread, SPREAD_FLOOR * np.sqrt(np.mean(spread**2))))


def _components(vectors: np.ndarray, max_dim: int) -> np.ndarray:
    """Principal directions times the seeds' standard deviation along them, (components, dim)."""
    _, singular, directions = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    share = np.cumsum(singular**2) / np.sum(singular**2)
    keep = min(int(np.searchsorted(share, VARIANCE_KEPT)) + 1, max_dim, len(singular))
    directions = directions[:keep]
    largest = np.abs(directions).argmax(axis=1)
    signs = np.sign(directions[np.arange(keep), largest])  # the library is free to flip a direction; we are not
    return np.asarray(directions * (signs * singular[:keep] / np.sqrt(len(vectors) - 1))[:, None])


def _choose(vectors: np.ndarray, max_dim: int) -> tuple[str, str]:
    if len(vectors) < AUTO_MIN_SEEDS:
        return "std", f"{len(vectors)} seeds are too few to tell principal components from chance"
    halves = (vectors[0::2], vectors[1::2])
    shares = [_explained(one, other, max_dim) for one, other in (halves, halves[::-1])]
    explained = float(np.mean(shares))
    if explained >= AUTO_EXPLAINED and len(_components(vectors, max_dim)) > AUTO_MAX_SHARE * vectors.shape[1]:
        return "std", "the seeds fill more than half of the coordinates: components would leave nothing out"
    name = "pca" if explained >= AUTO_EXPLAINED else "std"
    return name, f"components of one half of the seeds explain {explained:.0%} of the other half"


def _explained(train: np.ndarray, held_out: np.ndarray, max_dim: int) -> float:
    centred = held_out - held_out.mean(axis=0)
    total = float(np.sum(centred**2))
    if total == 0 or not np.ptp(train, axis=0).any():
        return 0.0
    basis = _components(train, max_dim)
    directions = basis / np.linalg.norm(basis, axis=1, keepdims=True)
    return float(np.sum((centred @ directions.T) ** 2)) / total
