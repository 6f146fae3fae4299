"""The generator: VAE, conditions, latent prior, their training, and the bundle that is saved and loaded."""

from popgen.generator.bundle import Code, Generator
from popgen.generator.config import GeneratorConfig

__all__ = ["Code", "Generator", "GeneratorConfig"]
