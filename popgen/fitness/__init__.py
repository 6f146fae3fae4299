"""Finishes a candidate (batch norm, head, steps of SGD) and scores it on the validation split."""

from popgen.fitness.candidate import Fitness, Scored, scores_of
from popgen.fitness.heads import fit_ridge_head
from popgen.fitness.make import make_fitness
from popgen.fitness.objective import LatentObjective
from popgen.fitness.sgd import SgdSteps

__all__ = ["Fitness", "LatentObjective", "Scored", "SgdSteps", "fit_ridge_head", "make_fitness", "scores_of"]
