"""A traced network cut in two, before the first layers whose weights differ between candidates.

The activations at the cut are the same for all candidates and so need computing only once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import fx, nn


@dataclass(frozen=True)
class Cut:
    """The two parts of a network: `rest(*before(inputs))` is the network's output."""

    before: fx.GraphModule  # maps the inputs to the tuple of all values that `rest` reads
    rest: fx.GraphModule
    tensors: frozenset[str]  # names of the tensors in `before`
    rest_tensors: frozenset[str]  # names of the tensors in `rest`


def cut_before(net: nn.Module, varies: Callable[[str], bool]) -> Cut | None:
    """Cut a network before the first layers with a varying tensor.

    Args:
        varies: whether a tensor varies, by its name in the state dict of `net`.

    Returns:
        The two parts, or None if the network is not traced or nothing is computed before the cut.
    """
    if not isinstance(net, fx.GraphModule):
        return None
    names = list(net.state_dict())
    same: dict[fx.Node, fx.Node] = {}  # node that depends on no varying tensor -> its copy in `before`
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
    """Names of the weights and buffers that a node reads: its module's own, or the one that it fetches."""
    if node.op not in ("call_module", "get_attr"):
        return []
    target = str(node.target)
    return [name for name in names if name == target or name.startswith(f"{target}.")]
