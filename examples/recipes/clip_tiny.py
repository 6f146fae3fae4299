"""Trains clip-tiny, the small CLIP that ships with popgen, from nothing but procedurally drawn glyphs.

Command:   python examples/recipes/clip_tiny.py --out popgen/assets/encoders/clip-tiny
Time:      about 4 minutes on one CPU core
Result:    an open_clip folder (open_clip_config.json, open_clip_model.safetensors, a tokenizer) of about 2 MB
Check:     python examples/recipes/clip_tiny_probe.py
"""

import argparse
import json
import math
import random
import string
import time
from pathlib import Path

import open_clip
import torch
from glyphs import ANGLE_STEP, FILTERS, IMAGE_SIZE, draw_bank, draw_views
from open_clip.tokenizer import HFTokenizer
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

CONTEXT = 20  # tokens of the longest caption
BATCH = 128
SEED = 0
PEAK_RATE = 2e-3
# Captions of a batch that are encoded: the text tower needs few, and each costs as much as an image.
TEXTS = 32
# The CLIP loss alone is stuck for long: neither tower learns the angle while the other has not. So both towers are also
# drawn to anchors, the truths of the views under one fixed rotation into the embedding space; likeness becomes a smooth
# function of the angle's difference, and averages over images keep it.
ANCHOR_SHARE = 10.0
EMBEDDING = 128


def train(steps: int, out: Path) -> None:
    """Train for `steps` batches, then write the folder."""
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    rng, noise = random.Random(SEED), torch.Generator().manual_seed(SEED)
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = _make_tokenizer(out)
    config = _config(len(tokenizer.tokenizer))
    model = open_clip.model.CLIP(**config, output_dict=True)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}], betas=(0.9, 0.98)
    )
    loss_of = open_clip.ClipLoss()
    bank = draw_bank(rng)
    frame = torch.linalg.qr(torch.randn(EMBEDDING, EMBEDDING)).Q
    start = time.process_time()
    for step in range(1, steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = PEAK_RATE * min(1.0, step / 100) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        views = draw_views(bank, BATCH, rng, noise)
        anchors = views.truths @ frame[: views.truths.shape[1]]
        images = model.encode_image((views.images - 0.5) / 0.5, normalize=True)
        texts = model.encode_text(tokenizer(views.captions[:TEXTS]), normalize=True)
        contrast = loss_of(images[:TEXTS], texts, model.logit_scale.exp())
        apart = 2 - (images * anchors).sum(1).mean() - (texts * anchors[:TEXTS]).sum(1).mean()
        loss = contrast + ANCHOR_SHARE * apart
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        if step % 100 == 0:
            seconds = time.process_time() - start
            print(f"step {step}  contrast {contrast:.3f}  apart {apart:.3f}  {seconds:.0f} s", flush=True)
    _save(model, config, out)


def _config(vocabulary: int) -> dict:
    return {
        "embed_dim": EMBEDDING,
        "vision_cfg": {
            "image_size": IMAGE_SIZE,
            "layers": [1, 1, 1, 1],  # a ResNet: a step costs 0.4 of a vision transformer's
            "width": 8,
            "head_width": 32,
        },
        "text_cfg": {
            "context_length": CONTEXT,
            "vocab_size": vocabulary,
            "hf_tokenizer_name": "clip-tiny",  # open_clip reads the tokenizer from the model's own folder
            "width": 64,
            "heads": 2,
            "layers": 2,
        },
    }


def _make_tokenizer(out: Path) -> HFTokenizer:
    """Word pieces of the captions' words and of single characters; the end token has the highest id."""
    words = ["the", "digit", "letter", "rotated", "by", "degrees", "mirrored", "dark", "on", "light"]
    words += " ".join(FILTERS).split()
    words += [str(angle) for angle in range(0, 360, ANGLE_STEP)]
    singles = list(string.ascii_lowercase + string.digits + string.punctuation)
    pieces = dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", *singles, *("##" + s for s in singles), *words, "[END]"])
    vocabulary = {piece: row for row, piece in enumerate(pieces)}
    raw = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    raw.normalizer = normalizers.BertNormalizer(lowercase=True)
    raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [(name, vocabulary[name]) for name in ("[CLS]", "[END]")]
    raw.post_processor = processors.TemplateProcessing(single="[CLS] $A [END]", special_tokens=ends)
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "eos_token": "[END]"}
    PreTrainedTokenizerFast(tokenizer_object=raw, model_max_length=CONTEXT, **special).save_pretrained(out)
    return HFTokenizer(str(out), context_length=CONTEXT)


def _save(model: torch.nn.Module, config: dict, out: Path) -> None:
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
    text = json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}, indent=2)
    (out / "open_clip_config.json").write_text(text + "\n")
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, out / "open_clip_model.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=2500, help="batches of 128 views")
    arguments = parser.parse_args()
    train(arguments.steps, arguments.out)
