"""Chooses the codec of each checkpoint of one architecture, and the bases that all of them share.

Every codec is tried with the nearest base and without one. Without a loss that is allowed the smallest lossless form is taken; with one, the
smallest form whose loss is within the limit. The set of bases is the one with the smallest total, bases included, so that the archive is never
larger than the best single codec with any of these sets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from popgen.zoo.archive.bases import Bases, base_options
from popgen.zoo.archive.codecs.codec import ALWAYS, NEVER, Codec, Values
from popgen.zoo.archive.codecs.layout import Layout
from popgen.zoo.archive.codecs.table import CODECS, LOSSLESS
from popgen.zoo.archive.coded import CodedNetwork
from popgen.zoo.archive.rows import rows_of
from popgen.zoo.archive.scores import Scores
from popgen.zoo.record import Checkpoint
from popgen.zoo.store import Zoo

_EXACT = {LOSSLESS: CODECS[LOSSLESS]}
_LOSSY = {name: codec for name, codec in CODECS.items() if name != LOSSLESS}
Step = Callable[[int, int], None]  # how many codings of a checkpoint are done, of how many


@dataclass(frozen=True)
class Choice:
    """A coded checkpoint, and the points that it loses on its validation images."""

    network: CodedNetwork
    loss: float = 0.0


@dataclass(frozen=True)
class Plan:
    """All checkpoints of one architecture with their bases."""

    bases: Bases
    choices: list[Choice] = field(default_factory=list)
    codecs: Mapping[str, Codec] = field(default_factory=lambda: CODECS)

    @property
    def bytes(self) -> int:
        """Size of bases and networks, without the lists of the file."""
        return self.bases.bytes + sum(len(one.network.packed) for one in self.choices)


def smallest_plan(
    zoo: Zoo, records: Sequence[Checkpoint], scores: Scores | None, max_loss: float | None, step: Step
) -> Plan:
    """The smallest plan for checkpoints of one architecture.

    Args:
        scores: needed where a loss is allowed.
        max_loss: points that a checkpoint may lose; None for a lossless archive.
    """
    layout = Layout.of(zoo.spec(records[0].arch))
    plans: list[Plan] = []
    options = base_options(zoo, records, layout, lossless=max_loss is None)
    for bases in options:
        plan = Plan(bases)
        for record, flat in rows_of(zoo, records):
            if max_loss is None or scores is None:
                choice = Choice(min(forms(layout, flat, bases, _EXACT), key=_size))
            else:
                choice = _within(layout, record, flat, bases, scores, max_loss)
            plan.choices.append(choice)
            step(len(plans) * len(records) + len(plan.choices), len(options) * len(records))
        plans.append(plan)
    return min(plans, key=lambda plan: plan.bytes)


def with_codes(
    zoo: Zoo, records: Sequence[Checkpoint], plan: Plan, codec: Codec, scores: Scores, max_loss: float
) -> Plan:
    """The plan with a generator's codes for those checkpoints that they make smaller within the limit."""
    layout, choices = Layout.of(zoo.spec(records[0].arch)), []
    for (record, flat), choice in zip(rows_of(zoo, records), plan.choices, strict=True):
        network = CodedNetwork(codec.name, -1, codec.encode(layout, flat, None))
        if len(network.packed) < len(choice.network.packed):
            decoded = codec.decode(layout, network.packed, None)
            loss = scores.within(record, torch.from_numpy(flat), torch.from_numpy(decoded), max_loss)
            choice = choice if loss is None else Choice(network, loss)
        choices.append(choice)
    return Plan(plan.bases, choices, {**plan.codecs, codec.name: codec})


def forms(layout: Layout, flat: Values, bases: Bases, codecs: Mapping[str, Codec] = CODECS) -> Iterator[CodedNetwork]:
    """A network in every form: each codec with the nearest base, and without one where it can do without."""
    nearest = bases.nearest(flat)
    for name, codec in codecs.items():
        if codec.base_use != ALWAYS:
            yield CodedNetwork(name, -1, codec.encode(layout, flat, None))
        if nearest >= 0 and codec.base_use != NEVER:
            yield CodedNetwork(name, nearest, codec.encode(layout, flat, bases.decoded[nearest]))


def loss_of(
    layout: Layout, record: Checkpoint, flat: Values, network: CodedNetwork, bases: Bases, scores: Scores
) -> float:
    """Points that a coded network loses, measured by decoding and scoring it; 0 for a lossless one."""
    if network.codec == LOSSLESS:
        return 0.0
    decoded = torch.from_numpy(network.decode(layout, bases.decoded))
    return scores.lost(record, torch.from_numpy(flat), decoded)


def _within(layout: Layout, record: Checkpoint, flat: Values, bases: Bases, scores: Scores, max_loss: float) -> Choice:
    """The smallest form whose loss is within the limit; a lossless one always is.

    Lossless forms take the most time to write, and are tried where the others take more than a byte for each value.
    """
    before, accepted = torch.from_numpy(flat), None
    for network in sorted(forms(layout, flat, bases, _LOSSY), key=_size):
        decoded = torch.from_numpy(network.decode(layout, bases.decoded))
        loss = scores.within(record, before, decoded, max_loss)
        if loss is not None:
            accepted = Choice(network, loss)
            break
    if accepted is not None and _size(accepted.network) <= layout.size:
        return accepted
    exact = Choice(min(forms(layout, flat, bases, _EXACT), key=_size))
    return exact if accepted is None else min(accepted, exact, key=lambda choice: _size(choice.network))


def _size(network: CodedNetwork) -> int:
    return len(network.packed)
