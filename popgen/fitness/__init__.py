"""Finishes a candidate (batch norm, head, steps of SGD) and scores it on the validation split.

The names below load their modules on first use, so that a wrong name can be refused before torch is imported.
"""

from typing import TYPE_CHECKING

from popgen.lazy import lazy

if TYPE_CHECKING:
    from popgen.fitness.candidate import Fitness, Scored, scores_of, scores_under
    from popgen.fitness.heads import fit_ridge_head
    from popgen.fitness.make import make_fitness
    from popgen.fitness.objective import LatentObjective
    from popgen.fitness.sgd import SgdSteps


__all__ = [
    "Fitness",
    "LatentObjective",
    "Scored",
    "SgdSteps",
    "fit_ridge_head",
    "make_fitness",
    "scores_of",
    "scores_under",
]

__getattr__ = lazy(
    __name__,
    {
        "popgen.fitness.candidate": ["Fitness", "Scored", "scores_of", "scores_under"],
        "popgen.fitness.heads": ["fit_ridge_head"],
        "popgen.fitness.make": ["make_fitness"],
        "popgen.fitness.objective": ["LatentObjective"],
        "popgen.fitness.sgd": ["SgdSteps"],
    },
)
