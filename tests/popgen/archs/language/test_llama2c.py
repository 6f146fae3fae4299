"""Files of llama2.c are read as its own program reads them."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
import torch

from popgen.archs.language.llama2c import find_tokenizer, read_config, read_state, read_tokenizer
from popgen.errors import BrokenFile, NotFound

sys.path.insert(0, str(Path(__file__).parents[2]))
from tiny_lm import make_llama, save_llama2c, save_tokens

PIECES = [
    "s",
    "h",
    "e",
    " ",
    "l",
    "i",
    "n",
    "é",
    "sh",
    " s",
    "he",
    "she",
    " she",
    "ll",
    "el",
    "ell",
    "shell",
    "in",
    " in",
    "li",
]


@pytest.mark.parametrize("tied", [True, False])
def test_a_model_gives_the_outputs_of_the_one_that_was_written(tmp_path: Path, tied: bool) -> None:
    model = make_llama(tied=tied)
    file = save_llama2c(tmp_path / "model.bin", model)
    state, ids = read_state(file), torch.arange(40).view(2, 20)
    again = make_llama(seed=1, tied=tied)
    again.load_state_dict(state, strict=False)
    assert set(model.state_dict()) - set(state) == ({"lm_head.weight"} if tied else set())
    with torch.no_grad():
        assert torch.allclose(again(ids).logits, model(ids).logits, atol=1e-5)
    config = read_config(file)
    assert (config.rms_norm_eps, config.max_position_embeddings, config.tie_word_embeddings) == (1e-5, 64, tied)


@pytest.mark.parametrize(
    ("damage", "piece"),
    [
        (lambda content: content[:20], "shorter than a header"),
        (lambda content: content[:-4], "and its tensors take"),
        (lambda content: b"\x00" * 28 + content[28:], "its header says (0, 0"),
        (lambda content: content[:12] + (7).to_bytes(4, "little") + content[16:], "its header says (32, 48, 2, 7"),
    ],
)
def test_a_damaged_model_is_refused(tmp_path: Path, damage: object, piece: str) -> None:
    file = save_llama2c(tmp_path / "model.bin", make_llama())
    file.write_bytes(damage(file.read_bytes()))  # type: ignore[operator]
    with pytest.raises(BrokenFile) as caught:
        read_state(file)
    assert piece in str(caught.value)


def merged(text: str, tokens: list[str], scores: dict[str, float]) -> list[int]:
    """The encoding of llama2.c's run.c: of all neighbours the pair with the highest score is merged, the first of equals."""
    ids = {token: i for i, token in enumerate(tokens)}
    found: list[int] = []
    for letter in f" {text}":
        found += [ids[letter]] if letter in ids else [byte + 3 for byte in letter.encode()]
    while True:
        pairs = [(tokens[a] + tokens[b], at) for at, (a, b) in enumerate(zip(found, found[1:], strict=False))]
        known = [(scores[pair], -at) for pair, at in pairs if pair in scores]
        if not known:
            return [1, *found]
        at = -max(known)[1]
        found[at : at + 2] = [ids[tokens[found[at]] + tokens[found[at + 1]]]]


def test_a_tokenizer_merges_as_the_program_does(tmp_path: Path) -> None:
    scores = {piece: -float(i) for i, piece in enumerate(PIECES)}
    file, tokens = save_tokens(tmp_path / "tok279.bin", scores)
    assert find_tokenizer(tmp_path / "model.bin", 279) == file
    tokenizer, draws = read_tokenizer(file, 279), random.Random(0)
    for _ in range(200):
        text = "".join(draws.choices("shelin é\nß→", k=draws.randint(0, 30)))
        ids = tokenizer(text)["input_ids"]
        assert ids == merged(text, tokens, scores) or text == ""
        assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_a_tokenizer_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="looked for tok279.bin and tokenizer.bin"):
        find_tokenizer(tmp_path / "model.bin", 279)
    file, _ = save_tokens(tmp_path / "tokenizer.bin", dict.fromkeys(PIECES, 0.0))
    assert find_tokenizer(tmp_path / "model.bin", 279) == file
    with pytest.raises(BrokenFile, match="279 of 300 tokens can be read"):
        read_tokenizer(file, 300)
    with pytest.raises(BrokenFile, match="fewer than the 259"):
        read_tokenizer(file, 100)
    content = file.read_bytes()
    file.write_bytes(content[:8] + (1 << 20).to_bytes(4, "little") + content[12:])
    with pytest.raises(BrokenFile, match="token 0 has 1048576 bytes"):
        read_tokenizer(file, 279)
