"""stories260K, a published file of llama2.c, and texts of several domains. Skipped where the files are absent."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import torch

from popgen.archs import arch_config
from popgen.archs.language.bases import fresh_model, pretrained_state, read_tokenizer
from popgen.texts import to_bytes, to_texts

SHARED = Path(__file__).parents[3] / "shared" / "data"
BASE = str(SHARED / "checkpoints" / "stories260K" / "stories260K.bin")

pytestmark = [pytest.mark.real, pytest.mark.skipif(not SHARED.exists(), reason="needs the published checkpoints")]


def test_it_tells_a_story() -> None:
    model, tokenizer = fresh_model(BASE).eval(), read_tokenizer(BASE)
    model.load_state_dict(pretrained_state(BASE))
    ids = tokenizer("Once upon a time", return_tensors="pt")["input_ids"]
    written = model.generate(input_ids=ids, max_new_tokens=60, do_sample=False)  # type: ignore[operator]
    story = tokenizer.decode(written[0], skip_special_tokens=True)
    assert story.startswith(
        "Once upon a time, there was a little girl named Lily. She loved to play outside in the park."
    )


@pytest.mark.parametrize("domain", ["news", "python", "drama", "reviews", "requests", "plots"])
def test_encoded_texts_decode_to_themselves(domain: str) -> None:
    text = gzip.decompress((SHARED / "text_lm" / f"{domain}.txt.gz").read_bytes()).decode()
    examples = to_bytes([text[i : i + 150] for i in range(0, 60_000, 150)])
    inputs, tokenizer = arch_config(f"lm:{BASE}/context:512").inputs, read_tokenizer(BASE)
    rows = [row[row >= 0] for row in inputs.prepare(examples)]
    assert [tokenizer.decode(row, skip_special_tokens=True) for row in rows] == to_texts(examples)
    assert all(int(row[0]) == 1 and not bool((row[1:] == 1).any()) for row in rows)
    assert torch.cat(rows).max() < 512
