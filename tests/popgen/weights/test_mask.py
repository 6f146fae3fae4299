"""Masks: some tensors are generated, the others are those of a base checkpoint."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from popgen.archs import ArchSpec, build
from popgen.errors import PopgenError
from popgen.generator import Generator
from popgen.weights.mask import check_mask, read_mask


@pytest.fixture
def base(tmp_path: Path) -> str:
    file = tmp_path / "base.safetensors"
    save_file(build("resnet-s", seed=5).state_dict(), file)
    return str(file)


@pytest.mark.parametrize("patterns", [["head"], ["*running_*", "head"], ["*"]])
def test_matching_tensors_are_generated_and_others_kept(base: str, patterns: list[str]) -> None:
    spec = ArchSpec.from_config("resnet-s")
    mask = read_mask(spec, patterns, base)
    assert mask.sha256 == hashlib.sha256(Path(base).read_bytes()).hexdigest()
    states = [spec.to_state(flat) for flat in mask.compose(torch.full((2, spec.size), 9.0))]
    kept = build("resnet-s", seed=5).state_dict()
    for tensor in spec.tensors:
        chosen = "*" in patterns or tensor.name.startswith(spec.head + ".")
        chosen |= len(patterns) == 2 and "running_" in tensor.name
        for state in states:
            assert (
                bool((state[tensor.name] == 9).all()) if chosen else torch.equal(state[tensor.name], kept[tensor.name])
            )


def test_a_decoder_applies_its_mask(base: str) -> None:
    generator = Generator.from_pretrained("digits")
    decoder = generator.decoder("resnet-s")
    mask = read_mask(generator.spec("resnet-s"), ["head"], base)
    latents = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    some, every = replace(decoder, mask=mask).weights_of_many(latents), decoder.weights_of_many(latents)
    assert torch.equal(some[:, mask.generated], every[:, mask.generated])
    assert torch.equal(some[:, ~mask.generated], mask.base[~mask.generated].expand(3, -1))
    assert torch.equal(replace(decoder, mask=mask).to("cpu").weights(latents[0]), some[0])


@pytest.mark.parametrize(
    ("archs", "patterns", "base", "pieces"),
    [
        (["mlp-s"], ["head"], None, ["--parts head needs a base", "--base FILE.safetensors"]),
        (["mlp-s"], [], "b.safetensors", ["--base b.safetensors needs parts", "--parts head"]),
        (["mlp-s", "cnn-s"], ["head"], "b.safetensors", ["of one architecture", "mlp-s, cnn-s", "of the file"]),
    ],
)
def test_options_that_do_not_go_together(
    archs: list[str], patterns: list[str], base: str | None, pieces: list[str]
) -> None:
    with pytest.raises(PopgenError) as caught:
        check_mask(archs, patterns, base)
    assert all(piece in str(caught.value) for piece in pieces), str(caught.value)


@pytest.mark.parametrize(
    ("arch", "pattern", "content", "pieces"),
    [
        (
            "resnet-s",
            "linear.weigth",
            None,
            ["no tensor of 'resnet-s' matches --parts 'linear.weigth'", "linear.weight", "'*.bias'"],
        ),
        ("mlp-s", "head", None, ["base.safetensors does not fit the architecture 'mlp-s'", "Name the architecture"]),
        ("resnet-s", "head", b"", ["base.safetensors cannot be read", "plain state dict"]),
        ("resnet-s", "head", "missing", ["there is no file", "--base names the checkpoint"]),
    ],
)
def test_files_and_globs_that_do_not_fit(
    base: str, arch: str, pattern: str, content: bytes | str | None, pieces: list[str]
) -> None:
    if content == "missing":
        Path(base).unlink()
    elif isinstance(content, bytes):
        Path(base).write_bytes(content)
    with pytest.raises(PopgenError) as caught:
        read_mask(ArchSpec.from_config(arch), [pattern], base)
    assert all(piece in str(caught.value) for piece in pieces), str(caught.value)
