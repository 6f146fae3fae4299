"""`popgen layers`: from files of weights to a ranking, a choice for --parts, and every refusal."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from popgen.archs import build
from popgen.audit.layers import EMBEDDING, NO_FLOAT, NO_NOISE, SMALL, VECTOR, count_reasons, layers
from popgen.configs.layers import LayersConfig
from popgen.errors import BadInput

SIGNALS = (0, 3, 1, 2)  # strong singular values of each layer's query


def signal(m: int, n: int, count: int, seed: int) -> Tensor:
    """Noise with `count` strong singular values."""
    made = torch.Generator().manual_seed(seed)
    left, right = (torch.linalg.qr(torch.randn(side, count + 1, generator=made))[0][:, :count] for side in (m, n))
    return torch.randn(m, n, generator=made) + 5 * (math.sqrt(m) + math.sqrt(n)) * left @ right.T


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    """A small transformer's tensors: the queries differ in their signals, the values are all alike but for their scale."""
    found = {
        "embeddings.word_embeddings.weight": signal(96, 32, 1, 90),
        "pooler.dense.weight": signal(32, 32, 4, 91),
        "stem.weight": signal(16, 27, 2, 92).reshape(16, 3, 3, 3),
        "steps": torch.arange(64).reshape(8, 8),
        "classifier.weight": torch.randn(3, 32, generator=torch.Generator().manual_seed(93)),
        "low_rank.weight": torch.outer(torch.arange(1.0, 33), torch.arange(1.0, 41)),
    }
    for number, count in enumerate(SIGNALS):
        found[f"layer.{number}.query.weight"] = signal(48, 32, count, 10 + number)
        found[f"layer.{number}.query.bias"] = torch.zeros(48)
        found[f"layer.{number}.value.weight"] = 10.0**number * signal(32, 32, 1, 7)
    return found


@pytest.fixture(scope="module")
def file(tensors: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_file(tensors, path)
    return path


def test_each_kind_is_ranked_by_itself(file: Path) -> None:
    found = layers(LayersConfig(base=str(file)))
    queries = [layer for layer in found.layers if layer.kind == "layer.*.query.weight"]
    assert [layer.name for layer in queries] == [f"layer.{number}.query.weight" for number in (1, 3, 2, 0)]
    assert [layer.rank for layer in queries] == [3, 2, 1, 0]
    values = [layer.snr for layer in found.layers if layer.kind == "layer.*.value.weight"]
    assert values == [pytest.approx(values[0], rel=1e-4)] * 4, "the scale does not count"
    [stem] = [layer for layer in found.layers if layer.name == "stem.weight"]
    assert (stem.shape, stem.matrix, stem.rank) == ((16, 3, 3, 3), (16, 27), 2)
    assert not found.chosen


def test_what_is_left_out_is_said(file: Path) -> None:
    found = layers(LayersConfig(base=str(file)))
    reasons = {one.name: one.why for one in found.left_out}
    assert reasons["embeddings.word_embeddings.weight"] == EMBEDDING
    assert (reasons["steps"], reasons["classifier.weight"]) == (NO_FLOAT, SMALL)
    assert reasons["low_rank.weight"] == NO_NOISE
    assert count_reasons(found.left_out) == {VECTOR: 4, EMBEDDING: 1, NO_FLOAT: 1, SMALL: 1, NO_NOISE: 1}
    smaller = layers(LayersConfig(base=str(file), min_side=3))
    assert "classifier.weight" in [layer.name for layer in smaller.layers]


@pytest.mark.parametrize(
    ("top", "chosen"),
    [("50%", {1, 3}), ("1", {1}), ("25%", {1}), ("4", {1, 2, 3}), ("100%", {1, 2, 3})],  # 0 has nothing above the edge
)
def test_the_top_of_each_kind_is_chosen(file: Path, top: str, chosen: set[int]) -> None:
    names = layers(LayersConfig(base=str(file), top=top)).chosen
    assert {name for name in names if "query" in name} == {f"layer.{number}.query.weight" for number in chosen}
    assert any("value" in name for name in names)


def test_together_all_compete(file: Path) -> None:
    found = layers(LayersConfig(base=str(file), top="2", together=True))
    assert {layer.kind for layer in found.layers} == {"all"}
    ratios = [layer.snr for layer in found.layers]
    assert ratios == sorted(ratios, reverse=True)
    assert found.chosen == [layer.name for layer in found.layers[:2]]


def test_shards_give_what_one_file_gives(file: Path, tensors: dict[str, Tensor], tmp_path: Path) -> None:
    names, index = sorted(tensors), {}
    for number, some in enumerate((names[::2], names[1::2])):
        shard = f"model-{number}.safetensors"
        save_file({name: tensors[name] for name in some}, tmp_path / shard)
        index |= dict.fromkeys(some, shard)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    whole, parts = (layers(LayersConfig(base=str(base), top="50%")) for base in (file.parent, tmp_path))
    assert {layer.name: layer.snr for layer in whole.layers} == {layer.name: layer.snr for layer in parts.layers}
    assert sorted(whole.chosen) == sorted(parts.chosen)


def test_half_precision_is_read(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    half_precision = {name: one.bfloat16() for name, one in tensors.items() if "query" in name}
    save_file(half_precision, tmp_path / "half.safetensors")
    half = layers(LayersConfig(base=str(tmp_path)))
    assert [layer.rank for layer in half.layers] == [3, 2, 1, 0]


def test_the_commands_print_the_table_the_list_and_json(popgen: Any, file: Path) -> None:
    shown = popgen("layers", file)
    assert "layer.1.query.weight" in shown.out and "3 of 32" in shown.out
    [said] = [line for line in shown.err.splitlines() if line.startswith("left out: ")]
    assert {"4 vector", "1 embedding", "1 small", "1 not floating point", "1 no scale of noise"} == set(
        said.removeprefix("left out: ").split(", ")
    )
    chosen = popgen("layers", file, "--top", "1").out.strip().split(",")
    assert "layer.1.query.weight" in chosen
    found = popgen("layers", file, "--top", "1", "--json").json
    assert [one["name"] for one in found["layers"] if one["chosen"]] == chosen
    assert {"name", "shape", "kind", "rank", "edge", "snr", "chosen"} <= found["layers"][0].keys()
    assert {one["why"] for one in found["left_out"]} == {VECTOR, EMBEDDING, NO_FLOAT, SMALL, NO_NOISE}
    paper = popgen("layers", file, "--formula", "spectrum", "--json").json
    assert paper["layers"][0]["edge"] < found["layers"][0]["edge"]


def test_a_checkpoint_of_a_zoo_is_ranked(popgen: Any) -> None:
    parts = popgen("layers", "digits#resnet-s/digits/blur/s0", "--top", "1").out.strip()
    assert parts == "layer2.0.conv1.weight,layer2.0.conv2.weight"


def test_the_folder_of_a_search_means_its_best_network(popgen: Any, tmp_path: Path) -> None:
    save_file({"latents": torch.randn(20, 30)}, tmp_path / "population-cnn-s.safetensors")
    save_file(build("cnn-s", seed=0).state_dict(), tmp_path / "best-cnn-s.safetensors")
    found = popgen("layers", tmp_path, "--json").json
    assert [one["matrix"] for one in found["layers"]] == [[8, 9], [16, 72], [10, 256]]
    save_file(build("mlp-s", seed=0).state_dict(), tmp_path / "best-mlp-s.safetensors")
    refused = popgen("layers", tmp_path, code=4).err
    assert "holds 2 files of weights" in refused and "best-mlp-s.safetensors" in refused
    assert "population" not in refused


def _cut(path: Path) -> None:
    save_file({"a.weight": torch.ones(32, 32)}, path)
    path.write_bytes(path.read_bytes()[:900])


def _index(path: Path, content: str) -> None:
    path.write_text(content)


NO_SHARD = '{"weight_map": {"a": "gone.safetensors"}}'
OUTSIDE = '{"weight_map": {"a": "../gone.safetensors"}}'


@pytest.mark.parametrize(
    ("name", "write", "code", "said"),
    [
        ("m.safetensors", _cut, 5, "cannot be read as safetensors"),
        ("m.safetensors", lambda path: path.write_bytes(b""), 5, "is empty"),
        ("m.safetensors", lambda path: path.write_text("<html>"), 5, "a web page"),
        ("m.pt", lambda path: path.write_bytes(b"PK\x03\x04"), 4, "nothing is unpickled here"),
        ("model.safetensors.index.json", lambda path: _index(path, "[]"), 5, "not the index"),
        ("model.safetensors.index.json", lambda path: _index(path, NO_SHARD), 5, "gone.safetensors"),
        ("model.safetensors.index.json", lambda path: _index(path, OUTSIDE), 4, "leaves the folder"),
        ("m.safetensors", lambda path: save_file({"b": torch.ones(9)}, path), 4, "left out: 1 vector"),
        ("m.safetensors", lambda path: save_file({}, path), 4, "it is empty"),
        ("m.safetensors", lambda path: save_file({"w": torch.full((9, 9), math.nan)}, path), 4, "not finite"),
    ],
)
def test_what_cannot_be_ranked_is_refused(
    popgen: Any, tmp_path: Path, name: str, write: Any, code: int, said: str
) -> None:
    write(tmp_path / name)
    called = popgen("layers", tmp_path / name, code=code)
    assert said in called.err and not called.out


def test_a_tensor_that_no_shard_has_is_named(popgen: Any, tmp_path: Path) -> None:
    save_file({"a": torch.eye(9)}, tmp_path / "one.safetensors")
    _index(tmp_path / "x.safetensors.index.json", '{"weight_map": {"a": "one.safetensors", "b": "one.safetensors"}}')
    assert "names tensors that no shard has\nb" in popgen("layers", tmp_path, code=5).err


@pytest.mark.parametrize(
    ("base", "said"),
    [
        ("nowhere", "there is no file or folder 'nowhere'"),
        ("nowhere#mlp-s/x", "there is no zoo 'nowhere'"),
        ("digits#mlp-s/digits/blr/s0", "there is no checkpoint"),
        (".", "holds no .safetensors file"),
    ],
)
@pytest.mark.usefixtures("here")
def test_unknown_names_are_refused(popgen: Any, base: str, said: str) -> None:
    assert said in popgen("layers", base, code=3).err


@pytest.mark.parametrize("top", ["0", "0%", "101%", "many", "-1"])
def test_a_top_that_is_no_number_is_refused(popgen: Any, file: Path, top: str) -> None:
    assert f"--top {top} is no number of matrices" in popgen("layers", file, "--top", top, code=4).err


def test_a_top_that_chooses_nothing_is_refused(file: Path) -> None:
    with pytest.raises(BadInput, match="--top chooses no matrix\nthe largest of 4 kinds has 4"):
        layers(LayersConfig(base=str(file), top="10%"))
