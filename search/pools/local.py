"""Evaluation in this process."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterable
from itertools import islice

from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from .many import evaluate_many
from .pool import Evaluation, Objective, Request


class LocalPool:
    """Evaluates in this process, one candidate after another.

    If the objective has `many`, `at_once` candidates are evaluated in one call of it.

    Example:
        >>> import numpy as np
        >>> from search import evaluate
        >>> evaluate(LocalPool(lambda vector: float(vector @ vector)), [np.array([1.0, 2.0])])[0].loss
        5.0
    """

    size = 1

    def __init__(self, objective: Objective, *, at_once: int = 1) -> None:
        self._objective = objective
        self._at_once = at_once
        self._libraries: ThreadpoolController | None = None
        self._modules = 0  # how many were imported when the libraries of linear algebra were last looked for

    def completed(self, requests: Iterable[Request], ahead: int = 0) -> Generator[tuple[int, Evaluation], None, None]:
        """Yield (index of the request, evaluation) in the order of the requests; `ahead` has no effect."""
        controller = self._controller()
        waiting = iter(requests)
        index = 0
        while taken := list(islice(waiting, self._at_once)):
            with controller.limit(limits=1):
                evaluations = evaluate_many(self._objective, taken, self._at_once)
            for evaluation in evaluations:
                yield index, evaluation
                index += 1

    def _controller(self) -> ThreadpoolController:
        """The libraries of linear algebra whose threads are limited.

        To find them takes as long as several evaluations, so they are looked for again only when modules have been
        imported since, because that is what loads libraries.
        """
        if self._libraries is None or self._modules != len(sys.modules):
            self._libraries, self._modules = ThreadpoolController(), len(sys.modules)
        return self._libraries

    def close(self) -> None:
        """Do nothing: this pool starts neither processes nor threads."""
