"""Codes of a generator as a codec of archives: a network as its latent and residual code, which the generator decodes.

Decoding runs in double precision on the CPU, and weights are rounded to the precision of float16, so that other machines, whose sums have another
order, get the same bits.
"""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from popgen.generator.generator import Generator
from popgen.zoo.archive.codecs.codec import NEVER, Values
from popgen.zoo.archive.codecs.layout import Layout
from popgen.zoo.archive.codecs.sections import Sections, pack
from popgen.zoo.archive.generated import GENERATED

_LARGEST = 60_000.0  # a float16 holds a little more


class GeneratorCodes:
    """The codec `generator` for one architecture, which the generator was trained on."""

    name = GENERATED
    base_use = NEVER

    def __init__(self, generator: Generator, arch: str) -> None:
        self._generator, self._arch = generator, arch
        self._exact = copy.deepcopy(generator).double()
        self._exact.vae.forget_layouts()

    def encode(self, layout: Layout, flat: Values, base: Values | None) -> bytes:
        """The code that the encoder gives, without fitting it; see `Codec`."""
        weights = torch.from_numpy(flat)[None]
        latents = self._generator.encode(self._arch, weights)
        latents = latents.half().float()
        residual = self._generator.residual(self._arch, weights, latents)
        code = torch.cat([latents.flatten(), residual.flatten()]).clamp(-_LARGEST, _LARGEST)
        return pack([code.numpy().astype("<f2").tobytes()])

    @torch.no_grad()
    def decode(self, layout: Layout, packed: bytes, base: Values | None) -> Values:
        """See `Codec`."""
        shape, rank = self._exact.latent_shape, self._exact.residual_codes.shape[1]
        sections = Sections(packed)
        numbers = np.frombuffer(sections.take(2 * (shape[0] * shape[1] + rank)), dtype="<f2").astype(np.float64)
        sections.end()
        if not np.isfinite(numbers).all():
            raise ValueError("a code holds NaN or infinity")
        latent, residual = torch.from_numpy(numbers).split([shape[0] * shape[1], rank])
        flat: Tensor = self._exact.restore(self._arch, latent.view(1, *shape), residual[None])[0]
        found = flat.numpy()
        if found.shape != (layout.size,) or not np.isfinite(found).all():
            raise ValueError(f"the generator decodes {found.shape} values, of which some may not be finite")
        return np.clip(found, -_LARGEST, _LARGEST).astype(np.float16).astype(np.float32)


def load_codes(folder: Path, arch: str) -> GeneratorCodes:
    """The codec of an architecture, from the generator in a folder.

    Raises:
        NotFound, BrokenFile: the folder holds no generator, or it does not know the architecture.
    """
    generator = Generator.from_pretrained(folder)
    generator.spec(arch)
    return GeneratorCodes(generator, arch)


class ArchiveCodes:
    """A generator for an archive; see `popgen.zoo.archive.generated.Codes`."""

    def __init__(self, generator: Generator) -> None:
        generator.check_latents()
        self._generator = generator

    def codec(self, arch: str, fingerprint: str) -> GeneratorCodes | None:
        """The codec of an architecture that the generator was trained on, with tensors of this fingerprint."""
        spec = self._generator.specs.get(arch)
        return GeneratorCodes(self._generator, arch) if spec is not None and spec.fingerprint == fingerprint else None

    def save(self, folder: Path) -> int:
        """Write the generator without the codes of its training checkpoints, and return its size in bytes."""
        bare = copy.deepcopy(self._generator)
        bare.records, bare.codes, bare.residual_codes = [], bare.codes[:0], bare.residual_codes[:0]
        bare.save_pretrained(folder)
        return sum(file.stat().st_size for file in folder.iterdir())
