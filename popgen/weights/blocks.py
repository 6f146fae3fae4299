"""Blocks of a network, which can be dropped or inserted as a whole, and the matching of two networks' blocks.

A block is an entry of a sequence (`layer1.0`, `3`) or a module outside any sequence (`conv1`). Blocks are matched by
their sequence, their kind (convolution, linear, norm, head) and their order, never by the name of the builder.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from popgen.archs import ArchSpec, TensorSpec

MATRICES = ("conv", "linear")  # kinds of tensors with one row for each output unit and one column for each input unit


@dataclass
class Block:
    """A layer or a residual block: the tensors whose names begin with one prefix."""

    prefix: str
    sequence: str  # prefix of the sequence that contains it ("" for the network itself), or its own outside any
    kind: str  # kind of its first tensor, where `norm` stands for all kinds of norm tensors
    is_head: bool
    roles: dict[str, TensorSpec] = field(default_factory=dict)  # tensors by their names without the prefix

    @property
    def branch(self) -> dict[str, TensorSpec]:
        """Tensors of the main branch by role. Tensors in a sequence inside the block belong to its shortcut instead."""
        return {role: t for role, t in self.roles.items() if not any(part.isdigit() for part in role.split("."))}

    @property
    def matrices(self) -> list[TensorSpec]:
        """Weights of the convolutions and linear layers in the main branch."""
        return [t for t in self.branch.values() if t.kind in MATRICES]

    @property
    def is_residual(self) -> bool:
        """Whether the main branch has several matrices; such a block is assumed to have a shortcut around them."""
        return len(self.matrices) > 1


def blocks_of(spec: ArchSpec) -> list[Block]:
    """Return the blocks of a network, in the order of its tensors.

    >>> [block.prefix for block in blocks_of(ArchSpec.from_config("resnet-s"))]
    ['conv1', 'bn1', 'layer1.0', 'layer2.0', 'linear']
    """
    blocks: dict[str, Block] = {}
    for tensor in spec.tensors:
        parts = tensor.name.split(".")
        last = next((i for i, part in enumerate(parts) if part.isdigit()), len(parts) - 2)  # index of the prefix's end
        prefix, role = ".".join(parts[: last + 1]), ".".join(parts[last + 1 :])
        if prefix not in blocks:
            sequence = ".".join(parts[:last]) if last >= 0 and parts[last].isdigit() else prefix
            kind = "norm" if tensor.kind.startswith("norm") else tensor.kind
            blocks[prefix] = Block(prefix, sequence, kind, prefix == spec.head)
        blocks[prefix].roles[role] = tensor
    return list(blocks.values())


def match_blocks(source: list[Block], target: list[Block]) -> tuple[list[Block | None], list[Block]]:
    """Match each block of the target to a block of the source.

    The k-th block of a kind in a sequence is matched to the k-th of the same kind in the same sequence: blocks are
    inserted or dropped at the end of a sequence.

    Returns:
        The source's block for each block of the target, None for inserted blocks; and the source's unmatched blocks.

    >>> few, many = (blocks_of(ArchSpec.from_config(name)) for name in ("cnn-s", "cnn-m"))
    >>> [None if block is None else block.prefix for block in match_blocks(few, many)[0]]
    ['0', '3', None, '6']
    """
    unmatched: dict[tuple[str, str, bool], list[Block]] = {}
    for block in source:
        unmatched.setdefault(_match_key(block), []).append(block)
    matched = [queue.pop(0) if (queue := unmatched.get(_match_key(block))) else None for block in target]
    return matched, [block for queue in unmatched.values() for block in queue]


def _match_key(block: Block) -> tuple[str, str, bool]:
    """Return what two blocks must share to be matched. Heads match each other whatever their sequence and kind."""
    return ("", "", True) if block.is_head else (block.sequence, block.kind, False)
