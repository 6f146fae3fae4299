"""Distils all-MiniLM-L6-v2 into text-tiny, the static text encoder that ships with popgen.

Command:   python examples/recipes/text_tiny.py --teacher FOLDER --out popgen/assets/encoders/text-tiny
           (FOLDER: all-MiniLM-L6-v2, from `hf download sentence-transformers/all-MiniLM-L6-v2 --local-dir FOLDER`)
Time:      about half a minute on one CPU core
Result:    a sentence-transformers folder of about 1 MB, and its agreement with the teacher
Method:    model2vec's: every token of a vocabulary through the teacher, principal components, and a weight that falls
           with the token's frequency. A text's embedding is the mean of its tokens' rows.
"""

import argparse
import json
import string
from pathlib import Path

import torch
from scipy.stats import spearmanr
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor

WIDTH = 64
WORDS, ENDINGS = 3000, 300  # most frequent whole words and word endings taken from the teacher's vocabulary
RARITY = 1e-4  # SIF constant of model2vec: tokens more frequent than this weigh less

# Words of configuration texts that the teacher's vocabulary cuts into pieces, or that are rare in English.
_DOMAIN = """activation adapter alexnet attention attn backbone batch batchnorm bert bias block blocks bottleneck causal
channel channels classes classifier cnn conv conv1d conv2d convnet convolution convolutional decoder deep densenet
depth depthwise dilation dim dimension dropout efficientnet embed embedding encoder expansion feedforward ffn filters
flatten gelu gpt groupnorm groups head heads hidden image images inception input kernel kernels layer layernorm layers
leaky lenet linear llama lora lstm mask max maxpool mlp mlpmixer mnist mobilenet model momentum network networks norm
normalization output padding parameters patch patches perceptron pixels pool pooling preact projection qkv quickgelu
rank recurrent regnet relu residual resnet rnn seed selu shortcut shufflenet sigmoid silu skip softmax squeezenet stage
stages stem stride swin swish tanh tensor tokens transformer transformers unet vector vgg vision vit vocab vocabulary
weight weights wide wideresnet width widths"""
NUMBERS = sorted({*range(65), *(k << n for k in (1, 3) for n in range(13) if k << n <= 4096), 100, 1000})

# Configurations unlike each other in kind, depth and width, for the agreement with the teacher.
CHECKS = [
    "mlp network, hidden 64, input 1x8x8, 10 classes",
    "mlp network, hidden 128 64, input 1x8x8, 10 classes",
    "mlp network, hidden 512 512 512, input 1x28x28, 26 classes",
    "cnn network, channels 8 16, input 1x8x8, 10 classes",
    "cnn network, channels 32 64 128, input 3x32x32, 10 classes",
    "resnet network, blocks 3, shortcut A, widths 16 32 64, input 3x32x32, 10 classes",
    "resnet network, blocks 9, shortcut A, widths 16 32 64, input 3x32x32, 100 classes",
    "resnet network, blocks 2, shortcut B, widths 64 128 256 512, input 3x224x224, 1000 classes",
    "vision transformer, patch 4, width 192, depth 12, 3 heads, input 3x32x32, 100 classes",
    "vision transformer, patch 16, width 768, depth 12, 12 heads, input 3x224x224, 1000 classes",
    "vgg network, 16 layers with batch norm, input 3x32x32, 10 classes",
    "mobilenet with depthwise convolutions, width 0.5, input 3x96x96",
    "densenet, growth 12, depth 40, input 3x32x32",
    "unet with skip connections, 4 stages, 32 channels",
    "lstm with 2 layers, hidden 256, vocabulary 10000",
    "gpt decoder, 6 layers, 8 heads, embedding 512, causal attention",
    "bert encoder, 12 layers, 12 heads, hidden 768",
    "lora adapter of rank 8 on the attention projections of a llama model",
    "linear classifier on frozen features, 512 inputs, 10 classes",
    "convolutional autoencoder, latent 16, leaky relu, batch normalization",
]


def distil(teacher_folder: str, out: Path) -> None:
    """Write the folder and print its rank correlation with the teacher over the pairs of CHECKS."""
    teacher = SentenceTransformer(teacher_folder, device="cpu", local_files_only=True)
    ranked = sorted(teacher.tokenizer.get_vocab(), key=teacher.tokenizer.get_vocab().__getitem__)
    pieces = _vocabulary(ranked)
    with torch.inference_mode():
        states = teacher.encode(pieces_as_texts(pieces), convert_to_tensor=True, show_progress_bar=False).float()
    rows = _components(states.clone(), WIDTH) * _rarity(pieces, ranked)[:, None]
    rows[0] = 0  # the unknown token, met only outside ASCII
    model = SentenceTransformer(modules=[StaticEmbedding(_tokenizer(pieces), embedding_weights=rows)], device="cpu")
    model.save_pretrained(str(out), create_model_card=False)
    _write_modules(out)
    pairs = torch.triu_indices(len(CHECKS), len(CHECKS), 1)
    likeness = [m.similarity(*[m.encode(CHECKS, convert_to_tensor=True)] * 2)[*pairs].cpu() for m in (teacher, model)]
    print(f"{len(pieces)} tokens; Spearman over {pairs.shape[1]} pairs: {spearmanr(*likeness).statistic:.3f}")


def _vocabulary(ranked: list[str]) -> list[str]:
    """The unknown token, single characters, words, endings and numbers; no text of ASCII characters is unknown."""
    singles = [c for c in string.printable if not c.isspace() and not c.isupper()]
    words = [p for p in ranked if p.isascii() and p.isalpha() and len(p) > 1][:WORDS]
    endings = [p for p in ranked if p.startswith("##") and p[2:].isascii() and p[2:].isalpha() and len(p) > 3][:ENDINGS]
    inner = ["##" + c for c in string.ascii_lowercase + string.digits]
    known = ["[UNK]", *singles, *inner, *words, *endings, *_DOMAIN.split(), *map(str, NUMBERS)]
    return list(dict.fromkeys(known))


def pieces_as_texts(pieces: list[str]) -> list[str]:
    """What the teacher reads for each token."""
    return [piece.removeprefix("##") for piece in pieces]


def _components(states: Tensor, width: int) -> Tensor:
    centred = states - states.mean(0)
    _, _, axes = torch.linalg.svd(centred, full_matrices=False)
    return centred @ axes[:width].T


def _rarity(pieces: list[str], ranked: list[str]) -> Tensor:
    """SIF weights from Zipf's law; the teacher's vocabulary is in order of frequency from its first word on."""
    place = {piece: rank for rank, piece in enumerate(ranked[ranked.index("the") :])}
    rank = torch.tensor([place.get(p, 0 if p in string.punctuation else len(place)) for p in pieces]).float() + 2
    share = (1 / rank) / (1 / torch.arange(2.0, len(place) + 2)).sum()
    return RARITY / (RARITY + share)


def _tokenizer(pieces: list[str]) -> Tokenizer:
    raw = Tokenizer(models.WordPiece({piece: row for row, piece in enumerate(pieces)}, unk_token="[UNK]"))
    raw.normalizer = normalizers.BertNormalizer(lowercase=True)
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return raw


def _write_modules(out: Path) -> None:
    """Name the module by the path that every release of sentence-transformers since 3.2 knows."""
    entries = json.loads((out / "modules.json").read_text())
    entries[0]["type"] = "sentence_transformers.models.StaticEmbedding"
    (out / "modules.json").write_text(json.dumps(entries, indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teacher", required=True, help="folder of all-MiniLM-L6-v2")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    distil(arguments.teacher, arguments.out)
