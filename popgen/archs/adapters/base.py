"""The frozen base of adapters: a transformer of the transformers library with its tokenizer, loaded once in a process.

A base is known by its name and by a hash of its files, never by its weights: these stay where they are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from popgen.archs.base_files import check_same_base, decisive_files, files_sha256
from popgen.errors import BadInput, BrokenFile, NotFound, Offline, brief
from popgen.refs import minilm_folder
from popgen.texts import split_pair

_BATCH = 64  # texts in a forward pass, sorted by length
_WITHOUT_HUB = (
    "Where there is a network run `hf download {name} --local-dir FOLDER`, copy the folder and name lora:FOLDER."
)


class _Reached(Exception):
    """Ends a forward pass at the layer whose inputs are wanted."""


@dataclass(frozen=True)
class Base:
    """A frozen transformer; `layers` are its blocks in their order, and `path` is their name in the network."""

    name: str
    net: nn.Module
    tokenizer: Any
    layers: nn.ModuleList
    path: str
    width: int  # length of a token's state

    @torch.no_grad()
    def states(self, texts: Sequence[str], context: int, before: int) -> Tensor:
        """What enters layer `before` for each text: (n, tokens, width + 1), where the last column marks real tokens by 1.

        With `before` equal to the number of layers these are the network's last states. Texts are padded with zeros
        to the longest of them.
        """
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        found: list[tuple[list[int], Tensor]] = []
        for begin in range(0, len(order), _BATCH):
            index = order[begin : begin + _BATCH]
            tokens = tokenize(self.tokenizer, [texts[i] for i in index], context)
            mask = tokens["attention_mask"]
            hidden = self._until(tokens, before) * mask[..., None]
            found.append((index, torch.cat([hidden, mask[..., None].to(hidden.dtype)], -1)))
        longest = max((one.shape[1] for _, one in found), default=1)
        states = torch.zeros(len(texts), longest, self.width + 1)
        for index, one in found:
            states[index, : one.shape[1]] = one
        return states

    def _until(self, tokens: dict[str, Tensor], before: int) -> Tensor:
        """The states that enter a layer, without running it and those behind it."""
        if before == len(self.layers):
            last: Tensor = self.net(**tokens).last_hidden_state
            return last
        seen: list[Tensor] = []

        def stop(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            seen.append(args[0] if args else kwargs["hidden_states"])
            raise _Reached

        hook = self.layers[before].register_forward_pre_hook(stop, with_kwargs=True)
        try:
            self.net(**tokens)
        except _Reached:
            pass
        finally:
            hook.remove()
        return seen[0]


def tokenize(tokenizer: Any, texts: Sequence[str], context: int) -> dict[str, Tensor]:
    """What a tokenizer of transformers makes of texts, or of pairs: (n, tokens) each, cut to `context` tokens, padded to the longest."""
    firsts, seconds = zip(*map(split_pair, texts), strict=True)
    paired = [second or "" for second in seconds] if any(second is not None for second in seconds) else None
    return dict(tokenizer(list(firsts), paired, padding=True, truncation=True, max_length=context, return_tensors="pt"))


def mean_states(states: Tensor, mask: Tensor) -> Tensor:
    """The mean (n, width) of the states (n, tokens, width) of real tokens, scaled to length 1: a text's features."""
    pooled = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp_min(1)
    return nn.functional.normalize(pooled, dim=-1)


def text_features(base: Base, texts: Sequence[str], context: int) -> Tensor:
    """Features (n, width) of texts by the frozen base."""
    states = base.states(texts, context, len(base.layers))
    return mean_states(states[..., :-1], states[..., -1])


@lru_cache(maxsize=4)
def load_base(name: str) -> Base:
    """Load the base with this name: `minilm`, a folder in transformers' format, or a hub name. No code of its is run.

    Raises:
        NotFound: there is no such folder or hub repository, or it lacks files.
        Offline: it is on the hub, which does not answer, or the package of `minilm` is missing.
        BrokenFile: transformers cannot read the folder.
        BadInput: the network has no list of layers.
    """
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    folder = base_folder(name)
    source, local = (name, False) if folder is None else (str(folder), True)
    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=local, trust_remote_code=False)
        net = AutoModel.from_pretrained(
            source, local_files_only=local, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        if local:
            raise BrokenFile(
                f"transformers cannot load the base {source}", brief(error), "Copy the folder again."
            ) from error
        raise Offline(
            f"the base {name!r} could not be fetched", brief(error), _WITHOUT_HUB.format(name=name)
        ) from error
    net = net.eval().requires_grad_(False)
    path, layers = _layers(name, net)
    return Base(name, net, tokenizer, layers, path, int(net.config.hidden_size))


def base_folder(name: str) -> Path | None:
    """The folder of a base, None if the name is one on the hub.

    Raises:
        NotFound: the name is a folder that does not exist or lacks files, or is no name at all.
    """
    if name == "minilm":
        return minilm_folder(f"the base {name!r}")
    path = Path(name).expanduser()
    if path.is_dir():
        missing = [file for file in ("config.json", "*.safetensors") if not any(path.glob(file))]
        if missing:
            raise NotFound(
                f"the base {name} has no {' and no '.join(missing)}",
                "a base is a folder in transformers' format with .safetensors weights; popgen does not unpickle",
                "Load it once with transformers, and save it by save_pretrained.",
            )
        return path
    if re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name):
        return None
    raise NotFound(
        f"there is no base {name!r}", "it is no folder here and no hub name", "Name minilm, a folder, or OWNER/NAME."
    )


@lru_cache(maxsize=16)
def base_sha256(name: str) -> str:
    """Hash of the files that decide what a base computes; empty for one from the hub.

    Raises:
        NotFound, Offline: as `base_folder`.
    """
    folder = base_folder(name)
    return "" if folder is None else files_sha256(decisive_files(folder))


def check_base(name: str, sha256: str) -> None:
    """Refuse a base whose files are not those that an adapter was made with.

    Raises:
        BadInput: they are not.
        NotFound, Offline: as `base_folder`.
    """
    check_same_base(name, base_sha256(name), sha256, "the adapter")


def _layers(name: str, net: nn.Module) -> tuple[str, nn.ModuleList]:
    """The blocks of a transformer: its list of as many modules as its configuration has layers."""
    count = int(getattr(net.config, "num_hidden_layers", 0))
    for path, module in net.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return path, module
    raise BadInput(
        f"the base {name!r} has no list of {count} layers", f"it is a {type(net).__name__}", "Name a transformer."
    )
