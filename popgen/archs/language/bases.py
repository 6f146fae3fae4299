"""Where a language model comes from: a folder of transformers, a name of its hub, or a llama2.c file with its tokenizer beside it.

No code of a folder runs, and weights are read from safetensors alone.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PretrainedConfig, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from popgen.archs.base_files import check_same_base, decisive_files, files_sha256
from popgen.archs.from_transformers import SAFE, Source, absolute, quiet
from popgen.archs.language import llama2c
from popgen.errors import BadInput
from popgen.types import StateDict

__all__ = ["absolute", "base_sha256", "check_base", "fresh_model", "pretrained_state", "read_config", "read_tokenizer"]
_FORM = "Name a folder with config.json, a llama2.c file (.bin), or OWNER/NAME of the hub."
_SOURCE = Source("lm:", "language model", _FORM)


@lru_cache(maxsize=8)
def read_config(base: str) -> PretrainedConfig:
    """Return the configuration of a base.

    Raises:
        NotFound, Offline: there is no such base, or it cannot be fetched.
        BrokenFile, BadInput: it is damaged, or no causal language model that transformers knows without further code.
    """
    if _is_llama2c(base):
        return llama2c.read_config(Path(base))
    config: PretrainedConfig = _SOURCE.read(base, lambda: AutoConfig.from_pretrained(base, **SAFE))
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
    found: PreTrainedTokenizerBase = _SOURCE.read(base, lambda: AutoTokenizer.from_pretrained(base, **SAFE))
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
    with quiet():
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
    model: Any = _SOURCE.read(
        base,
        lambda: AutoModelForCausalLM.from_pretrained(base, use_safetensors=True, dtype=torch.float32, **SAFE),
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
