"""The generator: VAE, conditions and latent prior, their training, and the folder that is saved and loaded.

The names below load their modules on first use, because the workers of a search need only the decoder.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from popgen.configs.generator import GeneratorConfig
    from popgen.generator.decoder import Decoder
    from popgen.generator.generator import Code, Generator

_PUBLIC = {
    "Code": "popgen.generator.generator",
    "Decoder": "popgen.generator.decoder",
    "Generator": "popgen.generator.generator",
    "GeneratorConfig": "popgen.configs.generator",
}

__all__ = ["Code", "Decoder", "Generator", "GeneratorConfig"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
