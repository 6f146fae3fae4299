"""Reads the files of llama2.c (github.com/karpathy/llama2.c): a model such as stories260K.bin and its tokenizer.

A model file holds seven int32 (dimension, hidden dimension, layers, heads, key-value heads, vocabulary, sequence) and float32
tensors; a negative vocabulary says that the output layer is not the embedding. Its rotary pairs are neighbouring rows of the query and
key matrices, which transformers expects half a head apart, so that these rows are permuted here.

A tokenizer file holds an int32 (the longest token) and for each token its score (float32), length (int32) and bytes. It
encodes as SentencePiece's BPE does: a space before the text, single characters, unknown ones as bytes, then the pair whose token has the
highest score is merged as long as there is one.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, processors
from tokenizers.models import BPE
from torch import Tensor
from transformers import LlamaConfig, PreTrainedTokenizerFast

from popgen.errors import BrokenFile, NotFound
from popgen.types import StateDict

_HEADER = struct.Struct("<7i")
_UNKNOWN, _BEGIN, _END = "<unk>", "<s>", "</s>"  # tokens 0 to 2
_FIRST_BYTE = 3  # token of the byte 0; the other bytes follow
_LONGEST = 1 << 16  # a longer token is damage
_NORM_EPS = 1e-5


def read_config(file: Path) -> LlamaConfig:
    """Return the configuration of a model file.

    Raises:
        BrokenFile: it is not a model of llama2.c, or ends before its tensors do.
    """
    with file.open("rb") as opened:
        head = opened.read(_HEADER.size)
    if len(head) < _HEADER.size:
        raise _broken(file, "it is shorter than a header")
    dim, hidden, layers, heads, kv_heads, vocabulary, length = _HEADER.unpack(head)
    if min(dim, hidden, layers, heads, kv_heads, abs(vocabulary), length) < 1 or dim % heads or heads % kv_heads:
        raise _broken(file, f"its header says {_HEADER.unpack(head)}")
    config = LlamaConfig(
        hidden_size=dim,
        intermediate_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        vocab_size=abs(vocabulary),
        max_position_embeddings=length,
        rms_norm_eps=_NORM_EPS,
        tie_word_embeddings=vocabulary > 0,
        bos_token_id=1,
        eos_token_id=2,
    )
    needed = _HEADER.size + 4 * sum(math.prod(shape) for _, shape in _layout(config))
    if file.stat().st_size < needed:
        raise _broken(file, f"it has {file.stat().st_size:,} bytes, and its tensors take {needed:,}")
    return config


def read_state(file: Path) -> StateDict:
    """Return the tensors of a model file under transformers' names, one copy of a tied embedding.

    Raises:
        BrokenFile: as `read_config`.
    """
    config = read_config(file)
    values = torch.from_numpy(np.fromfile(file, "<f4", offset=_HEADER.size))
    state: StateDict = {}
    for name, shape in _layout(config):
        tensor, values = values[: math.prod(shape)].view(shape), values[math.prod(shape) :]
        if name in ("q_proj", "k_proj"):
            heads = config.num_attention_heads if name == "q_proj" else config.num_key_value_heads
            tensor = torch.stack([_half_split(one, heads) for one in tensor])
        if name in _OF_LAYERS:
            state |= {f"model.layers.{i}.{_OF_LAYERS[name]}.weight": one.clone() for i, one in enumerate(tensor)}
        elif name:
            state[f"{name}.weight"] = tensor.clone()
    return state


# Place of each tensor in a layer of transformers.
_OF_LAYERS = {
    **{name: f"self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj", "o_proj")},
    **{name: f"mlp.{name}" for name in ("gate_proj", "down_proj", "up_proj")},
    **{name: name for name in ("input_layernorm", "post_attention_layernorm")},
}


def _layout(config: LlamaConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the tensors in their order in the file; a table of the rotary embedding has the name ""."""
    dim, hidden, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    of_head = dim // config.num_attention_heads
    of_keys = of_head * config.num_key_value_heads
    yield "model.embed_tokens", (config.vocab_size, dim)
    yield "input_layernorm", (layers, dim)
    yield "q_proj", (layers, dim, dim)
    yield "k_proj", (layers, of_keys, dim)
    yield "v_proj", (layers, of_keys, dim)
    yield "o_proj", (layers, dim, dim)
    yield "post_attention_layernorm", (layers, dim)
    yield "gate_proj", (layers, hidden, dim)
    yield "down_proj", (layers, dim, hidden)
    yield "up_proj", (layers, hidden, dim)
    yield "model.norm", (dim,)
    yield "", (2, config.max_position_embeddings, of_head // 2)
    if not config.tie_word_embeddings:
        yield "lm_head", (config.vocab_size, dim)


def _half_split(matrix: Tensor, heads: int) -> Tensor:
    """The rows of a query or key matrix (out, in) with the two of each rotary pair half a head apart."""
    rows, columns = matrix.shape
    return matrix.view(heads, rows // heads // 2, 2, columns).transpose(1, 2).reshape(rows, columns)


def find_tokenizer(model: Path, vocabulary: int) -> Path:
    """Return the tokenizer beside a model file: tokVOCABULARY.bin, or tokenizer.bin.

    Raises:
        NotFound: there is neither.
    """
    names = (f"tok{vocabulary}.bin", "tokenizer.bin")
    for name in names:
        if (model.parent / name).is_file():
            return model.parent / name
    raise NotFound(f"{model} has no tokenizer beside it", f"looked for {' and '.join(names)}", "Copy it there.")


def read_tokenizer(file: Path, vocabulary: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer file as a tokenizer of transformers, which puts the token of the beginning before each text.

    Raises:
        BrokenFile: it is not a tokenizer of so many tokens.
    """
    tokens, scores = _read_tokens(file, vocabulary)
    ids = {token: i for i, token in enumerate(tokens)}
    merges = sorted(_merges(tokens), key=lambda pair: -scores[ids[pair[0] + pair[1]]])
    tokenizer = Tokenizer(BPE(ids, merges, unk_token=_UNKNOWN, byte_fallback=True))
    tokenizer.normalizer = normalizers.Prepend(" ")
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{_BEGIN} $A", special_tokens=[(_BEGIN, 1)])
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in (_UNKNOWN, _BEGIN, _END)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=_BEGIN,
        eos_token=_END,
        unk_token=_UNKNOWN,
        clean_up_tokenization_spaces=False,
    )


def _read_tokens(file: Path, vocabulary: int) -> tuple[list[str], list[float]]:
    """The text and the score of each token."""
    content, at = file.read_bytes(), 4
    texts: list[str] = []
    scores: list[float] = []
    try:
        for _ in range(vocabulary):
            score, length = struct.unpack_from("<fi", content, at)
            at += 8 + length
            if not 0 <= length < _LONGEST or at > len(content):
                raise _broken(file, f"token {len(texts)} has {length} bytes")
            texts.append(content[at - length : at].decode())
            scores.append(score)
    except (struct.error, UnicodeDecodeError) as error:
        raise _broken(file, f"{len(texts)} of {vocabulary} tokens can be read: {error}") from error
    named = [_UNKNOWN, _BEGIN, _END, *(f"<0x{byte:02X}>" for byte in range(256))]
    if vocabulary < len(named):
        raise _broken(file, f"{vocabulary} tokens are fewer than the {len(named)} of bytes and controls")
    return [*named, *texts[len(named) :]], scores


def _merges(tokens: list[str]) -> Iterator[tuple[str, str]]:
    """Every pair of tokens that makes another one; bytes and controls are parts of none."""
    known = set(tokens[_FIRST_BYTE + 256 :])
    for token in tokens[_FIRST_BYTE + 256 :]:
        cuts = ((token[:at], token[at:]) for at in range(1, len(token)))
        yield from (pair for pair in cuts if known.issuperset(pair))


def _broken(file: Path, why: str) -> BrokenFile:
    return BrokenFile(f"{file} is not what llama2.c writes", why, "Copy it again, or name another file.")
