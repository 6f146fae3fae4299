"""The generator: VAE, conditions and latent prior, their training, and the folder that is saved and loaded.

The names below load their modules on first use, because the workers of a search need only the decoder.
"""

from typing import TYPE_CHECKING

from popgen.lazy import lazy

if TYPE_CHECKING:
    from popgen.configs.generator import GeneratorConfig
    from popgen.generator.decoder import Decoder
    from popgen.generator.generator import Code, Generator


__all__ = ["Code", "Decoder", "Generator", "GeneratorConfig"]

__getattr__ = lazy(
    __name__,
    {
        "popgen.configs.generator": ["GeneratorConfig"],
        "popgen.generator.decoder": ["Decoder"],
        "popgen.generator.generator": ["Code", "Generator"],
    },
)
