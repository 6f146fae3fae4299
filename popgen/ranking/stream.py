"""Shows examples to the checkpoints of a zoo, one checkpoint in memory at a time, and scores what they make of them.

What a checkpoint made of earlier examples is kept for the next look where there is room, so that nothing is shown twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.data import DataSet, Part
from popgen.errors import BadInput, BrokenFile, brief
from popgen.networks.passes import Passes
from popgen.ranking.methods import Method
from popgen.ranking.seen import Score, Seen
from popgen.zoo import Checkpoint, Zoo

CHUNK_BYTES = 16 * 2**20  # weights that are read at once, except that one network is always read as a whole
KEPT_BYTES = 256 * 2**20  # most memory of what was seen at earlier looks, of all checkpoints together
Made = tuple[Tensor, Tensor]  # features (n, f) and outputs (n, ...) of one checkpoint


@dataclass
class Cost:
    """What ranking one checkpoint took."""

    images: int = 0
    seconds: float = 0.0


@dataclass
class Stream:
    """The checkpoints to rank and the examples that they are shown.

    Attributes:
        rows: for each checkpoint its outputs for the data set's classes, or None (see `Seen`).
        examples: the examples in the order in which they are shown.
        on_images: called with the number of examples that were shown to one more checkpoint.
        costs: the cost of each checkpoint so far.
        failures: why a checkpoint could not be scored, by its index.
    """

    zoo: Zoo
    records: Sequence[Checkpoint]
    rows: Sequence[tuple[int, ...] | None]
    data: DataSet
    examples: Part
    method: Method
    on_images: Callable[[int], None] = lambda _: None
    costs: list[Cost] = field(default_factory=list)
    failures: dict[int, str] = field(default_factory=dict)
    _kept: dict[int, Made] = field(default_factory=dict)
    _used: int = 0  # bytes of what is kept

    def __post_init__(self) -> None:
        self.costs = self.costs or [Cost() for _ in self.records]

    def look(self, indices: Sequence[int], count: int) -> list[Score | None]:
        """The scores on the first `count` examples of the checkpoints at `indices`, None where one fails."""
        self._kept = {i: self._kept[i] for i in indices if i in self._kept}
        self._used = sum(map(_size, self._kept.values()))
        found: dict[int, Score | None] = {}
        for arch, own in _by_arch(self.records, indices).items():
            shower = _Shower(self.zoo.spec(arch).for_classes(self.data.label_phrases), self.examples, self.method)
            for i, flat in self._weights(own, shower.spec.size):
                found[i] = None if flat is None else self._score(i, flat, shower, count)
        return [found[i] for i in indices]

    def _weights(self, indices: list[int], size: int) -> Iterator[tuple[int, Tensor | None]]:
        """Yield the weights (p,) of checkpoints of one architecture, read in chunks; None for those in a damaged file."""
        step = max(1, CHUNK_BYTES // (4 * size))
        for first in range(0, len(indices), step):
            chunk = indices[first : first + step]
            weights: Iterable[Tensor | None]
            try:
                weights = self.zoo.matrix([self.records[i] for i in chunk])
            except BrokenFile:  # read one by one, because others of the chunk may lie in a file that is whole
                weights = map(self._weights_of, chunk)
            yield from zip(chunk, weights, strict=True)

    def _weights_of(self, i: int) -> Tensor | None:
        try:
            [flat] = self.zoo.matrix([self.records[i]])
        except BrokenFile as error:
            self.failures[i] = f"{error.what}: {error.why}"
            return None
        return flat

    def _score(self, i: int, flat: Tensor, shower: _Shower, count: int) -> Score | None:
        began, before = time.monotonic(), self._kept.get(i)
        first = 0 if before is None else len(before[1])
        try:
            made = shower.show(flat, first, count)
            if before is not None:
                made = torch.cat([before[0], made[0]]), torch.cat([before[1], made[1]])
            targets = self.examples.targets[:count]
            score = self.method.score(Seen(*made, targets, len(self.data.classes), self.rows[i], self.data.task))
        except Exception as error:  # a network of the user's own may raise anything; it is reported and left behind
            self.failures[i] = brief(error)
            return None
        finally:
            self.costs[i].images += count - first
            self.costs[i].seconds += time.monotonic() - began
            self.on_images(count - first)
        self._keep(i, made)
        return score

    def _keep(self, i: int, made: Made) -> None:
        """Keep what a checkpoint made of the examples, if there is room."""
        self._used -= _size(self._kept.pop(i, ()))
        if self._used + _size(made) <= KEPT_BYTES:
            self._kept[i] = made
            self._used += _size(made)


class _Shower:
    """Runs networks of one architecture on a range of the examples, which are prepared for it when they are first asked for."""

    def __init__(self, spec: ArchSpec, examples: Part, method: Method) -> None:
        self.spec, self._examples = spec, examples
        self._features = method.features and bool(spec.head)
        self._passes: dict[tuple[int, int], Passes] = {}

    def show(self, flat: Tensor, first: int, last: int) -> Made:
        """Features and outputs of the examples from `first` to `last`; outputs are the features where there is no head."""
        if (first, last) not in self._passes:
            inputs = self.spec.config.inputs.prepare(self._examples.inputs[first:last])
            self._passes[first, last] = Passes(self.spec, inputs)
        passes = self._passes[first, last]
        if self._features:
            try:
                return passes.features_and_outputs(flat)
            except BadInput:  # the network does not call its last linear layer
                self._features = False
        outputs = passes.outputs(flat)
        return outputs.flatten(1), outputs


def _by_arch(records: Sequence[Checkpoint], indices: Sequence[int]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for i in indices:
        found.setdefault(records[i].arch, []).append(i)
    return found


def _size(made: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in made)
