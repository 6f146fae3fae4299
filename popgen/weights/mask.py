"""Masks: only some tensors of a network are generated, and the others are those of a checkpoint, the base."""

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
from popgen.errors import BadInput, BrokenFile, NotFound, brief, near_matches
from popgen.types import Flat, StateDict


@dataclass(frozen=True)
class Mask:
    """The values of an architecture that are generated, and the base that has the other values."""

    generated: Tensor  # (p,), True where a value is generated
    base: Tensor  # (p,)
    sha256: str  # hash of the base's file

    def compose(self, weights: Flat) -> Flat:
        """Return the networks `weights` (n, p) with the base's values outside the mask.

        >>> mask = Mask(torch.tensor([True, False]), torch.tensor([7.0, 7.0]), "")
        >>> mask.compose(torch.tensor([[1.0, 2.0]])).tolist()
        [[1.0, 7.0]]
        """
        return torch.where(self.generated, weights, self.base)

    def fixed(self, spec: ArchSpec) -> StateDict:
        """Return the tensors, by name, that the mask leaves entirely to the base."""
        masks, base = (spec.to_state(one) for one in (self.generated, self.base))
        return {tensor.name: base[tensor.name] for tensor in spec.tensors if not bool(masks[tensor.name].any())}

    def to(self, device: str) -> Mask:
        """Return a copy on another device."""
        return replace(self, generated=self.generated.to(device), base=self.base.to(device))


def check_mask(archs: Sequence[str], patterns: Sequence[str], base: str | None) -> None:
    """Check that the options fit together, before any file is read.

    Raises:
        BadInput: there are parts without a base, a base without parts, or several architectures with a base.
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
            "without them all tensors are generated and none is taken from it",
            "Name them with --parts, for example --parts head.",
        )
    if base is not None and len(archs) > 1:
        raise BadInput(
            f"--base {base} is of one architecture, --arch names {len(archs)}: {', '.join(archs)}",
            "",
            "Name the one that the file was made with.",
        )


def read_mask(spec: ArchSpec, patterns: Sequence[str], base: str) -> Mask:
    """Make the mask of the tensors that match a pattern; the base is read from a safetensors file.

    Args:
        patterns: `head` (the last linear layer), or globs of tensors' names such as `conv*`. Batch norm's running
            statistics are tensors like others.
        base: path of the base's file.

    Raises:
        NotFound: the file does not exist.
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
    mask = torch.cat([torch.full((tensor.size,), tensor.name in chosen) for tensor in spec.tensors])
    return Mask(mask, spec.to_flat(state), hashlib.sha256(content).hexdigest())
