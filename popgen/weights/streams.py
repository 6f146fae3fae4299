"""Streams: sets of units of a network that can be permuted, found by tracing one example through the network.

Each channel that a layer outputs is a unit with a number, and these numbers are traced along with the activations:

* operations that only move activations (views, padding, slices, concatenation) move the numbers in the same way;
* operations that add or multiply two activations, such as a residual connection, unite the numbers of two units;
* layers that read activations (convolution, linear layer, batch norm) record the positions of the units in their tensors.

Units that occur in the same tensors, equally often, can be permuted: they are a stream. For example, the 16 channels that
a CIFAR ResNet with padded shortcuts passes through all stages are one stream, and the channels that each later stage adds
are another.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from popgen.archs import ArchSpec, build
from popgen.errors import BadInput, PopgenError, brief
from popgen.networks.skeleton import KEPT

_ZERO = 0  # number of activations that are 0, such as padding, and belong to no unit
# Operations of ATen that only move activations.
_MOVES = {
    "view",
    "_unsafe_view",
    "reshape",
    "flatten",
    "permute",
    "transpose",
    "t",
    "slice",
    "select",
    "expand",
    "cat",
    "stack",
    "constant_pad_nd",
    "split",
    "split_with_sizes",
    "unbind",
    "squeeze",
    "unsqueeze",
    "clone",
    "alias",
    "detach",
    "flip",
}
_POOLS = {"max_pool2d_with_indices", "avg_pool2d", "_adaptive_avg_pool2d", "adaptive_max_pool2d", "upsample_nearest2d"}
_ZEROS = {"zeros", "new_zeros", "zeros_like"}


@dataclass(frozen=True)
class Occurrence:
    """The positions of a stream's units on one axis of one tensor."""

    tensor: str
    axis: int
    positions: Tensor  # (units, count); after flattening, a unit has a position for each pixel


@dataclass(frozen=True)
class Stream:
    """A set of units that can be permuted, if all their occurrences are permuted in the same way."""

    units: int  # number of units
    occurrences: tuple[Occurrence, ...]


@lru_cache(maxsize=KEPT)
def find_streams(spec: ArchSpec) -> tuple[Stream, ...]:
    """Find the streams of a network, in the order of its layers; its inputs and outputs are in no stream.

    Raises:
        BadInput: the network has an operation that is not understood, such as attention.

    >>> [stream.units for stream in find_streams(ArchSpec.from_config("cnn-m"))]
    [8, 16, 16]
    >>> [stream.units for stream in find_streams(ArchSpec.from_config("resnet20"))][:2]
    [16, 16]
    """
    return trace_streams(build(spec.config, seed=0), spec.config.inputs.example(), spec.name)


def trace_streams(net: nn.Module, example: Tensor, name: str) -> tuple[Stream, ...]:
    """Find the streams of a module by tracing an `example` (1, units, ...) of its inputs.

    Raises:
        BadInput: see `find_streams`.
    """
    net.eval().requires_grad_(False)
    tracer = _Tracer(net, name)
    tracer.write(example, tracer.broadcast(tracer.new(example.shape[1]), example))
    tracer.fixed.append(tracer.numbers(example))
    try:
        with torch.no_grad(), tracer:
            output = net(example)
    except PopgenError:
        raise
    except Exception as error:  # The module may be the user's own, and can raise anything.
        raise tracer.refused(f"it fails on an example of shape {tuple(example.shape[1:])}: {brief(error)}") from error
    if not isinstance(output, Tensor) or not tracer.has(output):
        raise tracer.refused("its output is not one tensor made of its input")
    tracer.fixed.append(tracer.numbers(output))
    return tracer.streams()


class _Tracer(TorchDispatchMode):
    """Traces unit numbers through every operation of a forward pass, at the level of ATen."""

    def __init__(self, net: nn.Module, name: str) -> None:
        super().__init__()
        self.name = name
        self.owners: dict[int, list[str]] = defaultdict(list)  # names of each parameter and buffer, by identity
        self.transposed: dict[int, tuple[Tensor, Tensor]] = {}  # transposed views of parameters, with the parameters
        self.traced: dict[int, tuple[Tensor, Tensor]] = {}  # activations and their unit numbers, of the same shape
        self.parent = [_ZERO]  # a union-find structure: number of a unit that each unit was united with, or its own
        self.axes: dict[tuple[str, int], Tensor] = {}  # unit numbers (size,) along an axis of a parameter
        self.fixed: list[Tensor] = []  # numbers of units that cannot be permuted: inputs and outputs
        for key, tensor in net.state_dict(keep_vars=True).items():
            self.owners[id(tensor)].append(key)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = func.overloadpacket.__name__
        if name in _ZEROS:
            self.write(out, torch.zeros(out.shape, dtype=torch.long))
        elif name in ("t", "transpose") and id(args[0]) in self.owners:
            self.transposed[id(out)] = (out, args[0])
        elif any(self.has(a) for a in _tensors(args)):
            self._trace(func, name, args, kwargs, out)
        return out

    def _trace(self, func: Any, name: str, args: Any, kwargs: Any, out: Any) -> None:
        first = out[0] if isinstance(out, (tuple, list)) else out
        if name == "convolution":
            self.write(first, self.broadcast(self._convolution(*args), first))
        elif name in ("addmm", "mm"):
            bias, x, weight = args if name == "addmm" else (None, *args)
            made = self._product(bias, x, weight)
            self.write(first, made.expand(first.shape))
        elif name in ("native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm"):
            units = self._channels(args[0])
            for tensor in args[1:5]:
                units = units if tensor is None else self._record(tensor, 0, units)
            self.write(first, self.broadcast(units, first))
        elif name in _POOLS:
            self.write(first, self.broadcast(self._channels(args[0]), first))
        elif name == "mean":
            dims = [d % args[0].dim() for d in args[1]]
            same = self._same(self.numbers(args[0]), dims)
            self.write(first, same if first.dim() == same.dim() else same.view(first.shape))
        elif name in _MOVES:
            moved = func(*self._numbered(args), **kwargs)
            for one, numbers in zip(_tensors([out]), _tensors([moved]), strict=True):
                self.write(one, numbers)
        elif torch.Tag.pointwise in func.tags:
            self._pointwise(name, args, first)
        else:
            raise self.refused(f"it uses {name}, and its effect on units is not known")

    def _convolution(self, x: Tensor, weight: Tensor, bias: Tensor | None, *settings: Any) -> Tensor:
        transposed, groups = settings[3], settings[5]
        units = self._channels(x)
        if transposed or groups not in (1, len(units)) or (groups > 1 and len(weight) != groups):
            kind = "a transposed convolution" if transposed else f"a convolution in {groups} groups of several channels"
            raise self.refused(f"it has {kind}")
        if groups == 1:
            self._record(weight, 1, units)
            units = self.new(len(weight))
        units = self._record(weight, 0, units)
        return units if bias is None else self._record(bias, 0, units)

    def _product(self, bias: Tensor | None, x: Tensor, weight: Tensor) -> Tensor:
        if id(weight) not in self.transposed or not self.has(x):
            raise self.refused("it multiplies two activations, as attention does")
        weight = self.transposed[id(weight)][1]
        self._record(weight, 1, self._same(self.numbers(x), [0]).flatten())
        units = self._record(weight, 0, self.new(len(weight)))
        return units if bias is None else self._record(bias, 0, units)

    def _pointwise(self, name: str, args: Any, out: Tensor) -> None:
        total = torch.zeros(out.shape, dtype=torch.long)
        for tensor in _tensors(args):
            if self.has(tensor):
                numbers = self.numbers(tensor).expand(out.shape)
                both = (total != _ZERO) & (numbers != _ZERO)
                self._unite(total[both], numbers[both])
                total = torch.where(total == _ZERO, numbers, total)
            elif tensor.numel() > 1:
                raise self.refused(f"it uses {name} with a tensor of its own of shape {tuple(tensor.shape)}")
        self.write(out, total)

    def has(self, tensor: Tensor) -> bool:
        return id(tensor) in self.traced

    def write(self, tensor: Tensor, numbers: Tensor) -> None:
        # The tensor is kept, so that its id is not given to another one.
        self.traced[id(tensor)] = (tensor, numbers.contiguous())

    def numbers(self, tensor: Tensor) -> Tensor:
        return self.traced[id(tensor)][1]

    def new(self, count: int) -> Tensor:
        first = len(self.parent)
        self.parent.extend(range(first, first + count))
        return torch.arange(first, first + count)

    @staticmethod
    def broadcast(units: Tensor, tensor: Tensor) -> Tensor:
        """Return numbers (channels,) repeated for all pixels of an activation (1, channels, ...)."""
        return units.view(1, -1, *[1] * (tensor.dim() - 2)).expand(tensor.shape)

    def _channels(self, tensor: Tensor) -> Tensor:
        """Return the numbers (channels,) of an activation (1, channels, ...) that has one unit in each channel."""
        return self._same(self.numbers(tensor), [0, *range(2, tensor.dim())]).flatten()

    def _same(self, numbers: Tensor, dims: list[int]) -> Tensor:
        """Reduce numbers along axes, which are kept with size 1, and along which all must be one unit or zero."""
        roots = self._roots()[numbers]
        kept = roots.amax(dims, keepdim=True) if dims else roots
        if not bool(((roots == kept) | (roots == _ZERO)).all()):
            raise self.refused("it sums over different units in a way that is not a layer's")
        return kept

    def _numbered(self, value: Any) -> Any:
        """Return the arguments with all activations replaced by their numbers."""
        if isinstance(value, (list, tuple)):
            return type(value)(self._numbered(item) for item in value)
        if isinstance(value, Tensor):
            if not self.has(value):
                raise self.refused("it joins activations with a tensor of its own")
            return self.numbers(value)
        return value

    def _record(self, tensor: Tensor, axis: int, units: Tensor) -> Tensor:
        """Record units along an axis of a parameter; positions without a unit get a new one."""
        units = units.clone()
        is_zero = units == _ZERO
        units[is_zero] = self.new(int(is_zero.sum()))
        if id(tensor) not in self.owners:
            raise self.refused("it computes the weights of a layer from others")
        for name in self.owners[id(tensor)]:
            if (name, axis) in self.axes:
                self._unite(self.axes[name, axis], units)
            self.axes[name, axis] = units
        return units

    def _unite(self, some: Tensor, others: Tensor) -> None:
        for a, b in torch.stack([some, others]).unique(dim=1).T.tolist():
            low, high = sorted((self._root(a), self._root(b)))
            self.parent[high] = low

    def _root(self, number: int) -> int:
        while self.parent[number] != number:
            number = self.parent[number]
        return number

    def _roots(self) -> Tensor:
        return torch.tensor([self._root(number) for number in range(len(self.parent))])

    def streams(self) -> tuple[Stream, ...]:
        """Group the units by the axes on which they occur."""
        roots = self._roots()
        fixed = set(roots[torch.cat([numbers.flatten() for numbers in self.fixed])].tolist())
        positions: dict[int, dict[tuple[str, int], list[int]]] = defaultdict(lambda: defaultdict(list))
        for axis_of, numbers in self.axes.items():
            for position, unit in enumerate(roots[numbers].tolist()):
                if unit not in fixed:
                    positions[unit][axis_of].append(position)
        # Units of a stream have the same key: the axes on which they occur, and how often.
        by_key: dict[Any, list[int]] = defaultdict(list)
        for unit, on_axes in positions.items():
            by_key[tuple((axis_of, len(found)) for axis_of, found in on_axes.items())].append(unit)
        streams = []
        for key, units in by_key.items():
            occurrences = [
                Occurrence(name, axis, torch.tensor([positions[u][name, axis] for u in units]))
                for (name, axis), _ in key
            ]
            streams.append(Stream(len(units), tuple(occurrences)))
        return tuple(stream for stream in streams if stream.units > 1)

    def refused(self, why: str) -> BadInput:
        return BadInput(
            f"networks of {self.name!r} cannot be aligned, because {why}",
            "the units that can be permuted are found from convolutions, linear layers, batch norm, pooling, sums and views",
            "Use them as they are.",
        )


def _tensors(values: Any) -> list[Tensor]:
    """Return all tensors in nested arguments."""
    found: list[Tensor] = []
    for value in values:
        found += [value] if isinstance(value, Tensor) else _tensors(value) if isinstance(value, (list, tuple)) else []
    return found
