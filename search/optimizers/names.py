"""The names of the optimizers, and what can be refused of them without importing Nevergrad, which takes a second."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from ..errors import SearchError, UnknownOptimizer
from .feedback import Seeds

OPTIMIZERS = ("CMA", "DiagonalCMA", "DE", "TwoPointsDE", "PSO", "OnePlusOne", "TBPSA", "NGOpt", "RandomSearch")
_CMA = ("CMA", "DiagonalCMA")


def check_optimizer(name: str, dim: int | None = None, batch: int | None = None, objectives: int = 1) -> None:
    """Refuse an optimizer that `make_optimizer` cannot make, before anything is evaluated.

    `dim` and `batch` are None as long as they are not known.

    Raises:
        UnknownOptimizer: there is no such optimizer, or it cannot search so many coordinates in such batches.
        SearchError: the number of objectives is below 1.
    """
    if objectives < 1:
        raise SearchError(
            f"{objectives} objectives\na search minimises at least one\nset objectives to 1, or to the number of losses"
        )
    if ":" in name:
        import_optimizer(name)
    elif name not in OPTIMIZERS:
        near = get_close_matches(name, OPTIMIZERS, n=3, cutoff=0.4) or list(OPTIMIZERS)
        raise UnknownOptimizer(
            f"unknown optimizer {name!r}\n"
            f"known are {', '.join(OPTIMIZERS)}, and your own as module:name\n"
            f"did you mean: {', '.join(near)}?"
        )
    elif name == "NGOpt" and dim is not None and batch is not None:
        from ._nevergrad import ngopt_choice  # noqa: PLC0415 - only Nevergrad knows what NGOpt chooses

        ngopt_choice(dim, batch)


def optimizer_for(name: str, dim: int) -> str:
    """Return the optimizer that searches `dim` coordinates: the named one, or TBPSA in the place of CMA for a single one.

    pycma takes two or more. In one there is no covariance to adapt, and TBPSA adapts a mean and a step as CMA does. On sixty
    functions of one coordinate the worst result of 60 evaluations was 0.14 above the optimum; with OnePlusOne 0.66, with
    PSO 0.52, with DE 0.94.

    Example:
        >>> optimizer_for("CMA", 2), optimizer_for("CMA", 1), optimizer_for("DE", 1)
        ('CMA', 'TBPSA', 'DE')
    """
    return "TBPSA" if dim == 1 and name in _CMA else name


def import_optimizer(name: str) -> Callable[[int, int, int, Seeds], Any]:
    """Import the callable that MODULE:NAME names.

    Raises:
        UnknownOptimizer: it cannot be imported, or is not callable.
    """
    module, _, attribute = name.partition(":")
    try:
        made = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UnknownOptimizer(
            f"optimizer {name!r} cannot be imported\n"
            f"{type(error).__name__}: {error}\n"
            "write it as module:name, and run where `python -c 'import module'` works"
        ) from error
    if not callable(made):
        raise UnknownOptimizer(
            f"optimizer {name!r} is a {type(made).__name__}\n"
            "it must be callable as (dim, batch, seed, seeds)\n"
            "name a function or a class"
        )
    factory: Callable[[int, int, int, Seeds], Any] = made
    return factory
