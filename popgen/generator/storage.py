"""Converts a generator's tensors to those in model.safetensors, and back.

Trained tensors are stored in half precision, which changes decoded weights by about 1e-3 of their scale. With `storage:
int8` the bases, which are most of a generator of large networks, are stored with one byte for each number and a scale
for each channel (popgen/weights/quantise.py). This changes the contribution of a basis to the weights by 0.7 %,
measured on generators of ResNet20 and ResNet56.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.weights import Scaling
from popgen.weights.quantise import Quantised, channel_counts, quantise

# Names of the bases (r, p) of an architecture, whose fingerprint replaces the braces.
_BASES = ("vae.linear.{}.basis", "residuals.{}.basis", "residuals.{}.read")
_STEPS = r"directions\.{}(_\d+)?\.steps"  # those of its directions, which come from several starts
_WHOLE = "whole."  # prefix of the names of networks that are stored as they are, in full precision
# Prefixes of names in the state dict, and the prefixes that replace them in files.
_IN_FILES = {"residuals.": "remainders.", "residual_codes": "remainder_codes"}


def pack(
    state: Mapping[str, Tensor],
    specs: Mapping[str, ArchSpec],
    scalings: Mapping[str, Scaling],
    storage: str,
    whole: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """Return the tensors to write, from a generator's state dict, its architectures, their scalings and whole networks.

    Args:
        whole: networks (p,) that are stored as they are, by kind and architecture: `base.resnet20`.
    """
    state = _stacked(state, specs.values())
    tensors = {name: t.half() if t.is_floating_point() else t for name, t in state.items()}
    for spec in _moved(specs, scalings):
        basis, read = (f"residuals.{spec.fingerprint}.{leaf}" for leaf in ("basis", "read"))
        if torch.equal(state[basis], state[read]):
            del tensors[read]  # The two are equal until they are trained; `unpack` copies the basis.
        for base in _bases(spec, tensors) if storage == "int8" else ():
            if base in tensors and len(tensors[base]):
                del tensors[base]
                small = quantise(spec, state[base], positive_variances=False)
                tensors |= {f"{base}.int8": small.values, f"{base}.scales": small.scales}
    for name, scaling in scalings.items():
        # All values of a tensor have the same scale, so one number is stored for each tensor.
        first = [values[0] for values in scaling.scale.split([t.size for t in specs[name].tensors])]
        tensors |= {f"scaling.{name}.reference": scaling.reference, f"scaling.{name}.scale": torch.stack(first)}
    tensors |= {f"{_WHOLE}{name}": flat for name, flat in whole.items()}
    return {_renamed(name, _IN_FILES): tensor.contiguous() for name, tensor in tensors.items()}


def unpack_scalings(tensors: dict[str, Tensor], specs: Mapping[str, ArchSpec]) -> dict[str, Scaling]:
    """Return the scaling of each architecture, and remove its tensors from `tensors`.

    Raises:
        ValueError: a scaling does not have the architecture's size.
        KeyError: a scaling is missing.
    """
    scalings = {}
    for arch, spec in specs.items():
        reference, scale = (tensors.pop(f"scaling.{arch}.{name}") for name in ("reference", "scale"))
        tensors.pop(f"scaling.{arch}.is_log", None)  # Older files store it, although it follows from the architecture.
        if len(scale) == len(spec.tensors) != spec.size:
            scale = scale.repeat_interleave(torch.tensor([t.size for t in spec.tensors]))
        if not reference.shape == scale.shape == (spec.size,):
            sizes = f"{len(reference)} references and {len(scale)} scales"
            raise ValueError(f"the scaling of {arch} has {sizes}, the architecture has {spec.size} parameters")
        scalings[arch] = Scaling.stored(spec, reference, scale)
    return scalings


def unpack_whole(
    tensors: dict[str, Tensor], specs: Mapping[str, ArchSpec], kind: str, dim: int = 1
) -> dict[str, Tensor]:
    """Return the whole networks of a kind by architecture, (p,) or with `dim` 2 (n, p), and remove them from `tensors`.

    Raises:
        ValueError: a network does not have the architecture's size.
    """
    names = {arch: f"{_WHOLE}{kind}.{arch}" for arch in specs}
    found = {arch: tensors.pop(name) for arch, name in names.items() if name in tensors}
    for arch, flat in found.items():
        if flat.dim() != dim or flat.shape[-1] != specs[arch].size:
            raise ValueError(
                f"the {kind} network of {arch} has {flat.numel()} values, the architecture has {specs[arch].size} parameters"
            )
    return found


def unpack(
    tensors: Mapping[str, Tensor], specs: Mapping[str, ArchSpec], scalings: Mapping[str, Scaling]
) -> dict[str, Tensor]:
    """Return the state dict, in float32.

    Raises:
        KeyError, ValueError, RuntimeError: the tensors do not fit together.
    """
    in_memory = {in_file: name for name, in_file in _IN_FILES.items()}
    state = {_renamed(name, in_memory): t.float() if t.is_floating_point() else t for name, t in tensors.items()}
    for spec in _moved(specs, scalings):
        for base in _bases(spec, state):
            if f"{base}.int8" in state:
                values, scales = state.pop(f"{base}.int8"), state.pop(f"{base}.scales")
                state[base] = Quantised(values, scales, channel_counts(spec)).weights()
        basis = state[f"residuals.{spec.fingerprint}.basis"]
        state.setdefault(f"residuals.{spec.fingerprint}.read", basis.clone())
    for steps in {name for spec in specs.values() for name in _steps(spec, state)}:
        state |= {f"{steps}.{i}": step for i, step in enumerate(state.pop(steps))}
    return state


def _bases(spec: ArchSpec, names: Iterable[str]) -> list[str]:
    """Return the names that bases of an architecture may have; of its directions, those that tensors with these names have."""
    return [*(pattern.format(spec.fingerprint) for pattern in _BASES), *_steps(spec, names)]


def _steps(spec: ArchSpec, names: Iterable[str]) -> list[str]:
    pattern = re.compile(_STEPS.format(spec.fingerprint))
    return sorted({found[0] for name in names if (found := pattern.match(name))})


def _stacked(state: Mapping[str, Tensor], specs: Iterable[ArchSpec]) -> dict[str, Tensor]:
    """Return the state dict with the directions of each architecture in one tensor (k, p)."""
    stacked = dict(state)
    for steps in {name for spec in specs for name in _steps(spec, state)}:
        stacked[steps] = torch.stack([stacked.pop(name) for name in state if name.startswith(f"{steps}.")])
    return stacked


def _moved(specs: Mapping[str, ArchSpec], scalings: Mapping[str, Scaling]) -> list[ArchSpec]:
    """Return the architectures with their moved tensors alone, one of each fingerprint."""
    moved = [scalings[name].moved(spec) for name, spec in specs.items()]
    return list({spec.fingerprint: spec for spec in moved}.values())


def _renamed(name: str, prefixes: Mapping[str, str]) -> str:
    """Return a tensor's name with its prefix replaced, if it has one of these prefixes."""
    for old, new in prefixes.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name
