"""Small bases and classifiers of real classes of transformers, with random weights and a tokenizer of a few words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    LlamaConfig,
    LlamaModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
    ViTConfig,
    ViTModel,
    XLMRobertaConfig,
    XLMRobertaModel,
)

WORDS = [
    "good",
    "bad",
    "film",
    "food",
    "fine",
    "dull",
    "warm",
    "cold",
    "the",
    "a",
    "was",
    "is",
    "very",
    "not",
    "and",
    "it",
    "review",
    "movie",
    "meal",
    "story",
]
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_SIZES = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64, "num_hidden_layers": 3}


def save_base(folder: Path, kind: str = "bert", seed: int = 0) -> Path:
    """Save a base of three layers and width 32 in transformers' format, and return its folder."""
    words = _tokenizer(with_types=kind == "bert")
    torch.manual_seed(seed)
    _save(_NETWORKS[kind](len(words)), folder)
    words.save_pretrained(folder)
    return folder


def save_classifier(folder: Path, kind: str = "bert", labels: Sequence[str] = ("bad", "good"), seed: int = 0) -> Path:
    """Save a classifier of texts, or for `vit` one of images of 3x8x8, in transformers' format, and return its folder."""
    words = _tokenizer(with_types=kind == "bert")
    torch.manual_seed(seed)
    config = _NETWORKS[kind](len(words)).config
    config.id2label, config.label2id = dict(enumerate(labels)), {name: i for i, name in enumerate(labels)}
    config.pad_token_id = 0
    loader = AutoModelForImageClassification if kind == "vit" else AutoModelForSequenceClassification
    _save(loader.from_config(config), folder)
    if kind == "vit":
        size = {"height": 8, "width": 8}
        said = {
            "image_processor_type": "ViTImageProcessor",
            "size": size,
            "image_mean": [0.5] * 3,
            "image_std": [0.25] * 3,
        }
        (folder / "preprocessor_config.json").write_text(json.dumps(said))
    else:
        words.save_pretrained(folder)
    return folder


def _save(net: PreTrainedModel, folder: Path) -> None:
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)  # initial weights hardly let tokens matter
    net.save_pretrained(folder)


def _bert(words: int) -> PreTrainedModel:
    return BertModel(BertConfig(vocab_size=words, max_position_embeddings=64, **_SIZES))


def _distilbert(words: int) -> PreTrainedModel:
    return DistilBertModel(
        DistilBertConfig(vocab_size=words, max_position_embeddings=64, dim=32, n_heads=4, hidden_dim=64, n_layers=3)
    )


def _roberta(words: int) -> PreTrainedModel:
    return RobertaModel(RobertaConfig(vocab_size=words, max_position_embeddings=66, pad_token_id=0, **_SIZES))


def _llama(words: int) -> PreTrainedModel:
    return LlamaModel(LlamaConfig(vocab_size=words, max_position_embeddings=64, **_SIZES))


def _xlm_roberta(words: int) -> PreTrainedModel:
    return XLMRobertaModel(XLMRobertaConfig(vocab_size=words, max_position_embeddings=66, pad_token_id=0, **_SIZES))


def _vit(_: int) -> PreTrainedModel:
    return ViTModel(ViTConfig(image_size=8, patch_size=4, **_SIZES))


_NETWORKS = {
    "bert": _bert,
    "distilbert": _distilbert,
    "roberta": _roberta,
    "xlm-roberta": _xlm_roberta,
    "llama": _llama,
    "vit": _vit,
}


def _tokenizer(with_types: bool) -> PreTrainedTokenizerFast:
    letters = [*"abcdefghijklmnopqrstuvwxyz", *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz")]
    vocabulary = {token: i for i, token in enumerate([*_SPECIAL, *letters, *(w for w in WORDS if len(w) > 1)])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")],
    )
    names = ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_input_names=names if with_types else [name for name in names if name != "token_type_ids"],
        pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]",
    )  # fmt: skip
