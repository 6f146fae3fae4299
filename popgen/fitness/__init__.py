"""What a candidate is worth: decode, repair (batch norm, head), score on the validation split."""

from popgen.fitness.candidate import Fitness, Score, make_fitness
from popgen.fitness.heads import fit_ridge_head
from popgen.fitness.objective import LatentObjective
from popgen.fitness.sgd import SgdSteps

__all__ = ["Fitness", "LatentObjective", "Score", "SgdSteps", "fit_ridge_head", "make_fitness"]
