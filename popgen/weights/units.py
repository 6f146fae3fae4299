"""A network's tensors grouped into units that can be dropped or inserted as a whole, and two networks' units matched.

A unit is what stands at a place of a sequence (`layer1.0`, `3`), or a module of its own (`conv1`). Units are matched by
their sequence, their kind (convolution, linear, norm, head) and their order, never by the name of the builder.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from popgen.archs import ArchSpec, TensorSpec

MATRICES = ("conv", "linear")


@dataclass
class Unit:
    """Some tensors of one place of a network; `roles` are their names within it."""

    prefix: str
    group: tuple[str, str, bool]  # the sequence that it stands in, the kind of its first tensor, whether it is the head
    roles: dict[str, TensorSpec] = field(default_factory=dict)

    @property
    def branch(self) -> dict[str, TensorSpec]:
        """The tensors of the main branch: a sequence inside a unit is its shortcut."""
        return {role: t for role, t in self.roles.items() if not any(part.isdigit() for part in role.split("."))}

    @property
    def matrices(self) -> list[TensorSpec]:
        """Convolutions and linear layers of the main branch."""
        return [t for t in self.branch.values() if t.kind in MATRICES]

    @property
    def is_residual(self) -> bool:
        """Several matrices between a unit's input and its output: taken for a branch beside a shortcut."""
        return len(self.matrices) > 1


def units_of(spec: ArchSpec) -> list[Unit]:
    """The units of a network, in its order.

    >>> [unit.prefix for unit in units_of(ArchSpec.from_config("resnet-s"))]
    ['conv1', 'bn1', 'layer1.0', 'layer2.0', 'linear']
    """
    units: dict[str, Unit] = {}
    for tensor in spec.tensors:
        parts = tensor.name.split(".")
        place = next((i for i, part in enumerate(parts) if part.isdigit()), len(parts) - 2)
        prefix, role = ".".join(parts[: place + 1]), ".".join(parts[place + 1 :])
        if prefix not in units:
            sequence = ".".join(parts[:place]) if place >= 0 and parts[place].isdigit() else prefix
            kind = "norm" if tensor.kind.startswith("norm") else tensor.kind
            units[prefix] = Unit(prefix, (sequence, kind, prefix == spec.head))
        units[prefix].roles[role] = tensor
    return list(units.values())


def match_units(source: list[Unit], target: list[Unit]) -> tuple[list[Unit | None], list[Unit]]:
    """The source's unit for each of the target's, None where it has none; and those that no one takes.

    The k-th unit of a group goes to the k-th of the same group, so that what is inserted or dropped is the last.

    >>> few, many = (units_of(ArchSpec.from_config(name)) for name in ("cnn-s", "cnn-m"))
    >>> [None if unit is None else unit.prefix for unit in match_units(few, many)[0]]
    ['0', '3', None, '6']
    """
    waiting: dict[tuple[str, str, bool], list[Unit]] = {}
    for unit in source:
        waiting.setdefault(_group(unit), []).append(unit)
    matched = [queue.pop(0) if (queue := waiting.get(_group(unit))) else None for unit in target]
    return matched, [unit for queue in waiting.values() for unit in queue]


def _group(unit: Unit) -> tuple[str, str, bool]:
    """Heads are matched wherever they stand."""
    return ("", "", True) if unit.group[2] else unit.group
