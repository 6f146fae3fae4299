"""Nevergrad's parametrization of a search, and its CMA, without the copies that take most of their time.

Nevergrad copies the parametrization with its layers, the parameters of its mutation and their random states, for each
candidate once and in CMA seven times. With the classes below a copy is one object and one array. The numbers are
computed by the same operations in the same order, so the candidates are the same to the last bit.
"""

from __future__ import annotations

import uuid
from typing import Any

import nevergrad as ng  # type: ignore[import-untyped]
import numpy as np
from nevergrad.optimization.optimizerlib import _CMA  # type: ignore[import-untyped]


class Coordinates(ng.p.Array):  # type: ignore[misc]
    """`dim` coordinates around the origin with steps of `sigma`, and with their own random numbers from `seed`."""

    def __init__(self, dim: int, seed: int, sigma: float) -> None:
        super().__init__(init=np.zeros(dim))
        self.set_mutation(sigma=sigma)
        self._step = self.sigma.value
        # No layer casts lists into arrays, and nothing changes with a candidate but its value.
        self._layers = [self]
        self._subobjects = _NOTHING
        self.random_state = np.random.RandomState(seed)

    def copy(self) -> Coordinates:
        """Return a copy that is not frozen, and has neither a loss nor what an algorithm has noted."""
        child: Coordinates = object.__new__(type(self))
        child.__dict__.update(self.__dict__)
        child.uid = uuid.uuid4().hex
        child._layers = [child]
        child._frozen = False
        child._meta = {}
        child.parents_uids = list(self.parents_uids)
        child.heritage = dict(self.heritage)
        child.loss = child._losses = None
        child._value = np.array(self._value, copy=True)
        return child

    def _internal_set_standardized_data(self, data: np.ndarray, reference: Coordinates) -> None:
        self._value = reference._step * (data + reference._to_reduced_space())

    def _to_reduced_space(self, value: np.ndarray | None = None) -> np.ndarray:
        return np.asarray((self._value if value is None else value) / self._step)


class _Nothing:
    """Stands for the parameters within a parameter where there are none."""

    def items(self) -> tuple[()]:
        return ()

    def apply(self, *_: Any, **__: Any) -> dict[Any, Any]:
        return {}


_NOTHING = _Nothing()


class QuickCMA(_CMA):  # type: ignore[misc]
    """Nevergrad's CMA, which does not look at every access of `es` whether the parametrization has bounds.

    Nor does it look whether pycma has stopped, and so never starts it anew.
    """

    @property
    def es(self) -> Any:
        """The strategy of pycma."""
        return super().es if self._es is None else self._es
