"""Training a generator, stage by stage: VAE, data set encoder, prior, and all of it on behaviour."""

from popgen.generator.training.train import train_generator

__all__ = ["train_generator"]
