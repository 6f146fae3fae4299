"""A user's session: downloaded ResNet56 checkpoints, STL-10 in its published layout, `popgen search --arch resnet56 --data stl10`.

The folder of STL-10 has other images in it than the published ones, which is said. In the quick session the checkpoint is a fresh network, in the
other there are published ones and the images those of CIFAR-10.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from popgen.archs import ArchSpec, arch_config, build, with_classes

REAL = Path(__file__).parents[4] / "shared" / "data"
STL10 = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
OF_CIFAR = {**{name: STL10.index(name) for name in CIFAR10 if name in STL10}, "automobile": 2, "frog": 7}


def write_stl10(root: Path, parts: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """`root/stl10_binary`: uint8 images (n, 96, 96, 3), column by column in each colour, and labels from 1."""
    folder = root / "stl10_binary"
    folder.mkdir(parents=True)
    for split, (images, labels) in parts.items():
        images.transpose(0, 3, 2, 1).tofile(folder / f"{split}_X.bin")
        (labels + 1).astype(np.uint8).tofile(folder / f"{split}_y.bin")
    (folder / "class_names.txt").write_text("\n".join(STL10) + "\n")


def noise(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images whose brightness depends on their class."""
    rng, labels = np.random.default_rng(seed), np.arange(count) % 10
    images = rng.integers(0, 40, (count, 96, 96, 3)) + 20 * labels[:, None, None, None]
    return images.astype(np.uint8), labels


@pytest.mark.slow  # its steps have quicker tests of their own
def test_resnet56_on_stl10(popgen, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    write_stl10(tmp_path / "data", {"train": noise(50, 0), "test": noise(20, 1)})
    state = {f"module.{name}": tensor for name, tensor in build("resnet56", seed=0).state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "run.th")
    zoo = ("--zoo", "zoos/cifar", "--arch", "resnet56", "--data", "cifar10", "--classes", ",".join(CIFAR10))
    popgen("zoo", "import", "run.th", *zoo, cwd=tmp_path)
    search = ("search", "--arch", "resnet56", "--data", "stl10", "--data-dir", "data", "--workers", 0)
    planned = popgen(*search, "--dry-run", cwd=tmp_path).json
    assert planned["archs"]["resnet56"] == {"parameters": ArchSpec.from_config("resnet56").size, "head": "refit"}
    assert planned["images"] == {"train": 40, "val": 10, "test": 20}
    called = popgen(*search, "--evaluations", 5, "--batch", 2, "--json", cwd=tmp_path)
    [found] = called.results
    for said in (
        "no generator knows resnet56: its weights are searched around the experts of zoos/cifar",
        "are not the published files of stl10 (md5)",
        "not compared with the training images of cifar10, which are not here",
        "96x96",
        "head refit",
        "space low-rank around resnet56/cifar10/run, because there is one expert",
    ):
        assert said in called.err, said
    assert [row["name"] for row in found["rows"]] == ["random", "best_zoo", "search"]
    assert found["rows"][-1]["evaluations"] == 5
    weights = tmp_path / found["weights"]
    ten = with_classes(arch_config("resnet56"), 10)
    build(ten).load_state_dict(load_file(weights))
    with safe_open(weights, "pt") as file:
        assert "monkey" in file.metadata()["classes"]
    refused = popgen(*search, "--head", "remap", cwd=tmp_path, code=4)
    assert "monkey" in refused.err
    missing = popgen("search", "--arch", "resnet56", "--data", "stl10", "--data-dir", "nowhere", cwd=tmp_path, code=6)
    assert "stl10" in missing.err


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="needs the checkpoints and images beside the project")
def test_published_resnet56_on_stl10(popgen, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with np.load(REAL / "cifar10" / "cifar10.npz") as archive:
        parts = {
            split: (
                archive[f"x_{split}"][:count].repeat(3, 1).repeat(3, 2),
                np.array([OF_CIFAR[CIFAR10[y]] for y in archive[f"y_{split}"][:count]]),
            )
            for split, count in (("train", 400), ("test", 200))
        }
    write_stl10(tmp_path / "data", parts)
    files = REAL / "checkpoints" / "cifar10_resnet"
    for name in ("akamaster", "dansun-run1", "verdi-rewind010"):
        popgen(
            "zoo",
            "import",
            files / f"resnet56_{name}.th",
            "--zoo",
            "zoos/cifar",
            "--arch",
            "resnet56",
            "--data",
            "cifar10",
            cwd=tmp_path,
        )
    called = popgen(
        "search",
        "--arch",
        "resnet56",
        "--data",
        "stl10",
        "--data-dir",
        "data",
        "--evaluations",
        20,
        "--workers",
        0,
        "--json",
        cwd=tmp_path,
    )
    [found] = called.results
    rows = {row["name"]: row["test_accuracy"] for row in found["rows"]}
    assert rows["search"] > 0.8 > 0.5 > rows["random"]
