"""Layout: the tensors of a network as matrices, which is all that a codec knows of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from popgen.archs import ArchSpec
from popgen.json_text import json_text

_MOST_PARTS = 100_000  # tensors of a network; the largest published ones have a few thousand
_MOST_VALUES = 2**40


@dataclass(frozen=True)
class Part:
    """One tensor as a matrix: a row for each output channel, or a single row for a vector."""

    rows: int
    columns: int
    is_variance: bool = False  # a running variance, which must not be negative

    @property
    def size(self) -> int:
        """Number of values."""
        return self.rows * self.columns


@dataclass(frozen=True)
class Layout:
    """The tensors of a network, in the order in which its flat vector (p,) holds them.

    >>> layout = Layout((Part(2, 3), Part(1, 2)))
    >>> layout.size, layout.is_matrix.tolist(), layout.channels(matrices=True).tolist()
    (8, [True, True, True, True, True, True, False, False], [3, 3])
    """

    parts: tuple[Part, ...]

    @classmethod
    def of(cls, spec: ArchSpec) -> Layout:
        """The layout of an architecture."""
        parts = []
        for tensor in spec.tensors:
            rows = tensor.shape[0] if len(tensor.shape) > 1 and tensor.size else 1
            parts.append(Part(rows, tensor.size // rows, tensor.kind == "norm_var"))
        return cls(tuple(parts))

    @cached_property
    def size(self) -> int:
        """Number of values p."""
        return sum(part.size for part in self.parts)

    @cached_property
    def is_matrix(self) -> NDArray[np.bool_]:
        """Whether each value (p,) belongs to a matrix of more than one row."""
        return self._each([part.rows > 1 for part in self.parts])

    @cached_property
    def is_variance(self) -> NDArray[np.bool_]:
        """Whether each value (p,) is a running variance."""
        return self._each([part.is_variance for part in self.parts])

    def channels(self, *, matrices: bool) -> NDArray[np.int64]:
        """Number of values of each channel of all matrices, or of each vector."""
        chosen = [part for part in self.parts if (part.rows > 1) == matrices]
        return np.repeat(np.array([p.columns for p in chosen], dtype=np.int64), [p.rows for p in chosen])

    def to_json(self) -> str:
        """The layout as JSON, in which a tensor is a list [rows, columns, is a variance]."""
        return json_text([[part.rows, part.columns, int(part.is_variance)] for part in self.parts])

    @classmethod
    def from_json(cls, content: object) -> Layout:
        """The inverse of `to_json`, of JSON that was read.

        Raises:
            ValueError: it is no layout.
        """
        if not isinstance(content, list) or len(content) > _MOST_PARTS:
            raise ValueError("its layout is not a list of tensors")
        parts = []
        for entry in content:
            if not (isinstance(entry, list) and len(entry) == 3 and all(type(x) is int and x >= 0 for x in entry)):
                raise ValueError(f"its layout has the entry {str(entry)[:40]!r}, not rows, columns and 0 or 1")
            if not entry[0] or (entry[0] > 1 and not entry[1]):
                raise ValueError(f"its layout has the entry {str(entry)[:40]!r}, which holds no values")
            parts.append(Part(entry[0], entry[1], bool(entry[2])))
        layout = cls(tuple(parts))
        if layout.size > _MOST_VALUES:
            raise ValueError(f"its layout has {layout.size} values")
        return layout

    def _each(self, values: list[bool]) -> NDArray[np.bool_]:
        return np.repeat(np.array(values, dtype=bool), [part.size for part in self.parts])
