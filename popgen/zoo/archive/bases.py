"""Bases: the networks from which the checkpoints of one architecture are written as differences.

Candidates are the start that they share and the trained network that it goes back to, their mean, and checkpoints that others in the zoo
were trained from. An archive holds the bases that it uses, and always the first two, because a zoo has them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from popgen.zoo.archive.codecs.codec import Values
from popgen.zoo.archive.codecs.layout import Layout
from popgen.zoo.archive.codecs.table import CODECS, LOSSLESS
from popgen.zoo.archive.coded import BASE, START, CodedNetwork
from popgen.zoo.archive.rows import rows_of
from popgen.zoo.record import Checkpoint
from popgen.zoo.store import Zoo

_MEAN = "mean"
_MOST_PARENTS = 8
_FEWEST_FOR_A_MEAN = 3
_SAMPLE = 24  # checkpoints on which the worth of a base is estimated
_STORED = ("int8", "float16")  # how bases are written where networks may lose something


@dataclass(frozen=True)
class Bases:
    """Bases of one architecture by name: as they are written, and as they are read back, which is what differences are from."""

    coded: dict[str, CodedNetwork]
    decoded: list[Values]

    @property
    def bytes(self) -> int:
        """Their size."""
        return sum(len(one.packed) for one in self.coded.values())

    def nearest(self, flat: Values) -> int:
        """The number of the nearest base, or -1 if there is none."""
        distances = [float(np.linalg.norm(flat - base)) for base in self.decoded]
        return distances.index(min(distances)) if distances else -1


def base_options(zoo: Zoo, records: Sequence[Checkpoint], layout: Layout, *, lossless: bool) -> list[Bases]:
    """Sets of bases that an archive of checkpoints of one architecture could have; not empty."""
    needed, further = needed_bases(zoo, records[0].arch), _further(zoo, records)
    chosen = [needed]
    for added in further:
        if _pays([*needed.values()], [*added.values()], _sample(zoo, records), len(records)):
            chosen.append(needed | added)
    codecs = (LOSSLESS,) if lossless else _STORED
    made = [_coded(layout, vectors, codec) for vectors in chosen for codec in (codecs if vectors else codecs[:1])]
    return made


def _coded(layout: Layout, vectors: dict[str, Values], codec: str) -> Bases:
    coded = {name: CodedNetwork(codec, -1, CODECS[codec].encode(layout, flat, None)) for name, flat in vectors.items()}
    return Bases(coded, [one.decode(layout, {}) for one in coded.values()])


def needed_bases(zoo: Zoo, arch: str) -> dict[str, Values]:
    """The shared start of an architecture, and its base if that is another network, by their names."""
    start, base = zoo.start(arch), zoo.base(arch)
    found = {} if start is None else {START: start.numpy()}
    if base is not None and (start is None or not bool((base == start).all())):
        found[BASE] = base.numpy()
    return found


def _further(zoo: Zoo, records: Sequence[Checkpoint]) -> list[dict[str, Values]]:
    """Sets of bases that may be added."""
    sets = []
    if len(records) >= _FEWEST_FOR_A_MEAN:
        total = np.zeros(zoo.spec(records[0].arch).size, dtype=np.float64)
        for _, flat in rows_of(zoo, records):
            total += flat
        sets.append({_MEAN: (total / len(records)).astype(np.float32)})
    named = {record.parent for record in records}
    parents = [record for record in records if record.id in named][:_MOST_PARENTS]
    if parents:
        sets.append({f"checkpoint {parent.id}": flat for parent, flat in rows_of(zoo, parents)})
    return sets


def _sample(zoo: Zoo, records: Sequence[Checkpoint]) -> list[Values]:
    step = max(1, len(records) // _SAMPLE)
    return [flat for _, flat in rows_of(zoo, records[::step])]


def _pays(before: Sequence[Values], added: Sequence[Values], sample: Iterable[Values], networks: int) -> bool:
    """Whether further bases may save more bytes than they take, at one byte for each of their values.

    A network that is nearer by a factor f takes log2(f) bits less for each value.
    """
    gains = []
    for flat in sample:
        near = min(float(np.linalg.norm(flat - base)) for base in (*before, np.zeros_like(flat)))
        nearer = min(near, *(float(np.linalg.norm(flat - base)) for base in added))
        gains.append(math.log2(max(near, 1e-30) / max(nearer, 1e-30)))
    return networks * float(np.mean(gains)) / 8 > len(added)
