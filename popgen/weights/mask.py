"""Masks for networks of which only some tensors are generated; the others come from one checkpoint, the base."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.archs.names import brings_weights
from popgen.archs.outside import pretrained_state
from popgen.errors import BadInput, BrokenFile, NotFound, brief, near_matches
from popgen.types import Flat, StateDict
from popgen.weights.in_place import InPlace


@dataclass(frozen=True)
class Mask(InPlace):
    """The values of one architecture that are generated, and the base that supplies all others."""

    generated: Tensor  # (p,), True where a value is generated
    base: Tensor  # (p,), weights of the base
    sha256: str  # checksum of the base's file

    def compose(self, weights: Flat) -> Flat:
        """Return the networks `weights` (n, p) with the base's values wherever nothing is generated.

        >>> mask = Mask(torch.tensor([True, False]), torch.tensor([7.0, 7.0]), "")
        >>> mask.compose(torch.tensor([[1.0, 2.0]])).tolist()
        [[1.0, 7.0]]
        """
        return torch.where(self.generated, weights, self.base)

    def fixed(self, spec: ArchSpec) -> StateDict:
        """Return the base's tensors in which no value is generated, by name."""
        generated, base = (spec.to_state(flat) for flat in (self.generated, self.base))
        return {tensor.name: base[tensor.name] for tensor in spec.tensors if not bool(generated[tensor.name].any())}

    def trained(self, spec: ArchSpec) -> list[str]:
        """Return the names of the tensors that are generated and that gradients can train."""
        generated = spec.to_state(self.generated)
        trainable = [t.name for t in spec.tensors if t.kind not in ("norm_mean", "norm_var")]
        return [name for name in trainable if bool(generated[name].any())]

    def to(self, device: str) -> Mask:
        """Return a copy on another device."""
        return replace(self, generated=self.generated.to(device), base=self.base.to(device))


def check_mask(archs: Sequence[str], patterns: Sequence[str], base: str | None) -> None:
    """Check that the options --parts, --base and --arch go together, before any file is read.

    Args:
        archs: names of the requested architectures.
        patterns: values of --parts, see `read_mask`.
        base: path of the base's file.

    Raises:
        BadInput: there are parts without a base, a base without parts, or a base with several architectures.
    """
    if patterns and base is None:
        raise BadInput(
            f"--parts {','.join(patterns)} needs a base",
            "the tensors that are not generated come from a checkpoint",
            "Give it with --base FILE.safetensors.",
        )
    if base is not None and not patterns:
        raise BadInput(
            f"--base {base} needs parts",
            "without parts all tensors are generated and none is taken from the base",
            "Name them with --parts, for example --parts head.",
        )
    if base is not None and len(archs) > 1:
        raise BadInput(
            f"--base {base} holds weights of one architecture, --arch names {len(archs)}: {', '.join(archs)}",
            "",
            "Name the architecture of the file.",
        )


def read_mask(spec: ArchSpec, patterns: Sequence[str], base: str) -> Mask:
    """Read the base and mark the tensors whose names match any of the patterns as generated.

    Args:
        patterns: `head` (the last linear layer) or globs of tensor names such as `conv*`. Running statistics of
            batch norm match, too.
        base: path of a safetensors file with a checkpoint of the architecture, or an architecture that brings weights: lm:BASE, hf:NAME.

    Raises:
        NotFound: there is no such file.
        BrokenFile: the file is not a safetensors file.
        BadInput: the file is of another architecture, or a pattern matches no tensor.
    """
    names = [tensor.name for tensor in spec.tensors]
    chosen: set[str] = set()
    for pattern in patterns:
        glob = f"{spec.head}.*" if pattern == "head" and spec.head else pattern
        matched = {name for name in names if fnmatchcase(name, glob)}
        if not matched:
            raise BadInput(
                f"no tensor of {spec.name!r} matches --parts {pattern!r}",
                f"nearest names: {near_matches(pattern, names)}",
                "Give head, a name, or a glob such as '*.bias'.",
            )
        chosen |= matched
    state, sha256 = _read_base(spec, base)
    mask = torch.cat([torch.full((tensor.size,), tensor.name in chosen) for tensor in spec.tensors])
    return Mask(mask, spec.to_flat(state), sha256)


def _read_base(spec: ArchSpec, base: str) -> tuple[StateDict, str]:
    """The state dict of a base, and its checksum."""
    if brings_weights(base):
        state = pretrained_state(base)
        spec.check(state, base)
        return state, hashlib.sha256(spec.to_flat(state).numpy().tobytes()).hexdigest()
    file = Path(base)
    if not file.is_file():
        raise NotFound(f"there is no file {base!r}", "--base names the checkpoint whose other tensors are kept", "")
    content = file.read_bytes()
    try:
        state = load(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise BrokenFile(
            f"{base} cannot be read as safetensors", brief(error), "Give a plain state dict saved with safetensors."
        ) from error
    spec.check(state, base)
    return state, hashlib.sha256(content).hexdigest()
