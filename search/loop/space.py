"""The space of a search: coordinates u in which the optimizer moves, with the vector centre + u @ basis.

In the spaces `std` and `pca` the seeds have unit spread, so that an optimizer needs no scale of its own. `identity`
keeps the axes and units of the vectors. `std` scales each coordinate by the seeds' standard deviation. `pca` keeps only
the principal components of the seeds. `auto` is pca if the components are at most half as many as the coordinates, and
those of one half of the seeds explain the other half; otherwise it is std.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np

from ..errors import UnknownName
from .population import Population

SPACES = ("identity", "std", "pca", "auto")
# Most principal components. A few hundred evaluations are about 25 generations of CMA, enough for 32 coordinates.
MAX_DIM = 32
VARIANCE_KEPT = 0.99  # share of the seeds' variance that the principal components explain
# Share of one half's variance that the components of the other half must explain. If the seeds fill all directions it
# is about n / (2 dim) for n seeds; if they lie in a subspace of few dimensions it is nearly 1.
AUTO_EXPLAINED = 0.8
AUTO_MIN_SEEDS = 8  # fewer seeds do not show whether components generalise
# Most components as a share of the coordinates. As many components as coordinates leave nothing out, and their lengths
# are half chance: with 16 coordinates and 40 seeds CMA ends with twice the loss that it reaches with std.
AUTO_MAX_SHARE = 0.5
# Least spread of a coordinate, as a share of the typical one: a coordinate in which all seeds agree may still move.
SPREAD_FLOOR = 0.1


@dataclass(frozen=True)
class Space:
    """An affine map from coordinates (dim,) to vectors (vector_dim,).

    `centre` is (vector_dim,); `basis` is (dim, vector_dim), or (dim,) if it is diagonal. `reason` says why the space
    was chosen.

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
        """Return the vector (vector_dim,) at `coordinates` (dim,)."""
        if self.basis.ndim == 1:
            return np.asarray(self.centre + coordinates * self.basis)
        return np.asarray(self.centre + coordinates @ self.basis)

    def to_coordinates(self, vector: np.ndarray) -> np.ndarray:
        """Return the coordinates (dim,) of the point nearest to `vector` in least squares."""
        if self.basis.ndim == 1:
            return np.asarray((vector - self.centre) / self.basis)
        return np.asarray(np.linalg.lstsq(self.basis.T, vector - self.centre, rcond=None)[0])


def make_space(
    name: str, population: Population, losses: Sequence[float | None] | None = None, *, max_dim: int = MAX_DIM
) -> Space:
    """Build the named space around a population.

    Args:
        losses: one for each row, None or not finite for a failure. With them the centre is the rank-weighted mean of
            the better half of the population, without them the plain mean.
        max_dim: most components of pca.

    Raises:
        UnknownName: there is no such space.

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
    """Refuse a name that is not among `SPACES`.

    Raises:
        UnknownName: there is no such space.
    """
    if name not in SPACES:
        near = get_close_matches(name, SPACES, n=3) or list(SPACES)
        raise UnknownName(
            f"unknown space {name!r}\n"
            f"the coordinates of a search are one of: {', '.join(SPACES)}\n"
            f"did you mean: {', '.join(near)}?"
        )


def rank_weights(count: int) -> np.ndarray:
    """Return the weights (count,) that CMA-ES gives to its parents, best first; they sum to 1."""
    weights = np.log(count + 0.5) - np.log(np.arange(1, count + 1))
    return np.asarray(weights / weights.sum())


def _better_half_mean(vectors: np.ndarray, losses: Sequence[float | None] | None) -> np.ndarray:
    """Rank-weighted mean (vector_dim,) of the better half of the rows; the plain mean if there are no losses."""
    if losses is None:
        return np.asarray(vectors.mean(axis=0))
    known = np.array([np.inf if loss is None or not np.isfinite(loss) else loss for loss in losses])
    order = np.argsort(known, kind="stable")[: int(np.isfinite(known).sum())]
    if not len(order):
        return np.asarray(vectors.mean(axis=0))
    better = order[: (len(order) + 1) // 2]
    # Not a matrix product, whose last digits depend on the number of threads of the linear algebra library.
    return np.asarray((rank_weights(len(better))[:, None] * vectors[better]).sum(axis=0))


def _floored_spread(vectors: np.ndarray) -> np.ndarray:
    """Standard deviation of each coordinate, but at least SPREAD_FLOOR of the root mean square of all of them."""
    spread = vectors.std(axis=0, ddof=1)
    return np.asarray(np.maximum(spread, SPREAD_FLOOR * np.sqrt(np.mean(spread**2))))


def _components(vectors: np.ndarray, max_dim: int) -> np.ndarray:
    """Principal directions, each times the seeds' standard deviation along it: (components, vector_dim)."""
    singular, directions = principal_directions(vectors)
    share = np.cumsum(singular**2) / np.sum(singular**2)
    keep = min(int(np.searchsorted(share, VARIANCE_KEPT)) + 1, max_dim, len(singular))
    return np.asarray(directions[:keep] * (singular[:keep] / np.sqrt(len(vectors) - 1))[:, None])


def principal_directions(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Singular values (k,) of the vectors (n, dim) around their mean, and the principal directions (k, dim).

    The largest weight of each direction is positive, because its sign differs between libraries.
    """
    _, singular, directions = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    largest = np.abs(directions).argmax(axis=1)
    return singular, directions * np.sign(directions[np.arange(len(directions)), largest])[:, None]


def _choose(vectors: np.ndarray, max_dim: int) -> tuple[str, str]:
    """Choose between std and pca; return the name and the reason."""
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
    """Share of the variance of `held_out` that the principal components of `train` explain, 0 to 1."""
    centred = held_out - held_out.mean(axis=0)
    total = float(np.sum(centred**2))
    if total == 0 or not np.ptp(train, axis=0).any():
        return 0.0
    basis = _components(train, max_dim)
    directions = basis / np.linalg.norm(basis, axis=1, keepdims=True)
    return float(np.sum((centred @ directions.T) ** 2)) / total
