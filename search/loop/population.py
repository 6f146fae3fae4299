"""The population that a search starts from: its seeds, each a vector with an origin.

It is stored as one safetensors file: the tensor `vectors`, and the origins as JSON in the metadata.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ..errors import BrokenRecord, SearchError


@dataclass(frozen=True)
class Population:
    """Seeds of a search.

    `vectors` is (n, dim), float64 and finite. `origins` has one name for each row, such as "sampled" or the name of a
    checkpoint.

    Raises:
        SearchError: the shape is wrong, a number is not finite, or the numbers of vectors and origins differ.

    Example:
        >>> population = Population(np.array([[0.0, 2.0], [2.0, 4.0]]), ["sampled", "zoo/a"])
        >>> population.mean()
        array([1., 3.])
    """

    vectors: np.ndarray
    origins: list[str]

    def __post_init__(self) -> None:
        vectors = np.array(self.vectors, dtype=np.float64)
        if vectors.ndim != 2 or 0 in vectors.shape:
            raise SearchError(
                f"a population needs vectors of shape (n, dim), got {vectors.shape}\n"
                "a search starts from at least one seed of at least one coordinate\n"
                "pass a two-dimensional array, one row a seed"
            )
        if len(self.origins) != len(vectors):
            raise SearchError(
                f"a population of {len(vectors)} vectors has {len(self.origins)} origins\n"
                "every seed is recorded with the place it came from\n"
                "pass one origin a row"
            )
        bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(bad):
            raise SearchError(
                f"seeds {bad[:5].tolist()} of the population hold NaN or infinity\n"
                "the coordinates of the search are built from the seeds\n"
                "drop these rows before the search"
            )
        vectors.flags.writeable = False
        object.__setattr__(self, "vectors", vectors)

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def dim(self) -> int:
        """Length of each vector."""
        return int(self.vectors.shape[1])

    def mean(self) -> np.ndarray:
        """The average vector, (dim,)."""
        return np.asarray(self.vectors.mean(axis=0))

    def with_mean(self) -> Population:
        """The seeds in the order in which a search evaluates them: the mean first. A population of one is its own mean."""
        if len(self) == 1:
            return self
        return Population(np.vstack([self.mean(), self.vectors]), ["mean", *self.origins])

    def digest(self) -> str:
        """SHA-256 of the vectors as a hexadecimal string; populations with the same digest start the same search."""
        little_endian = np.ascontiguousarray(self.vectors, dtype="<f8")
        return hashlib.sha256(repr(little_endian.shape).encode() + little_endian.tobytes()).hexdigest()

    def save(self, path: str | Path) -> None:
        """Write a safetensors file; a crash leaves no incomplete one. `load` returns the same bits."""
        part = Path(f"{path}.part")
        content = save({"vectors": np.ascontiguousarray(self.vectors)}, {"origins": json.dumps(self.origins)})
        part.write_bytes(content)  # not with `save_file`, whose files other users may not read
        part.replace(path)

    @classmethod
    def load(cls, path: str | Path) -> Population:
        """Read a file that `save` wrote.

        Raises:
            BrokenRecord: the file is missing, or is not a saved population.
        """
        try:
            with safe_open(path, framework="np") as file:
                return cls(file.get_tensor("vectors"), json.loads(file.metadata()["origins"]))
        except (OSError, SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise BrokenRecord(
                f"{path} is not a saved population\n{type(error).__name__}: {error}\nwrite one with Population.save"
            ) from error
