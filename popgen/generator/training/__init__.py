"""Training a generator on a zoo: six stages, the loop that runs them, and what is kept of an interrupted training."""

from popgen.generator.training.train import train_generator

__all__ = ["train_generator"]
