"""A tiny Llama with random weights and a tokenizer of bytes, and texts of two made-up domains, for tests of language models."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WORDS = {
    "sea": "the old ship sails over a calm blue sea and the captain sings to a white bird near the shore",
    "kitchen": "a young cook cuts red onions for the hot soup while his friend bakes bread with salt and butter",
    "garden": "tall green trees give shade to small roses where bees fly in warm light after the morning rain",
}


def make_llama(seed: int = 0, vocabulary: int = 256, tied: bool = True) -> LlamaForCausalLM:
    """A Llama of two layers with grouped keys."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=vocabulary,
        max_position_embeddings=64,
        rms_norm_eps=1e-5,
        tie_word_embeddings=tied,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = LlamaForCausalLM(config).eval()
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.data.uniform_(0.5, 1.5)
    return model


def save_llama(folder: Path, tied: bool = True) -> Path:
    """Write such a model with a tokenizer of single bytes, in transformers' format."""
    make_llama(tied=tied).save_pretrained(folder)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE({token: i for i, token in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    return folder


def save_text(file: Path, domain: str, words: int = 3000) -> Path:
    """Write a text of random words of a domain, ten a line."""
    drawn = random.Random(domain).choices(WORDS[domain].split(), k=words)
    file.write_text("\n".join(" ".join(drawn[i : i + 10]) for i in range(0, words, 10)))
    return file


def save_llama2c(file: Path, model: LlamaForCausalLM) -> Path:
    """Write a model as llama2.c's export does: rows of queries and keys in neighbouring rotary pairs."""
    config, state = model.config, model.state_dict()
    of_head = config.hidden_size // config.num_attention_heads

    def paired(matrix: Tensor, heads: int) -> Tensor:
        return matrix.view(heads, 2, of_head // 2, -1).transpose(1, 2).reshape(matrix.shape)

    def layers(name: str, heads: int | None = None) -> list[Tensor]:
        found = [state[f"model.layers.{i}.{name}.weight"] for i in range(config.num_hidden_layers)]
        return found if heads is None else [paired(one, heads) for one in found]

    tables = torch.zeros(config.max_position_embeddings, of_head // 2)
    tensors = [
        state["model.embed_tokens.weight"],
        *layers("input_layernorm"),
        *layers("self_attn.q_proj", config.num_attention_heads),
        *layers("self_attn.k_proj", config.num_key_value_heads),
        *layers("self_attn.v_proj"),
        *layers("self_attn.o_proj"),
        *layers("post_attention_layernorm"),
        *layers("mlp.gate_proj"),
        *layers("mlp.down_proj"),
        *layers("mlp.up_proj"),
        state["model.norm.weight"],
        tables,
        tables,
    ]
    tied = config.tie_word_embeddings
    header = (
        config.hidden_size,
        config.intermediate_size,
        config.num_hidden_layers,
        config.num_attention_heads,
        config.num_key_value_heads,
        config.vocab_size if tied else -config.vocab_size,
        config.max_position_embeddings,
    )
    content = struct.pack("<7i", *header) + b"".join(one.numpy().astype("<f4").tobytes() for one in tensors)
    file.write_bytes(content if tied else content + state["lm_head.weight"].numpy().astype("<f4").tobytes())
    return file


def save_tokens(file: Path, pieces: dict[str, float]) -> tuple[Path, list[str]]:
    """Write a tokenizer of llama2.c with the bytes and these pieces, scores behind them; the file and its tokens."""
    tokens = ["<unk>", "\n<s>\n", "\n</s>\n", *(f"<0x{byte:02X}>" for byte in range(256)), *pieces]
    scores = [0.0] * 259 + list(pieces.values())
    rows = [(score, token.encode()) for score, token in zip(scores, tokens, strict=True)]
    packed = [struct.pack("<fi", score, len(token)) + token for score, token in rows]
    file.write_bytes(struct.pack("<i", max(len(token) for _, token in rows)) + b"".join(packed))
    return file, tokens
