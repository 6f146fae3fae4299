"""The codes of a generator as one more codec. The generator lies in the archive, in the folder `generator`.

Generators are made from zoos, so this module knows them only by the reference of the function that loads their codec.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from popgen.refs import load_attr
from popgen.zoo.archive.codecs.codec import Codec
from popgen.zoo.archive.codecs.table import CODECS

GENERATED = "generator"
FOLDER = "generator"
_LOADER = "popgen.generator.archive.codes:load_codes"
_KEPT = 8  # architectures whose codec stays loaded


class Codes(Protocol):
    """What an archive asks of a generator."""

    def codec(self, arch: str, fingerprint: str) -> Codec | None:
        """The codec of an architecture; None if the generator was not trained on it, with these very tensors."""

    def save(self, folder: Path) -> int:
        """Write what decoding needs and return its size in bytes."""


def codecs_of(folder: Path, arch: str) -> Mapping[str, Codec]:
    """All codecs, with that of the generator in an archive's folder.

    Raises:
        NotFound, BrokenFile: the generator is not there, is damaged, or does not know the architecture.
    """
    return {**CODECS, GENERATED: _load(folder.resolve() / FOLDER, arch)}


@lru_cache(maxsize=_KEPT)
def _load(folder: Path, arch: str) -> Codec:
    codec: Codec = load_attr(_LOADER)(folder, arch)
    return codec
