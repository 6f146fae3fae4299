"""Where a language model comes from: a folder of transformers, a name of its hub, or a llama2.c file with its tokenizer beside it.

No code of a folder runs, and weights are read from safetensors alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PretrainedConfig, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING
from transformers.utils import logging

from popgen.archs.base_files import check_same_base, decisive_files, files_sha256
from popgen.archs.language import llama2c
from popgen.errors import BadInput, NotFound, Offline, brief
from popgen.types import StateDict

_HUB = re.compile(r"[\w.-]+(?:/[\w.-]+)?")
_SAFE: dict[str, Any] = {"trust_remote_code": False}
_FORM = "Name a folder with config.json, a llama2.c file (.bin), or OWNER/NAME of the hub."


def absolute(base: str) -> str:
    """Return a base with its path made absolute; a name of the hub stays as it is."""
    path = Path(base).expanduser()
    return str(path.resolve()) if path.exists() else base


@lru_cache(maxsize=8)
def read_config(base: str) -> PretrainedConfig:
    """Return the configuration of a base.

    Raises:
        NotFound, Offline: there is no such base, or it cannot be fetched.
        BrokenFile, BadInput: it is damaged, or no causal language model that transformers knows without further code.
    """
    if _is_llama2c(base):
        return llama2c.read_config(Path(base))
    config: PretrainedConfig = _called(base, lambda: AutoConfig.from_pretrained(base, **_SAFE))
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise BadInput(
            f"lm:{base} is {config.model_type}, of which transformers has no causal language model", "", _FORM
        )
    return config


@lru_cache(maxsize=8)
def read_tokenizer(base: str) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a base.

    Raises:
        NotFound, Offline, BrokenFile, BadInput: it has none, or it cannot be read.
    """
    if _is_llama2c(base):
        vocabulary = llama2c.read_config(Path(base)).vocab_size
        return llama2c.read_tokenizer(llama2c.find_tokenizer(Path(base), vocabulary), vocabulary)
    found: PreTrainedTokenizerBase = _called(base, lambda: AutoTokenizer.from_pretrained(base, **_SAFE))
    return found


@lru_cache(maxsize=16)
def base_sha256(base: str) -> str:
    """Return the hash of the files that decide what a base computes; empty for one of the hub.

    Raises:
        NotFound, BrokenFile: a llama2.c file has no tokenizer beside it, or is damaged.
    """
    path = Path(base)
    if _is_llama2c(base):
        return files_sha256([path, llama2c.find_tokenizer(path, llama2c.read_config(path).vocab_size)])
    return files_sha256(decisive_files(path)) if path.is_dir() else ""


def check_base(base: str, sha256: str) -> None:
    """Refuse a base whose files are not those that a network was made with.

    Raises:
        BadInput: they are not.
        NotFound, BrokenFile: as `base_sha256`.
    """
    check_same_base(base, base_sha256(base), sha256, "the network")


def fresh_model(base: str) -> nn.Module:
    """Build a base's model with fresh weights, and a tied output layer that has no tensor of its own."""
    with _quiet():
        model: Any = AutoModelForCausalLM.from_config(
            read_config(base), attn_implementation="sdpa", dtype=torch.float32
        )
    return _untied(model)


def pretrained_state(base: str) -> StateDict:
    """Return a base's own weights in float32, by the names of `fresh_model`.

    Raises:
        NotFound, Offline, BrokenFile, BadInput: they cannot be read, or are no safetensors.
    """
    if _is_llama2c(base):
        return llama2c.read_state(Path(base))
    read_config(base)
    model: Any = _called(
        base,
        lambda: AutoModelForCausalLM.from_pretrained(base, use_safetensors=True, dtype=torch.float32, **_SAFE),
    )
    state: StateDict = _untied(model).state_dict()
    return state


class _TiedHead(nn.Module):
    """An output layer whose matrix is that of an embedding, which keeps it."""

    def __init__(self, embedding: nn.Module) -> None:
        super().__init__()
        self.__dict__["embedding"] = embedding  # no module of its own, so that its weight has one name

    def forward(self, states: Tensor) -> Tensor:
        weight: Tensor = self.__dict__["embedding"].weight
        return F.linear(states, weight)


def _untied(model: Any) -> nn.Module:
    """The model with each weight under one name."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if head is not None and head.weight is embedding.weight and getattr(head, "bias", None) is None:
        model.set_output_embeddings(_TiedHead(embedding))
    made: nn.Module = model
    return made


def _is_llama2c(base: str) -> bool:
    return base.endswith(".bin") and Path(base).is_file()


def _called(base: str, read: Callable[[], Any]) -> Any:
    """What `read` returns; errors of transformers are raised as popgen's."""
    local = Path(base).exists()
    if not local and not _HUB.fullmatch(base):
        raise NotFound(f"there is no language model {base!r}", "", _FORM)
    try:
        with _quiet():
            return read()
    except OSError as error:
        if local:
            raise BadInput(f"{base} is no language model of transformers", brief(error), _FORM) from error
        raise Offline(f"lm:{base} is not on this machine and could not be fetched", brief(error), _FORM) from error
    except (ValueError, KeyError, ImportError, RuntimeError) as error:
        raise BadInput(
            f"transformers cannot read {base}", brief(error), "Code of a folder is never run; weights are safetensors."
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' remarks and progress bars off the terminal."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
