"""The folder of a generator: what is saved is loaded again, and damaged folders are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.configs.generator import EncoderConfig, VAEConfig
from popgen.data import load_data
from popgen.errors import BrokenFile, NotFound
from popgen.generator import Generator, GeneratorConfig
from popgen.weights import Scaling


def untrained() -> Generator:
    """A small generator with random parameters and no codes."""
    torch.manual_seed(1)
    specs = {name: ArchSpec.from_config(name) for name in ("mlp-s", "resnet-s")}
    weights = {name: 0.1 * torch.randn(3, spec.size) for name, spec in specs.items()}
    scalings = {name: Scaling.fit(specs[name], w) for name, w in weights.items()}
    vae = VAEConfig(latent_tokens=2, latent_width=3, token_width=16, width=16, heads=2)
    config = GeneratorConfig(vae=vae, encoders=EncoderConfig(width=16, heads=2, out=8))
    generator = Generator(config, specs, scalings, 128, 64)
    generator.codes = torch.randn(0, 2, 3)
    generator.bases, generator.robust = ({"mlp-s": torch.randn(specs["mlp-s"].size)} for _ in range(2))
    return generator.eval().requires_grad_(False)


def test_a_saved_generator_is_the_same_within_half_precision_and_then_exactly(tmp_path: Path) -> None:
    made = untrained()
    once = Generator.from_pretrained(made.save_pretrained(tmp_path / "once"))
    twice = Generator.from_pretrained(once.save_pretrained(tmp_path / "twice"))
    state, first, second = made.state_dict(), once.state_dict(), twice.state_dict()
    assert state.keys() == first.keys() == second.keys()
    assert once.bases.keys() == {"mlp-s"} and torch.equal(once.bases["mlp-s"], made.bases["mlp-s"])
    assert once.robust.keys() == {"mlp-s"} and torch.equal(once.robust["mlp-s"], made.robust["mlp-s"])
    for name, tensor in state.items():
        assert torch.allclose(first[name], tensor, rtol=1e-3, atol=1e-6), name
        assert torch.equal(first[name], second[name]), name
        assert first[name].dtype == tensor.dtype
    for file in ("model.safetensors", "config.json", "codes.json"):
        assert (tmp_path / "once" / file).read_bytes() == (tmp_path / "twice" / file).read_bytes()
    assert once.sha256 == twice.sha256 != ""
    z = torch.randn(2, 2, 3)
    for arch in made.archs:
        scale = made.scalings[arch].scale
        assert torch.equal(once.decode(arch, z), twice.decode(arch, z))
        normal = (once.decode(arch, z) - made.decode(arch, z))[:, ~made.scalings[arch].is_log]
        assert (normal / scale[~made.scalings[arch].is_log]).abs().max() < 0.01
    assert not any(p.requires_grad for p in once.parameters())


def test_the_built_in_generator_is_copied_exactly(tmp_path: Path) -> None:
    digits = Generator.from_pretrained("digits")
    copy = Generator.from_pretrained(digits.save_pretrained(tmp_path / "copy"))
    assert copy.sha256 == digits.sha256
    assert copy.records == digits.records
    assert copy.provenance == digits.provenance
    assert copy.config == digits.config
    data = load_data("digits/rotate:45")
    assert torch.equal(copy.sample("mlp-s", data, n=2), digits.sample("mlp-s", data, n=2))


def cut(file: str, share: float) -> Callable[[Path], None]:
    """Truncate a file to a share of its bytes."""

    def damage(folder: Path) -> None:
        content = (folder / file).read_bytes()
        (folder / file).write_bytes(content[: int(share * len(content))])

    return damage


def remove(file: str) -> Callable[[Path], None]:
    return lambda folder: (folder / file).unlink()


def write(file: str, content: bytes) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / file).write_bytes(content)

    return damage


def setting(*keys: str, value: object = None) -> Callable[[Path], None]:
    """Replace a value of config.json, or remove it."""

    def damage(folder: Path) -> None:
        config = inner = json.loads((folder / "config.json").read_text())
        for key in keys[:-1]:
            inner = inner[key]
        inner.pop(keys[-1], None)
        if value is not None:
            inner[keys[-1]] = value
        (folder / "config.json").write_text(json.dumps(config))

    return damage


def tensor(name: str, change: Callable[[Tensor], Tensor] | None) -> Callable[[Path], None]:
    """Change a tensor of model.safetensors, or remove it."""

    def damage(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        old = tensors.pop(name)
        if change is not None:
            tensors[name] = change(old).contiguous()
        save_file(tensors, folder / "model.safetensors")

    return damage


def broken(folder: Path, damage: Callable[[Path], None]) -> Path:
    """Save a generator, damage its folder, and return the folder."""
    untrained().save_pretrained(folder)
    damage(folder)
    return folder


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (cut("model.safetensors", 0.5), "cannot be read"),
        (cut("model.safetensors", 0), "cannot be read"),
        (cut("config.json", 0.5), "cannot be read"),
        (cut("codes.json", 0.3), "cannot be read"),
        (remove("model.safetensors"), "cannot be read"),
        (remove("codes.json"), "cannot be read"),
        (write("codes.json", b"[1]"), "do not fit together"),
        (setting("format", value=99), "has format 99\nthis popgen reads format 3"),
        (setting("generator", "vae", "width", value=32), "do not fit together"),
        (setting("generator", "vae", "unknown", value=32), "do not fit together"),
        (setting("archs", "mlp-s", "options", value={"hidden": [32]}), "do not fit together"),
        (setting("text_dim"), "do not fit together"),
        (tensor("vae.queries", None), "do not fit together"),
        (tensor("scaling.mlp-s.scale", None), "do not fit together"),
        (tensor("latent_mean", lambda t: t[:1]), "do not fit together"),
    ],
)
def test_broken_folders(tmp_path: Path, damage: Callable[[Path], None], text: str) -> None:
    with pytest.raises(BrokenFile) as caught:
        Generator.from_pretrained(broken(tmp_path / "g", damage))
    assert f"{tmp_path / 'g'} {text}" in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (tensor("remainder_codes", lambda t: torch.zeros(2, t.shape[1])), "there are 0 codes but 2 residual codes"),
        (
            setting("provenance", "data", value=["digits"]),
            "lists 1 data sets, model.safetensors holds the embeddings of 0",
        ),
        (
            tensor("scaling.mlp-s.scale", lambda t: t[:3]),
            "4810 references and 3 scales, the architecture has 4810 parameters",
        ),
        (
            tensor("whole.base.mlp-s", lambda t: t[:7]),
            "the base network of mlp-s has 7 values, the architecture has 4810 parameters",
        ),
        (setting("generator", "vae", "width", value=2**20), "size mismatch"),  # nothing of that size is allocated
        (setting("archs", "mlp-s", "builder", value=0.5), "builder of an architecture is 0.5, not str"),
    ],
    ids=["residual codes", "data sets", "scaling", "base", "width", "builder"],
)
def test_files_that_do_not_fit_are_described_with_their_sizes(
    tmp_path: Path, damage: Callable[[Path], None], text: str
) -> None:
    with pytest.raises(BrokenFile, match="do not fit together") as caught:
        Generator.from_pretrained(broken(tmp_path / "g", damage))
    assert text in str(caught.value)


@pytest.mark.parametrize(
    "damage",
    [
        write("config.json", b"[]"),
        write("config.json", b"\xff\xfe{}"),
        setting("archs"),
        setting("archs", "mlp-s", "builder"),
        setting("archs", "mlp-s", "builder", value="zzz"),
        write(
            "codes.json", b'[{"id":"a","arch":"mlp-s","data":"d","seed":0,"val_accuracy":1,"test_accuracy":1,"row":7}]'
        ),
    ],
    ids=["list", "bytes", "no archs", "no builder", "builder", "row"],
)
def test_other_broken_folders(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    with pytest.raises(BrokenFile):
        Generator.from_pretrained(broken(tmp_path / "g", damage))


def test_names_that_are_no_generator(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no generator called 'digit'\nnearest known: digits\nName a built-in"):
        Generator.from_pretrained("digit")
    with pytest.raises(NotFound, match="is not a generator\nit has no config.json\n`popgen train SPEC.yaml` makes one"):
        Generator.from_pretrained(tmp_path)
    with pytest.raises(NotFound):
        Generator.from_pretrained("../assets/generators/digits")
