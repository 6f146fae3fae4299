"""All checkpoints of an architecture in one codec alone, for tables that compare the codecs with each other and with an archive."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from popgen.types import Flat
from popgen.zoo.archive.bases import Bases, base_options
from popgen.zoo.archive.choose import forms
from popgen.zoo.archive.codecs.layout import Layout
from popgen.zoo.archive.codecs.table import CODECS, LOSSLESS
from popgen.zoo.archive.coded import CodedNetwork
from popgen.zoo.archive.rows import rows_of
from popgen.zoo.record import Checkpoint
from popgen.zoo.store import Zoo


@dataclass(frozen=True)
class OneCodec:
    """All checkpoints in one codec: its bytes, bases included, and the networks (n, p) that are read back."""

    codec: str
    bytes: int
    weights: Flat


def each_codec(zoo: Zoo, records: Sequence[Checkpoint]) -> Iterator[OneCodec]:
    """Yield checkpoints of one architecture in each codec that they can be written in.

    All of them are differences from the nearest base, or none is, and the bases are those with the smallest total.
    """
    layout = Layout.of(zoo.spec(records[0].arch))
    lossy, exact = (base_options(zoo, records, layout, lossless=lossless) for lossless in (False, True))
    for codec in CODECS:
        ways = [way for bases in (exact if codec == LOSSLESS else lossy) for way in _ways(zoo, records, bases, codec)]
        if ways:
            size, networks, bases = min(ways, key=lambda way: way[0])
            decoded = np.stack([one.decode(layout, bases.decoded) for one in networks])
            yield OneCodec(codec, size, torch.from_numpy(decoded))


def _ways(
    zoo: Zoo, records: Sequence[Checkpoint], bases: Bases, codec: str
) -> list[tuple[int, list[CodedNetwork], Bases]]:
    """All checkpoints without a base, and all with their nearest one."""
    layout = Layout.of(zoo.spec(records[0].arch))
    rows = [list(forms(layout, flat, bases, {codec: CODECS[codec]})) for _, flat in rows_of(zoo, records)]
    ways = [list(way) for way in zip(*rows, strict=True)]
    return [(bases.bytes + sum(len(one.packed) for one in way), way, bases) for way in ways]
