"""Finishes a candidate (batch norm, head, steps of SGD) and scores it on the validation split.

The names below load their modules on first use, so that a wrong name can be refused before torch is imported.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from popgen.fitness.candidate import Fitness, Scored, scores_of
    from popgen.fitness.heads import fit_ridge_head
    from popgen.fitness.make import make_fitness
    from popgen.fitness.objective import LatentObjective
    from popgen.fitness.sgd import SgdSteps

_PUBLIC = {
    "Fitness": "popgen.fitness.candidate",
    "LatentObjective": "popgen.fitness.objective",
    "Scored": "popgen.fitness.candidate",
    "SgdSteps": "popgen.fitness.sgd",
    "fit_ridge_head": "popgen.fitness.heads",
    "make_fitness": "popgen.fitness.make",
    "scores_of": "popgen.fitness.candidate",
}

__all__ = [
    "Fitness",
    "LatentObjective",
    "Scored",
    "SgdSteps",
    "fit_ridge_head",
    "make_fitness",
    "scores_of",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
