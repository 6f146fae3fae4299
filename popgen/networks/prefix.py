"""The part of a network that is the same for all candidates, cut off: its activations need computing only once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import fx, nn


@dataclass(frozen=True)
class Cut:
    """A traced network in two: `rest(*before(inputs))` is the network's output."""

    before: fx.GraphModule  # inputs -> a tuple of everything that `rest` reads
    rest: fx.GraphModule
    tensors: frozenset[str]  # names of the weights of `before`
    rest_tensors: frozenset[str]


def cut_before(net: nn.Module, varies: Callable[[str], bool]) -> Cut | None:
    """Cut in front of the first layers that hold a tensor which `varies`, by its name in the state dict of `net`.

    None where that leaves nothing to compute before the cut, or the network is not traced.
    """
    if not isinstance(net, fx.GraphModule):
        return None
    names = list(net.state_dict())
    same: dict[fx.Node, fx.Node] = {}  # nodes that do not depend on what varies, and their copies in `before`
    before = fx.Graph()
    for node in net.graph.nodes:
        if node.op == "output" or any(source not in same for source in node.all_input_nodes):
            continue
        if not any(varies(name) for name in _tensors(node, names)):
            same[node] = before.node_copy(node, same.__getitem__)
    read = [node for node in same if any(user not in same for user in node.users)]
    if all(node.op in ("placeholder", "get_attr") for node in read):
        return None
    before.output(tuple(same[node] for node in read))
    rest = fx.Graph()
    new = {node: rest.placeholder(node.name) for node in read}
    for node in net.graph.nodes:
        if node not in same:
            new[node] = rest.node_copy(node, new.__getitem__)
    first, second = (fx.GraphModule(net, graph).eval() for graph in (before, rest))
    return Cut(first, second, frozenset(first.state_dict()), frozenset(second.state_dict()))


def _tensors(node: fx.Node, names: list[str]) -> list[str]:
    """The weights and buffers that a node reads by name: its module's, or the one that it gets."""
    if node.op not in ("call_module", "get_attr"):
        return []
    target = str(node.target)
    return [name for name in names if name == target or name.startswith(f"{target}.")]
