"""ArchSpec: a network's tensors as data, read from any nn.Module.

It has one entry (name, shape, kind, layer, depth, fan-in, fan-out) for each floating-point tensor of the state dict.
All code that works on weights is driven by it: tokens, scaling, checks of foreign files, batch norm, heads.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from popgen.archs.adapters.config import is_adapter_config, with_phrases
from popgen.archs.config import ArchConfig
from popgen.archs.construction import build
from popgen.archs.named import arch_config
from popgen.errors import BadInput

KINDS = ("conv", "linear", "bias", "norm_weight", "norm_bias", "norm_mean", "norm_var", "embedding", "other")


@dataclass(frozen=True)
class TensorSpec:
    """One floating-point tensor of a network."""

    name: str
    shape: tuple[int, ...]
    kind: str  # one of KINDS
    layer: int  # index of the tensor's module among the modules that hold floating-point tensors
    depth: float  # relative depth: `layer` divided by the last layer's index, 0 to 1
    fan_in: int
    fan_out: int

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class ArchSpec:
    """A network's configuration, its tensors in the order of the state dict, and its head (the last linear layer, or the one that it names)."""

    config: ArchConfig
    tensors: tuple[TensorSpec, ...]
    counters: tuple[str, ...]  # names of integer buffers (batch norm's num_batches_tracked); popgen writes them as zero
    head: str  # name of the last linear layer, "" if there is none

    def __hash__(self) -> int:
        return hash(self.config)

    def __repr__(self) -> str:
        return f"ArchSpec({self.name!r}, {self.size:,} weights in {len(self.tensors)} tensors)"

    @property
    def name(self) -> str:
        """Name of the architecture."""
        return self.config.name

    @property
    def size(self) -> int:
        """Number of floating-point values in the state dict."""
        return sum(t.size for t in self.tensors)

    @property
    def has_batch_norm(self) -> bool:
        """Whether the network has running statistics of batch norm."""
        return any(t.kind == "norm_mean" for t in self.tensors)

    @property
    def fingerprint(self) -> str:
        """16 hex digits of a SHA-256 over the names and shapes of the tensors: equal for equal tensors."""
        text = ";".join(f"{t.name}:{t.shape}" for t in self.tensors)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @classmethod
    def from_config(cls, config: ArchConfig | str) -> ArchSpec:
        """Build the spec of an architecture, given by its configuration or its name."""
        config = arch_config(config) if isinstance(config, str) else config
        return cls.from_module(build(config, seed=0), config)

    @classmethod
    def from_module(cls, module: nn.Module, config: ArchConfig | None = None) -> ArchSpec:
        """Read the spec from a module.

        Args:
            config: the module's configuration; None makes one from the name of the module's class.

        >>> spec = ArchSpec.from_module(nn.Sequential(nn.Linear(4, 2)))
        >>> [(t.name, t.kind, t.shape) for t in spec.tensors], spec.head
        ([('0.weight', 'linear', (2, 4)), ('0.bias', 'bias', (2,))], '0')
        """
        name = type(module).__name__.lower()
        config = config or ArchConfig(name, f"{type(module).__module__}:{type(module).__qualname__}")
        modules = dict(module.named_modules())
        holders: list[str] = []
        rows: list[tuple[str, Tensor, str, int]] = []
        counters = []
        for key, tensor in module.state_dict().items():
            owner, _, leaf = key.rpartition(".")
            if not tensor.is_floating_point():
                counters.append(key)
                continue
            if owner not in holders:
                holders.append(owner)
            rows.append((key, tensor, _kind(modules[owner], leaf, tensor), holders.index(owner)))
        last = max(len(holders) - 1, 1)
        tensors = tuple(TensorSpec(k, tuple(t.shape), kind, i, i / last, *_fans(t)) for k, t, kind, i in rows)
        heads = [k.rpartition(".")[0] for k, _, kind, _ in rows if kind == "linear"]
        head = getattr(module, "head_name", heads[-1] if heads else "")
        return cls(config, tensors, tuple(counters), head)

    def for_classes(self, phrases: tuple[str, ...]) -> ArchSpec:
        """The same tensors with an output for each class, where the head is made of phrases for the classes; else this spec."""
        return self if not self.is_adapter else replace(self, config=with_phrases(self.config, phrases))

    @property
    def is_adapter(self) -> bool:
        """Whether the tensors are those of an adapter on a frozen base."""
        return is_adapter_config(self.config)

    def with_own_head(self) -> ArchSpec:
        """The architecture whose head is among its tensors; it differs from this one where the head is made of phrases."""
        config = self.config
        if not self.is_adapter or config.options["head"] == "linear":
            return self
        return ArchSpec.from_config(with_phrases(config, tuple(config.options["phrases"]), "linear"))

    def check(self, state: Mapping[str, Tensor], where: str, todo: str = "") -> None:
        """Refuse a state dict that does not fit this architecture, and name the tensors that differ.

        Args:
            where: the origin of the state dict, for the message.
            todo: the advice in the message if tensors differ.

        Raises:
            BadInput: tensors are missing, surplus or of another shape, or hold values that are not finite.
        """
        lines = self.differences({k: tuple(v.shape) for k, v in state.items()})
        if lines:
            raise BadInput(
                f"{where} does not fit the architecture {self.name!r}: {len(lines)} tensors differ",
                "; ".join(lines[:6]) + (" ..." if len(lines) > 6 else ""),
                todo or "Name the architecture that the file was made with.",
            )
        bad = [t.name for t in self.tensors if not bool(torch.isfinite(state[t.name]).all())]
        if bad:
            raise BadInput(f"{where} holds NaN or infinity", f"in {', '.join(bad[:6])}", "Use a checkpoint that works.")

    def differences(self, shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
        """One line for each tensor that is missing, surplus, or of another shape; counters may be absent."""
        mine = {t.name: t.shape for t in self.tensors}
        missing = [f"{n} {s} is missing" for n, s in mine.items() if n not in shapes]
        wrong = [f"{n} is {shapes[n]}, not {s}" for n, s in mine.items() if n in shapes and shapes[n] != s]
        surplus = [f"{n} {s} is not in it" for n, s in shapes.items() if n not in mine and n not in self.counters]
        return wrong + missing + surplus

    def to_flat(self, state: Mapping[str, Tensor]) -> Tensor:
        """All floating-point values as one float32 vector, in the order of `tensors`; shape (size,)."""
        return torch.cat([state[t.name].detach().reshape(-1).float() for t in self.tensors])

    def to_state(self, flat: Tensor) -> dict[str, Tensor]:
        """The inverse of `to_flat`: views of `flat`, with the counters as zeros."""
        parts = flat.split([t.size for t in self.tensors])
        state = {t.name: part.view(t.shape) for t, part in zip(self.tensors, parts, strict=True)}
        return {**state, **{name: torch.zeros((), dtype=torch.long) for name in self.counters}}


def _kind(owner: nn.Module, leaf: str, tensor: Tensor) -> str:
    """The kind of a tensor, by the module that owns it, its name in that module, and its shape."""
    if isinstance(owner, (_BatchNorm, nn.LayerNorm, nn.GroupNorm)):
        names = {"weight": "norm_weight", "bias": "norm_bias", "running_mean": "norm_mean", "running_var": "norm_var"}
        return names.get(leaf, "other")
    if leaf == "bias":
        return "bias"
    if isinstance(owner, nn.Embedding):
        return "embedding"
    if leaf == "weight" and tensor.dim() >= 3:
        return "conv"
    return "linear" if leaf == "weight" and tensor.dim() == 2 else "other"


def _fans(tensor: Tensor) -> tuple[int, int]:
    """Fan-in and fan-out of a weight as in torch.nn.init, and (1, size) for a vector or scalar."""
    if tensor.dim() < 2:
        return 1, max(tensor.numel(), 1)
    receptive = math.prod(tensor.shape[2:])
    return tensor.shape[1] * receptive, tensor.shape[0] * receptive
