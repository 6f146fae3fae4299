"""The blocks of a network, which can be dropped or inserted as a whole, and the matching of two networks' blocks.

A block is an element of a sequence (`layer1.0`, `3`), or a module of its own (`conv1`). Blocks are matched by their
sequence, their kind (convolution, linear, norm, head) and their order, and not by the name of the builder.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from popgen.archs import ArchSpec, TensorSpec

MATRICES = ("conv", "linear")


@dataclass
class Block:
    """A part of a network with its tensors.

    Attributes:
        prefix: what the names of its tensors begin with.
        sequence: name of the sequence that it is an element of, or its own name.
        kind: kind of its first tensor: conv, linear, norm, ...
        is_head: whether it is the network's last linear layer.
        roles: its tensors by their names within the block.
    """

    prefix: str
    sequence: str
    kind: str
    is_head: bool
    roles: dict[str, TensorSpec] = field(default_factory=dict)

    @property
    def branch(self) -> dict[str, TensorSpec]:
        """Tensors of the main branch by their roles; a sequence inside a block is its shortcut, and not included."""
        return {role: t for role, t in self.roles.items() if not any(part.isdigit() for part in role.split("."))}

    @property
    def matrices(self) -> list[TensorSpec]:
        """Convolutions and linear layers of the main branch."""
        return [t for t in self.branch.values() if t.kind in MATRICES]

    @property
    def is_residual(self) -> bool:
        """Whether the main branch has several matrices; it is then assumed to be added to a shortcut."""
        return len(self.matrices) > 1


def blocks_of(spec: ArchSpec) -> list[Block]:
    """Return the blocks of a network, in its order.

    >>> [block.prefix for block in blocks_of(ArchSpec.from_config("resnet-s"))]
    ['conv1', 'bn1', 'layer1.0', 'layer2.0', 'linear']
    """
    blocks: dict[str, Block] = {}
    for tensor in spec.tensors:
        names = tensor.name.split(".")
        last = next((i for i, name in enumerate(names) if name.isdigit()), len(names) - 2)
        prefix, role = ".".join(names[: last + 1]), ".".join(names[last + 1 :])
        if prefix not in blocks:
            sequence = ".".join(names[:last]) if last >= 0 and names[last].isdigit() else prefix
            kind = "norm" if tensor.kind.startswith("norm") else tensor.kind
            blocks[prefix] = Block(prefix, sequence, kind, prefix == spec.head)
        blocks[prefix].roles[role] = tensor
    return list(blocks.values())


def match_blocks(source: list[Block], target: list[Block]) -> tuple[list[Block | None], list[Block]]:
    """Match the blocks of two networks.

    The k-th block of a sequence and kind is matched with the k-th of the same sequence and kind, so the last ones are
    inserted or dropped.

    Returns:
        For each of the target's blocks the source's block, or None; and the source's blocks that are left over.

    >>> few, many = (blocks_of(ArchSpec.from_config(name)) for name in ("cnn-s", "cnn-m"))
    >>> [None if block is None else block.prefix for block in match_blocks(few, many)[0]]
    ['0', '3', None, '6']
    """
    unmatched: dict[tuple[str, str, bool], list[Block]] = {}
    for block in source:
        unmatched.setdefault(_key(block), []).append(block)
    matched = [queue.pop(0) if (queue := unmatched.get(_key(block))) else None for block in target]
    return matched, [block for queue in unmatched.values() for block in queue]


def _key(block: Block) -> tuple[str, str, bool]:
    """Return what two matching blocks have in common; heads match whatever their sequences are called."""
    return ("", "", True) if block.is_head else (block.sequence, block.kind, False)
