"""The network of an adapter: the upper layers of a frozen base with LoRA (arXiv 2106.09685), built by peft, and a head.

What enters it are the states behind the base's frozen lower layers (popgen/archs/adapters/inputs.py), which therefore run once
for each data set and not once for each candidate. Its state dict holds the adapter's tensors alone, under the names of
peft's files, and those of a trained head.

Without a trained head, the head is made of the data set's label phrases: a text is compared with each phrase, both embedded
by the frozen base. Such a network has an output for every class of any data set, and its adapter belongs to none.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from popgen.archs.adapters.base import Base, load_base, mean_states, text_features
from popgen.archs.adapters.modules import add_module
from popgen.errors import BadInput

_TOGETHER = 16  # texts of like lengths in one pass
TEMPERATURE = 20.0  # factor of cosines in logits; of 5, 10, 20 and 40 the best over ten tasks without labels
HEAD = "classifier"  # name of the head in the network, as peft calls that of a classifier


@lru_cache(maxsize=256)
def centred_features(base: str, phrases: tuple[str, ...], context: int) -> Tensor:
    """Features (classes, width) of label phrases by the frozen base, less their mean, which says nothing about a class."""
    features = text_features(load_base(base), phrases, context)
    return features - features.mean(0)


class PhraseHead(nn.Module):
    """A fixed linear head, which is no part of the state dict."""

    weight: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Logits (n, classes) of features (n, width)."""
        return F.linear(features, self.weight)


class AdapterNetwork(nn.Module):
    """Maps states (n, tokens, width + 1) behind the frozen layers to logits (n, classes), or to features without a head."""

    head_name = HEAD  # popgen.archs.spec reads it

    def __init__(self, base: Base, adapted: nn.Module, head: nn.Module) -> None:
        super().__init__()
        # The frozen base is no submodule, so that the state dict is the adapter's alone.
        self.__dict__["_adapted"] = adapted
        for name, module in adapted.named_modules():
            if name.endswith((".lora_A.default", ".lora_B.default")):
                add_module(self, f"base_model.model.{name.removesuffix('.default')}", module)
        self.add_module(HEAD, head)
        layers = adapted.get_submodule(base.path)
        assert isinstance(layers, nn.ModuleList)
        self.__dict__["_layers"] = layers

    def forward(self, states: Tensor) -> Tensor:
        """Logits (n, classes)."""
        lengths = states[..., -1].sum(1).long()
        order = lengths.argsort(stable=True)
        # Texts of like lengths run together, without the padding behind the longest of them, which changes nothing.
        parts = [self._part(states[index, : int(lengths[index[-1]])]) for index in order.split(_TOGETHER)]
        logits: Tensor = getattr(self, HEAD)(torch.cat(parts)[order.argsort()])
        return logits

    def _part(self, states: Tensor) -> Tensor:
        """Features (n, width) of texts."""
        hidden, mask = states[..., :-1], states[..., -1]
        hook = self.__dict__["_layers"][0].register_forward_pre_hook(
            lambda _, args, kwargs: _replaced(hidden, args, kwargs), with_kwargs=True
        )
        try:
            tokens = torch.zeros(mask.shape, dtype=torch.long, device=mask.device)
            outputs = self.__dict__["_adapted"](input_ids=tokens, attention_mask=mask.long()).last_hidden_state
        finally:
            hook.remove()
        return mean_states(outputs, mask)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> AdapterNetwork:
        """Move the frozen base with the adapter."""
        self.__dict__["_adapted"]._apply(fn, recurse)  # noqa: SLF001 - as torch's own containers do
        super()._apply(fn, recurse)
        return self


def adapter_network(
    base: str, r: int, alpha: int, targets: list[str], layers: list[int], context: int, phrases: list[str], head: str
) -> AdapterNetwork:
    """Build the network; its adapter starts as peft's do, with B zero, so that it is the frozen base.

    Args:
        base: name of the base, see `load_base`.
        layers: the first and the last layer with an adapter; the layers below the first are not in the network.
        phrases: of the classes; without them the network returns features.
        head: `phrases` for the fixed head of the phrases; `linear` for one in the state dict, which starts as that.

    Raises:
        BadInput: the base has no such layer or target.
        PopgenError: as `load_base`.
    """
    loaded = load_base(base)
    adapted = _with_lora(loaded, r, alpha, targets, layers)
    first = layers[0]
    kept = adapted.get_submodule(loaded.path)
    assert isinstance(kept, nn.ModuleList)
    network = AdapterNetwork(loaded, adapted, _head(base, tuple(phrases), context, head, loaded.width))
    del kept[:first]  # after the names were taken, because deleting numbers the others anew
    return network


def _with_lora(base: Base, r: int, alpha: int, targets: list[str], layers: list[int]) -> nn.Module:
    """A copy of the base with adapters, which shares the base's weights."""
    from peft import LoraConfig, get_peft_model

    count = len(base.layers)
    if layers[1] >= count:
        raise BadInput(
            f"the base {base.name!r} has no layer {layers[1]}", f"it has {count}, counted from 0", "Name others."
        )
    shared = {id(one): one for one in [*base.net.parameters(), *base.net.buffers()]}
    net = copy.deepcopy(base.net, shared)  # type: ignore[arg-type]
    pattern = base.path.rpartition(".")[2]
    config = LoraConfig(
        r=r, lora_alpha=alpha, target_modules=targets, layers_pattern=pattern,
        layers_to_transform=list(range(layers[0], layers[1] + 1)),
    )  # fmt: skip
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers for what it calls otherwise now
            adapted = get_peft_model(net, config)
    except ValueError as error:
        leaves = {name.rpartition(".")[2] for name, one in base.layers.named_modules() if isinstance(one, nn.Linear)}
        raise BadInput(
            f"the base {base.name!r} has no {' or '.join(targets)} in its layers",
            f"its linear layers are called {', '.join(sorted(leaves))}",
            "Name some of these as targets.",
        ) from error
    return adapted.get_base_model().eval()


def _head(base: str, phrases: tuple[str, ...], context: int, kind: str, width: int) -> nn.Module:
    if not phrases:
        return nn.Identity()
    weight = TEMPERATURE * centred_features(base, phrases, context)
    if kind == "phrases":
        return PhraseHead(weight)
    head = nn.Linear(width, len(phrases))
    with torch.no_grad():
        head.weight.copy_(weight)
        head.bias.zero_()
    return head


def _replaced(hidden: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A layer's arguments with other states in the place of those that come from below."""
    if args:
        return (hidden, *args[1:]), kwargs
    return args, {**kwargs, "hidden_states": hidden}
