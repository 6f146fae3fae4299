"""`popgen layers`: ranks the weight matrices of a network by their spectral signal-to-noise ratio, and chooses the highest.

As in Spectrum (arXiv 2406.06623), a matrix competes with those of its own kind: the same place in other layers.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from popgen.archs.names import brings_weights
from popgen.archs.outside import pretrained_state
from popgen.configs.layers import LayersConfig, Top
from popgen.errors import BadInput
from popgen.weights.spectrum import signal_to_noise
from popgen.zoo.imports.stored import Stored, stored_tensors
from popgen.zoo.refer import find_checkpoint

OnProgress = Callable[[str, int, int], None]
_EMBEDDING = re.compile(r"embed|(^|\.)(wte|wpe|shared)\.")  # names of transformers' and llama's tables of embeddings
VECTOR, EMBEDDING, SMALL, NO_FLOAT, NO_NOISE = (
    "vector",
    "embedding",
    "small",
    "not floating point",
    "no scale of noise",
)


@dataclass(frozen=True)
class Layer:
    """One weight matrix; a kernel of a convolution is the matrix (out, in x its sides)."""

    name: str
    shape: tuple[int, ...]
    matrix: tuple[int, int]
    kind: str  # see `kind_of`; "all" where all are compared
    rank: int  # singular values above the edge
    edge: float
    largest: float  # largest singular value
    snr: float  # infinite if all singular values are above the edge
    chosen: bool = False


@dataclass(frozen=True)
class LeftOut:
    """A tensor that is not ranked, and why: one of the reasons above."""

    name: str
    shape: tuple[int, ...]
    why: str


@dataclass(frozen=True)
class Layers:
    """The matrices of a network: kinds in the order of the file, in each the highest ratio first."""

    config: LayersConfig
    layers: tuple[Layer, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def chosen(self) -> list[str]:
        """Names of the chosen matrices."""
        return [layer.name for layer in self.layers if layer.chosen]

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            **self.config.model_dump(),
            "layers": [asdict(layer) for layer in self.layers],
            "left_out": [asdict(one) for one in self.left_out],
        }


def layers(config: LayersConfig, on_progress: OnProgress = lambda *_: None) -> Layers:
    """Rank the weight matrices of a network; one tensor is read at a time.

    Args:
        on_progress: called with a name, the number of matrices that are done, and their number.

    Raises:
        NotFound: there is no such file, zoo or checkpoint.
        BadInput: no tensor is a matrix to rank, none is chosen, or a matrix has a value that is not finite.
        BrokenFile: a file cannot be read.
    """
    top = None if config.top is None else Top.parse(config.top)
    tensors = _tensors(config.base)
    reasons = {tensor.name: _reason(tensor, config.min_side) for tensor in tensors}
    wanted = [tensor for tensor in tensors if reasons[tensor.name] is None]
    ranked: list[Layer] = []
    for done, tensor in enumerate(wanted):
        on_progress("layers", done, len(wanted))
        layer = _measured(tensor, config)
        if layer is None:
            reasons[tensor.name] = NO_NOISE
        else:
            ranked.append(layer)
    on_progress("layers", len(wanted), len(wanted))
    left_out = tuple(LeftOut(one.name, one.shape, why) for one in tensors if (why := reasons[one.name]) is not None)
    if not ranked:
        counts = ", ".join(f"{count} {why}" for why, count in count_reasons(left_out).items())
        raise BadInput(
            f"{config.base} has no weight matrix to rank",
            f"left out: {counts or 'nothing, it is empty'}",
            f"Matrices have both sides of --min-side ({config.min_side}) or more.",
        )
    return Layers(config, _in_order(ranked, top), left_out)


def count_reasons(left_out: tuple[LeftOut, ...]) -> dict[str, int]:
    """Return how many tensors are left out for each reason.

    >>> count_reasons((LeftOut("a", (3,), VECTOR), LeftOut("b", (3,), VECTOR)))
    {'vector': 2}
    """
    counts: dict[str, int] = {}
    for one in left_out:
        counts[one.why] = counts.get(one.why, 0) + 1
    return counts


def kind_of(name: str, shape: tuple[int, ...]) -> str:
    """Return what a matrix shares with those at the same place in other layers: its name with * for numbers between dots.

    >>> kind_of("encoder.layer.3.attention.self.query.weight", (384, 384))
    'encoder.layer.*.attention.self.query.weight'
    >>> kind_of("layer2.0.conv1.weight", (32, 16, 3, 3))
    'layer2.*.conv1.weight (convolution)'
    """
    pattern = ".".join("*" if part.isdecimal() else part for part in name.split("."))
    return pattern if len(shape) == 2 else f"{pattern} (convolution)"


def _tensors(base: str) -> list[Stored]:
    """The tensors of a file, a folder, a model of transformers, or a checkpoint in a zoo."""
    if brings_weights(base):
        own = pretrained_state(base)
        return [Stored(name, tuple(one.shape), "F32", partial(own.__getitem__, name)) for name, one in own.items()]
    if "#" not in base or Path(base).exists():
        return stored_tensors(base)
    zoo, record = find_checkpoint(base, "the base", "it is a file, a folder, or")
    spec, state = zoo.spec(record.arch), zoo.state(record)
    return [Stored(one.name, one.shape, "F32", partial(state.__getitem__, one.name)) for one in spec.tensors]


def _reason(tensor: Stored, min_side: int) -> str | None:
    """Why a tensor is not ranked; None if it is."""
    if len(tensor.shape) < 2:
        return VECTOR
    if not tensor.dtype.startswith(("F", "BF")):
        return NO_FLOAT
    if _EMBEDDING.search(tensor.name):
        return EMBEDDING
    return SMALL if min(_flattened(tensor.shape)) < min_side else None


def _flattened(shape: tuple[int, ...]) -> tuple[int, int]:
    """The shape (out, in x sides of the kernel)."""
    return shape[0], int(torch.Size(shape[1:]).numel())


def _measured(tensor: Stored, config: LayersConfig) -> Layer | None:
    matrix: Tensor = tensor.read().reshape(_flattened(tensor.shape)).float()
    if not bool(matrix.isfinite().all()):
        raise BadInput(f"{tensor.name} of {config.base} has values that are not finite", "", "Give trained weights.")
    found = signal_to_noise(matrix, config.formula)
    if found is None:
        return None
    kind = "all" if config.together else kind_of(tensor.name, tensor.shape)
    measured = (found.rank, found.edge, found.largest, found.snr)
    return Layer(tensor.name, tensor.shape, _flattened(tensor.shape), kind, *measured)


def _in_order(ranked: list[Layer], top: Top | None) -> tuple[Layer, ...]:
    """The matrices kind by kind, in each the highest ratio first and the top ones chosen if any value is above the edge."""
    groups: dict[str, list[Layer]] = {}
    for layer in ranked:
        groups.setdefault(layer.kind, []).append(layer)
    found: list[Layer] = []
    for group in groups.values():
        group.sort(key=lambda layer: -layer.snr)
        count = 0 if top is None else top.of(len(group))
        found += [replace(layer, chosen=place < count and layer.rank > 0) for place, layer in enumerate(group)]
    if top is not None and not any(layer.chosen for layer in found):
        raise BadInput(
            "--top chooses no matrix",
            f"the largest of {len(groups)} kinds has {max(map(len, groups.values()))}, and only those with a singular "
            "value above the edge are chosen",
            "Give a larger share or a number, or compare all with --together.",
        )
    return tuple(found)
