"""The generator: VAE, conditions, latent prior, their training, and the bundle that is saved and loaded.

The names below load their modules on first use: a search's workers need the decoder alone.
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
