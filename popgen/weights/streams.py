"""Which units of a network may change places: found by watching one image pass through it.

Every channel that a layer makes is a unit with a number of its own, and the numbers travel with the activations. What only moves
activations (views, padding, slices, concatenation) moves the numbers in the same way; what adds or multiplies two activations makes
two numbers one, as a residual connection does; what reads them (convolution, linear layer, batch norm) writes down at which places of its
tensors each unit stands. Units that stand in the same tensors, equally often, may change places: they are a stream. So the 16
channels that a CIFAR ResNet with padded shortcuts carries through all stages are one stream, and what its later stages add
is one for each stage.
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

_NOTHING = 0  # the number of what is zero for every unit, such as padding
_MOVES = {
    *(
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
    ),
    *(
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
    ),
}
_POOLS = {
    *("max_pool2d_with_indices", "avg_pool2d", "_adaptive_avg_pool2d", "adaptive_max_pool2d", "upsample_nearest2d"),
}
_ZEROS = {"zeros", "new_zeros", "zeros_like"}


@dataclass(frozen=True)
class Place:
    """Where the units of a stream stand on one axis of one tensor."""

    tensor: str
    axis: int
    positions: Tensor  # (units, count); behind a flattened image a unit has one position a pixel


@dataclass(frozen=True)
class Stream:
    """Units that may change places with each other, in all their places at once."""

    units: int
    places: tuple[Place, ...]


@lru_cache(maxsize=KEPT)
def find_streams(spec: ArchSpec) -> tuple[Stream, ...]:
    """The streams of a network, in the order in which an image meets them; inputs and outputs stand in none.

    Raises:
        BadInput: it does something with its activations that is not understood, such as attention.

    >>> [stream.units for stream in find_streams(ArchSpec.from_config("cnn-m"))]
    [8, 16, 16]
    >>> [stream.units for stream in find_streams(ArchSpec.from_config("resnet20"))][:2]
    [16, 16]
    """
    return trace_streams(build(spec.config, seed=0), spec.config.inputs.example(), spec.name)


def trace_streams(net: nn.Module, example: Tensor, name: str) -> tuple[Stream, ...]:
    """`find_streams` of a module, traced with an `example` (1, units, ...) of its inputs.

    Raises:
        BadInput: as `find_streams`.
    """
    net.eval().requires_grad_(False)
    watcher = _Watcher(net, name)
    watcher.write(example, watcher.spread(watcher.new(example.shape[1]), example))
    watcher.fixed.append(watcher.numbers(example))
    try:
        with torch.no_grad(), watcher:
            output = net(example)
    except PopgenError:
        raise
    except Exception as error:  # it is the user's own module
        raise watcher.refused(f"it fails on an example of shape {tuple(example.shape[1:])}: {brief(error)}") from error
    if not isinstance(output, Tensor) or not watcher.has(output):
        raise watcher.refused("its output is not one tensor made of its input")
    watcher.fixed.append(watcher.numbers(output))
    return watcher.streams()


class _Watcher(TorchDispatchMode):
    """Sees every operation of a forward pass at the level of ATen, after it was computed."""

    def __init__(self, net: nn.Module, name: str) -> None:
        super().__init__()
        self.name = name
        self.owners: dict[int, list[str]] = defaultdict(list)  # names of each parameter and buffer, by identity
        self.turned: dict[int, tuple[Tensor, Tensor]] = {}  # transposed views of parameters
        self.written: dict[int, tuple[Tensor, Tensor]] = {}  # activations and their units' numbers, of the same shape
        self.parent = [_NOTHING]
        self.axes: dict[tuple[str, int], Tensor] = {}  # numbers (size,) along an axis of a parameter
        self.fixed: list[Tensor] = []  # numbers that may not move
        for key, tensor in net.state_dict(keep_vars=True).items():
            self.owners[id(tensor)].append(key)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = func.overloadpacket.__name__
        if name in _ZEROS:
            self.write(out, torch.zeros(out.shape, dtype=torch.long))
        elif name in ("t", "transpose") and id(args[0]) in self.owners:
            self.turned[id(out)] = (out, args[0])
        elif any(self.has(a) for a in _tensors(args)):
            self._follow(func, name, args, kwargs, out)
        return out

    def _follow(self, func: Any, name: str, args: Any, kwargs: Any, out: Any) -> None:
        first = out[0] if isinstance(out, (tuple, list)) else out
        if name == "convolution":
            self.write(first, self.spread(self._convolution(*args), first))
        elif name in ("addmm", "mm"):
            bias, x, weight = args if name == "addmm" else (None, *args)
            made = self._product(bias, x, weight)
            self.write(first, made.expand(first.shape))
        elif name in ("native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm"):
            units = self._channels(args[0])
            for tensor in args[1:5]:
                units = units if tensor is None else self._stand(tensor, 0, units)
            self.write(first, self.spread(units, first))
        elif name in _POOLS:
            self.write(first, self.spread(self._channels(args[0]), first))
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
            raise self.refused(f"it uses {name}, and it is not known what that does to units")

    def _convolution(self, x: Tensor, weight: Tensor, bias: Tensor | None, *settings: Any) -> Tensor:
        transposed, groups = settings[3], settings[5]
        units = self._channels(x)
        if transposed or groups not in (1, len(units)) or (groups > 1 and len(weight) != groups):
            kind = "a transposed convolution" if transposed else f"a convolution in {groups} groups of several channels"
            raise self.refused(f"it has {kind}")
        if groups == 1:
            self._stand(weight, 1, units)
            units = self.new(len(weight))
        units = self._stand(weight, 0, units)
        return units if bias is None else self._stand(bias, 0, units)

    def _product(self, bias: Tensor | None, x: Tensor, weight: Tensor) -> Tensor:
        if id(weight) not in self.turned or not self.has(x):
            raise self.refused("it multiplies two activations, as attention does")
        weight = self.turned[id(weight)][1]
        self._stand(weight, 1, self._same(self.numbers(x), [0]).flatten())
        units = self._stand(weight, 0, self.new(len(weight)))
        return units if bias is None else self._stand(bias, 0, units)

    def _pointwise(self, name: str, args: Any, out: Tensor) -> None:
        total = torch.zeros(out.shape, dtype=torch.long)
        for tensor in _tensors(args):
            if self.has(tensor):
                numbers = self.numbers(tensor).expand(out.shape)
                both = (total != _NOTHING) & (numbers != _NOTHING)
                self._unite(total[both], numbers[both])
                total = torch.where(total == _NOTHING, numbers, total)
            elif tensor.numel() > 1:
                raise self.refused(f"it uses {name} with a tensor of its own of shape {tuple(tensor.shape)}")
        self.write(out, total)

    def has(self, tensor: Tensor) -> bool:
        return id(tensor) in self.written

    def write(self, tensor: Tensor, numbers: Tensor) -> None:
        self.written[id(tensor)] = (
            tensor,
            numbers.contiguous(),
        )  # the tensor is kept, so that its identity stays its own

    def numbers(self, tensor: Tensor) -> Tensor:
        return self.written[id(tensor)][1]

    def new(self, count: int) -> Tensor:
        first = len(self.parent)
        self.parent.extend(range(first, first + count))
        return torch.arange(first, first + count)

    @staticmethod
    def spread(units: Tensor, tensor: Tensor) -> Tensor:
        """Numbers (channels,) on every pixel of an activation (1, channels, ...)."""
        return units.view(1, -1, *[1] * (tensor.dim() - 2)).expand(tensor.shape)

    def _channels(self, tensor: Tensor) -> Tensor:
        """Numbers (channels,) of an activation (1, channels, ...) that has one unit in a channel."""
        return self._same(self.numbers(tensor), [0, *range(2, tensor.dim())]).flatten()

    def _same(self, numbers: Tensor, dims: list[int]) -> Tensor:
        """The numbers without these axes (kept with size 1), along which there may only be one, beside nothing."""
        roots = self._roots()[numbers]
        kept = roots.amax(dims, keepdim=True) if dims else roots
        if not bool(((roots == kept) | (roots == _NOTHING)).all()):
            raise self.refused("it sums over different units in a way that is not a layer's")
        return kept

    def _numbered(self, value: Any) -> Any:
        """Arguments with activations replaced by their numbers."""
        if isinstance(value, (list, tuple)):
            return type(value)(self._numbered(item) for item in value)
        if isinstance(value, Tensor):
            if not self.has(value):
                raise self.refused("it joins activations with a tensor of its own")
            return self.numbers(value)
        return value

    def _stand(self, tensor: Tensor, axis: int, units: Tensor) -> Tensor:
        """Write down that these units stand along an axis of a parameter; what is nothing becomes a unit there."""
        units = units.clone()
        nothing = units == _NOTHING
        units[nothing] = self.new(int(nothing.sum()))
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
        """Units grouped by where they stand."""
        roots = self._roots()
        fixed = set(roots[torch.cat([numbers.flatten() for numbers in self.fixed])].tolist())
        positions: dict[int, dict[tuple[str, int], list[int]]] = defaultdict(lambda: defaultdict(list))
        for place, numbers in self.axes.items():
            for position, unit in enumerate(roots[numbers].tolist()):
                if unit not in fixed:
                    positions[unit][place].append(position)
        groups: dict[Any, list[int]] = defaultdict(list)
        for unit, places in positions.items():
            groups[tuple((place, len(where)) for place, where in places.items())].append(unit)
        found = []
        for key, units in groups.items():
            standing = [
                Place(name, axis, torch.tensor([positions[u][name, axis] for u in units])) for (name, axis), _ in key
            ]
            found.append(Stream(len(units), tuple(standing)))
        return tuple(stream for stream in found if stream.units > 1)

    def refused(self, why: str) -> BadInput:
        return BadInput(
            f"networks of {self.name!r} cannot be aligned, because {why}",
            "which units may change places is read off convolutions, linear layers, batch norm, pooling, sums and views",
            "Use them as they are.",
        )


def _tensors(values: Any) -> list[Tensor]:
    """All tensors in nested arguments."""
    found: list[Tensor] = []
    for value in values:
        found += [value] if isinstance(value, Tensor) else _tensors(value) if isinstance(value, (list, tuple)) else []
    return found
