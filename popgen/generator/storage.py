"""A generator's tensors as model.safetensors holds them, and back.

Trained tensors are kept in half precision: decoded weights move by about 1e-3 of their scale. With `storage: int8` the bases, which are
nearly all of a generator of large networks, are kept as one byte a number with a scale a channel (popgen/weights/quantise.py): what a basis
adds to weights then moves by .7 % (measured on generators of ResNet20 and ResNet56).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.weights import Scaling
from popgen.weights.quantise import Quantised, channel_counts, quantise

_BASES = (
    "vae.linear.{}.basis",
    "residuals.{}.basis",
    "residuals.{}.read",
)  # rows (r, p), by an architecture's fingerprint


_IN_FILES = {
    "residuals.": "remainders.",
    "residual_codes": "remainder_codes",
}  # beginnings of names, and those in files


def pack(
    state: Mapping[str, Tensor], specs: Mapping[str, ArchSpec], scalings: Mapping[str, Scaling], storage: str
) -> dict[str, Tensor]:
    """The tensors to write, of a generator's state dict, its architectures and their scalings."""
    tensors = {name: t.half() if t.is_floating_point() else t for name, t in state.items()}
    for spec in {spec.fingerprint: spec for spec in specs.values()}.values():
        basis, read = (f"residuals.{spec.fingerprint}.{leaf}" for leaf in ("basis", "read"))
        if torch.equal(state[basis], state[read]):
            del tensors[read]  # principal components that were not trained are read as they are written
        for base in (pattern.format(spec.fingerprint) for pattern in _BASES) if storage == "int8" else ():
            if base in tensors and len(tensors[base]):
                del tensors[base]
                small = quantise(spec, state[base], networks=False)
                tensors |= {f"{base}.int8": small.values, f"{base}.scales": small.scales}
    for name, scaling in scalings.items():
        first = [part[0] for part in scaling.scale.split([t.size for t in specs[name].tensors])]
        tensors |= {f"scaling.{name}.reference": scaling.reference, f"scaling.{name}.scale": torch.stack(first)}
    return {_renamed(name, _IN_FILES): tensor.contiguous() for name, tensor in tensors.items()}


def unpack_scalings(tensors: dict[str, Tensor], specs: Mapping[str, ArchSpec]) -> dict[str, Scaling]:
    """Each architecture's scaling; its tensors are taken out of `tensors`.

    Raises:
        ValueError: they are not of the architecture's size.
        KeyError: they are not there.
    """
    scalings = {}
    for arch, spec in specs.items():
        reference, scale = (tensors.pop(f"scaling.{arch}.{part}") for part in ("reference", "scale"))
        tensors.pop(f"scaling.{arch}.is_log", None)  # older files say it; the architecture does
        if len(scale) == len(spec.tensors) != spec.size:
            scale = scale.repeat_interleave(torch.tensor([t.size for t in spec.tensors]))
        if not reference.shape == scale.shape == (spec.size,):
            raise ValueError(f"the scaling of {arch} is not of its {spec.size} parameters")
        scalings[arch] = Scaling.stored(spec, reference, scale)
    return scalings


def unpack(tensors: Mapping[str, Tensor], specs: Mapping[str, ArchSpec]) -> dict[str, Tensor]:
    """The state dict, in float32.

    Raises:
        KeyError, ValueError, RuntimeError: what stands there does not fit together.
    """
    here = {in_file: name for name, in_file in _IN_FILES.items()}
    state = {_renamed(name, here): t.float() if t.is_floating_point() else t for name, t in tensors.items()}
    for spec in {spec.fingerprint: spec for spec in specs.values()}.values():
        for base in (pattern.format(spec.fingerprint) for pattern in _BASES):
            if f"{base}.int8" in state:
                values, scales = state.pop(f"{base}.int8"), state.pop(f"{base}.scales")
                state[base] = Quantised(values, scales, channel_counts(spec)).weights()
        basis = state[f"residuals.{spec.fingerprint}.basis"]
        state.setdefault(f"residuals.{spec.fingerprint}.read", basis.clone())
    return state


def _renamed(name: str, beginnings: Mapping[str, str]) -> str:
    """A tensor's name with another beginning, where it has one of these."""
    for old, new in beginnings.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name
