"""The units of a network that may be permuted, found by tracing one example through it.

Every channel that a layer computes is a unit and gets an id, and the ids travel with the activations. Operations that
only move activations (views, padding, slices, concatenation) move the ids in the same way. Operations that add or
multiply two activations merge their ids pairwise, as a residual connection does. Layers that read activations
(convolution, linear layer, batch norm) record along which axes of their tensors, and at which indices, each unit lies.
Units that lie along the same axes, equally often, may be permuted among themselves: they form a stream. For example,
the 16 channels that a CIFAR ResNet with padded shortcuts carries through all stages are one stream, and the channels
that each later stage adds are one more stream for each stage.
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

_NO_UNIT = 0  # id of activations that are zero whatever the input, such as padding
_MOVES = {
    "view", "_unsafe_view", "reshape", "flatten", "permute", "transpose", "t", "slice", "select", "expand", "cat",
    "stack", "constant_pad_nd", "split", "split_with_sizes", "unbind", "squeeze", "unsqueeze", "clone", "alias",
    "detach", "flip",
}  # fmt: skip
_POOLS = {
    "max_pool2d_with_indices", "avg_pool2d", "_adaptive_avg_pool2d", "adaptive_max_pool2d", "upsample_nearest2d",
}  # fmt: skip
_ZEROS = {"zeros", "new_zeros", "zeros_like"}


@dataclass(frozen=True)
class StreamAxis:
    """One axis of one tensor, and the indices along it that belong to each unit of a stream."""

    tensor: str
    dim: int
    indices: Tensor  # (units, count); in a linear layer behind a flattened image a unit has one index for each pixel


@dataclass(frozen=True)
class Stream:
    """Units that may be permuted among themselves, provided that all axes are permuted together."""

    units: int
    axes: tuple[StreamAxis, ...]


@lru_cache(maxsize=KEPT)
def find_streams(spec: ArchSpec) -> tuple[Stream, ...]:
    """Return the streams of a network, in the order of its forward pass; its inputs and outputs belong to none.

    Raises:
        BadInput: the network applies an unsupported operation to its activations, such as attention.

    >>> [stream.units for stream in find_streams(ArchSpec.from_config("cnn-m"))]
    [8, 16, 16]
    >>> [stream.units for stream in find_streams(ArchSpec.from_config("resnet20"))][:2]
    [16, 16]
    """
    return trace_streams(build(spec.config, seed=0), spec.config.inputs.example(), spec.name)


def trace_streams(net: nn.Module, example: Tensor, name: str) -> tuple[Stream, ...]:
    """Return the streams of a module, traced with an `example` (1, units, ...) of its inputs; see `find_streams`.

    Raises:
        BadInput: as `find_streams`.
    """
    net.eval().requires_grad_(False)
    tracer = _UnitTracer(net, name)
    tracer.write_ids(example, tracer.on_pixels(tracer.new_ids(example.shape[1]), example))
    tracer.fixed_ids.append(tracer.ids(example))
    try:
        with torch.no_grad(), tracer:
            output = net(example)
    except PopgenError:
        raise
    except Exception as error:  # the module may be the user's own, so that anything can be raised
        raise tracer.refusal(f"it fails on an example of shape {tuple(example.shape[1:])}: {brief(error)}") from error
    if not isinstance(output, Tensor) or not tracer.has(output):
        raise tracer.refusal("its output is not one tensor made of its input")
    tracer.fixed_ids.append(tracer.ids(output))
    return tracer.streams()


class _UnitTracer(TorchDispatchMode):
    """Intercepts every ATen operation of a forward pass and gives its output the ids of the units in it."""

    def __init__(self, net: nn.Module, name: str) -> None:
        super().__init__()
        self.name = name
        self.owners: dict[int, list[str]] = defaultdict(list)  # names of each parameter and buffer, by id(tensor)
        self.transposed: dict[int, tuple[Tensor, Tensor]] = {}  # transposed view and its parameter, by id(view)
        self.traced: dict[int, tuple[Tensor, Tensor]] = {}  # activation and unit ids of its shape, by id(activation)
        self.parent = [_NO_UNIT]  # union-find forest: merged ids have the same root
        self.axis_ids: dict[tuple[str, int], Tensor] = {}  # unit ids (size,) along an axis of a parameter
        self.fixed_ids: list[Tensor] = []  # ids of inputs and outputs, which must not be permuted
        for key, tensor in net.state_dict(keep_vars=True).items():
            self.owners[id(tensor)].append(key)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = func.overloadpacket.__name__
        if name in _ZEROS:
            self.write_ids(out, torch.zeros(out.shape, dtype=torch.long))
        elif name in ("t", "transpose") and id(args[0]) in self.owners:
            self.transposed[id(out)] = (out, args[0])
        elif any(self.has(a) for a in _tensors(args)):
            self._follow(func, name, args, kwargs, out)
        return out

    def _follow(self, func: Any, name: str, args: Any, kwargs: Any, out: Any) -> None:
        """Give the outputs of an operation on traced activations their ids, and record the parameters that it reads."""
        first = out[0] if isinstance(out, (tuple, list)) else out
        if name == "convolution":
            self.write_ids(first, self.on_pixels(self._convolution(*args), first))
        elif name in ("addmm", "mm"):
            bias, x, weight = args if name == "addmm" else (None, *args)
            units = self._product(bias, x, weight)
            self.write_ids(first, units.expand(first.shape))
        elif name in ("native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm"):
            units = self._channels(args[0])
            for tensor in args[1:5]:
                units = units if tensor is None else self._record(tensor, 0, units)
            self.write_ids(first, self.on_pixels(units, first))
        elif name in _POOLS:
            self.write_ids(first, self.on_pixels(self._channels(args[0]), first))
        elif name == "mean":
            dims = [d % args[0].dim() for d in args[1]]
            ids = self._reduced(self.ids(args[0]), dims)
            self.write_ids(first, ids if first.dim() == ids.dim() else ids.view(first.shape))
        elif name in _MOVES:
            moved = func(*self._ids_of_arguments(args), **kwargs)
            for tensor, ids in zip(_tensors([out]), _tensors([moved]), strict=True):
                self.write_ids(tensor, ids)
        elif torch.Tag.pointwise in func.tags:
            self._pointwise(name, args, first)
        else:
            raise self.refusal(f"it uses {name}, whose effect on units is not known")

    def _convolution(self, x: Tensor, weight: Tensor, bias: Tensor | None, *settings: Any) -> Tensor:
        """Return the unit ids (channels,) of the outputs; a depthwise convolution keeps the units of its inputs."""
        transposed, groups = settings[3], settings[5]
        units = self._channels(x)
        if transposed or groups not in (1, len(units)) or (groups > 1 and len(weight) != groups):
            kind = "a transposed convolution" if transposed else f"a convolution in {groups} groups of several channels"
            raise self.refusal(f"it has {kind}")
        if groups == 1:
            self._record(weight, 1, units)
            units = self.new_ids(len(weight))
        units = self._record(weight, 0, units)
        return units if bias is None else self._record(bias, 0, units)

    def _product(self, bias: Tensor | None, x: Tensor, weight: Tensor) -> Tensor:
        """Return the unit ids (outputs,) of a linear layer, whose `weight` is a transposed parameter."""
        if id(weight) not in self.transposed or not self.has(x):
            raise self.refusal("it multiplies two activations, as attention does")
        weight = self.transposed[id(weight)][1]
        self._record(weight, 1, self._reduced(self.ids(x), [0]).flatten())
        units = self._record(weight, 0, self.new_ids(len(weight)))
        return units if bias is None else self._record(bias, 0, units)

    def _pointwise(self, name: str, args: Any, out: Tensor) -> None:
        """Merge the ids of all activations in an elementwise operation, entry by entry."""
        merged = torch.zeros(out.shape, dtype=torch.long)
        for tensor in _tensors(args):
            if self.has(tensor):
                ids = self.ids(tensor).expand(out.shape)
                both = (merged != _NO_UNIT) & (ids != _NO_UNIT)
                self._merge(merged[both], ids[both])
                merged = torch.where(merged == _NO_UNIT, ids, merged)
            elif tensor.numel() > 1:
                raise self.refusal(f"it uses {name} with a tensor of its own of shape {tuple(tensor.shape)}")
        self.write_ids(out, merged)

    def has(self, tensor: Tensor) -> bool:
        """Whether a tensor is a traced activation."""
        return id(tensor) in self.traced

    def write_ids(self, tensor: Tensor, ids: Tensor) -> None:
        """Trace an activation from now on, with unit ids of its shape."""
        # Holding the tensor keeps it alive, so that no other tensor can get the same id().
        self.traced[id(tensor)] = (tensor, ids.contiguous())

    def ids(self, tensor: Tensor) -> Tensor:
        """Return the unit ids of a traced activation, in its shape."""
        return self.traced[id(tensor)][1]

    def new_ids(self, count: int) -> Tensor:
        """Return ids (count,) of new units."""
        first = len(self.parent)
        self.parent.extend(range(first, first + count))
        return torch.arange(first, first + count)

    @staticmethod
    def on_pixels(units: Tensor, tensor: Tensor) -> Tensor:
        """Expand unit ids (channels,) to the shape (1, channels, ...) of an activation."""
        return units.view(1, -1, *[1] * (tensor.dim() - 2)).expand(tensor.shape)

    def _channels(self, tensor: Tensor) -> Tensor:
        """Return the unit ids (channels,) of an activation (1, channels, ...) with one unit for each channel."""
        return self._reduced(self.ids(tensor), [0, *range(2, tensor.dim())]).flatten()

    def _reduced(self, ids: Tensor, dims: list[int]) -> Tensor:
        """Reduce axes to size 1, along which all ids must belong to one unit; entries without a unit are ignored."""
        roots = self._roots()[ids]
        units = roots.amax(dims, keepdim=True) if dims else roots
        if not bool(((roots == units) | (roots == _NO_UNIT)).all()):
            raise self.refusal("it sums over different units in a way that is not a layer's")
        return units

    def _ids_of_arguments(self, value: Any) -> Any:
        """Return the arguments of an operation with each activation replaced by its unit ids."""
        if isinstance(value, (list, tuple)):
            return type(value)(self._ids_of_arguments(item) for item in value)
        if isinstance(value, Tensor):
            if not self.has(value):
                raise self.refusal("it joins activations with a tensor of its own")
            return self.ids(value)
        return value

    def _record(self, tensor: Tensor, axis: int, units: Tensor) -> Tensor:
        """Record the units along an axis of a parameter and return them; entries without a unit become new units."""
        units = units.clone()
        empty = units == _NO_UNIT
        units[empty] = self.new_ids(int(empty.sum()))
        if id(tensor) not in self.owners:
            raise self.refusal("it computes the weights of a layer from others")
        for name in self.owners[id(tensor)]:
            if (name, axis) in self.axis_ids:
                self._merge(self.axis_ids[name, axis], units)
            self.axis_ids[name, axis] = units
        return units

    def _merge(self, some: Tensor, others: Tensor) -> None:
        """Make each unit of `some` the same unit as the one at its index in `others`."""
        for a, b in torch.stack([some, others]).unique(dim=1).T.tolist():
            low, high = sorted((self._root(a), self._root(b)))
            self.parent[high] = low

    def _root(self, unit: int) -> int:
        """Return the id that stands for a unit after all merges."""
        while self.parent[unit] != unit:
            unit = self.parent[unit]
        return unit

    def _roots(self) -> Tensor:
        """Return the root of every id, shape (ids,)."""
        return torch.tensor([self._root(unit) for unit in range(len(self.parent))])

    def streams(self) -> tuple[Stream, ...]:
        """Return the streams: units that lie along the same axes, except those of the inputs and outputs."""
        roots = self._roots()
        fixed = set(roots[torch.cat([ids.flatten() for ids in self.fixed_ids])].tolist())
        indices: dict[int, dict[tuple[str, int], list[int]]] = defaultdict(lambda: defaultdict(list))
        for axis, ids in self.axis_ids.items():
            for index, unit in enumerate(roots[ids].tolist()):
                if unit not in fixed:
                    indices[unit][axis].append(index)
        alike: dict[Any, list[int]] = defaultdict(list)  # units by their axes and the number of indices along each
        for unit, along in indices.items():
            alike[tuple((axis, len(found)) for axis, found in along.items())].append(unit)
        streams = []
        for key, units in alike.items():
            axes = [
                StreamAxis(name, axis, torch.tensor([indices[unit][name, axis] for unit in units]))
                for (name, axis), _ in key
            ]
            streams.append(Stream(len(units), tuple(axes)))
        return tuple(stream for stream in streams if stream.units > 1)

    def refusal(self, why: str) -> BadInput:
        return BadInput(
            f"networks of {self.name!r} cannot be aligned, because {why}",
            "units that may be permuted are read off convolutions, linear layers, batch norm, pooling, sums and views",
            "Use them as they are.",
        )


def _tensors(values: Any) -> list[Tensor]:
    """Return all tensors in nested lists and tuples, in their order."""
    found: list[Tensor] = []
    for value in values:
        found += [value] if isinstance(value, Tensor) else _tensors(value) if isinstance(value, (list, tuple)) else []
    return found
