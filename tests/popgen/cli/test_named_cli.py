"""Named data sets on the command line: --data-dir, what is said, what a run records, and how it goes on."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from sklearn.datasets import load_digits

from popgen.configs.spec import ZooSpec
from popgen.data import load_data
from popgen.zoo import build_zoo

QUICK = ("--arch", "mlp-s", "--workers", 0, "--evaluations", 26, "--baselines", "none")


@pytest.fixture
def folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder: `svhn.npz` made of digits, and an STL-10 of other images in torchvision's layout."""
    monkeypatch.setenv("POPGEN_DATA", str(here / "nothing"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    place = here / "sets"
    (place / "stl10_binary").mkdir(parents=True)
    digits = load_digits()
    x, y = (digits.images * 15.9).astype(np.uint8), digits.target
    np.savez(place / "svhn.npz", x_train=x[:1200], y_train=y[:1200], x_test=x[1200:], y_test=y[1200:])
    images = np.random.default_rng(0).integers(0, 256, (40, 3, 96, 96), dtype=np.uint8)
    for split in ("train", "test"):
        images.tofile(place / "stl10_binary" / f"{split}_X.bin")
        (1 + np.arange(40) % 10).astype(np.uint8).tofile(place / "stl10_binary" / f"{split}_y.bin")
    return place


def test_a_run_on_a_named_set_goes_on_without_its_folder_being_named_again(popgen, here: Path, folder: Path) -> None:
    done = popgen("search", *QUICK, "--data", "svhn/rotate:30", "--data-dir", "sets", "--out", "run", "--json")
    config = yaml.safe_load((here / "run" / "config.yaml").read_text())
    assert (config["search"]["data"], config["search"]["data_dir"]) == ("svhn/rotate:30", str(folder))
    assert done.results[0]["details"]["contamination"] == {
        "within": [],
        "shared": [],
        "checked": ["digits"],
        "not_checked": [],
    }
    more = popgen("search", "--resume", "run", "--evaluations", 38, "--json")
    [search] = [row for row in more.results[0]["rows"] if row["name"] == "search"]
    assert search["evaluations"] == 38
    moved = folder.rename(here / "moved")
    assert "'svhn' is not there" in popgen("search", "--resume", "run", "--dry-run", code=6).err
    assert popgen("search", "--resume", "run", "--dry-run", "--data-dir", moved).json["data"] == "svhn/rotate:30"


def test_stl10_of_other_images(popgen, folder: Path) -> None:
    said = popgen("search", *QUICK, "--data", "stl10", "--data-dir", folder, "--out", "run")
    assert "are not the published files of stl10 (md5)" in said.err
    assert "mlp-s: head refit" in said.err  # digits' networks know no airplane
    assert (
        "mlp-s: images of 3x96x96 resized to the network's 1x8x8 (bilinear, antialiased, colour averaged to grey)"
        in said.err
    )
    recorded = yaml.safe_load(Path("run/config.yaml").read_text())["recorded"]
    assert "are not the published files" in recorded["data_remarks"][0]
    facts = popgen("search", *QUICK, "--data", "stl10/size:32", "--data-dir", folder, "--dry-run").json
    assert facts["images"] == {"train": 32, "val": 8, "test": 40}
    assert facts["data_remarks"][1] == "images of 96x96: shorter side resized to 32, centre 32x32 kept"
    assert facts["contamination"]["not_checked"] == []


def test_contamination_is_said_before_the_search(popgen, here: Path) -> None:
    train = load_data("digits").train
    images = (train.inputs[:, 0] * 255).round().byte().numpy()
    own = {
        f"{key}_{split}": value
        for split in ("train", "val", "test")
        for key, value in (("x", images[:200]), ("y", train.targets[:200].numpy()))
    }
    np.savez(here / "seen.npz", **own)
    facts = popgen("search", *QUICK, "--data", "npz:seen.npz", "--dry-run").json
    every = {"exact": 200, "near": 0, "of": 200}
    assert facts["contamination"]["shared"] == [{"data": "digits", "seen": "train", "val": every, "test": every}]
    done = popgen("search", *QUICK, "--data", "npz:seen.npz", "--json")
    assert "npz:seen.npz: 200 of 200 validation images (200 pixel for pixel" in done.err
    assert done.results[0]["details"]["contamination"]["shared"][0]["val"] == every


def test_other_commands_take_the_folder(popgen, here: Path, folder: Path) -> None:
    import ray  # sets variables of its own when it is imported

    assert ray.__version__
    before = dict(os.environ)
    made = popgen("generate", "--arch", "mlp-s", "--data", "svhn", "-n", 2, "--data-dir", folder, "--json").json
    assert len(made["networks"]) == 2
    sweep = {"name": "s", "archs": ["mlp-s"], "data": ["svhn"], "search": {"evaluations": 30}}
    (here / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    assert len(popgen("sweep", "sweep.yaml", "--dry-run", "--data-dir", folder).json["searches"]) == 1
    spec = {"zoo": {"name": "z", "archs": ["mlp-s"], "data": "svhn/size:8", "recipe": {"epochs": 1}}}
    (here / "zoo.yaml").write_text(json.dumps(spec))
    assert popgen("zoo", "build", "zoo.yaml", "--workers", 0, "--data-dir", folder, "--json").json["networks"] == 1
    assert dict(os.environ) == before, "a command leaves the environment as it was"


@pytest.mark.parametrize("command", ["generate", "sweep"])
@pytest.mark.usefixtures("folder")
def test_without_the_folder(popgen, here: Path, command: str) -> None:
    (here / "sweep.yaml").write_text("{name: s, archs: [mlp-s], data: [svhn]}")
    rest = {"generate": ("--arch", "mlp-s", "--data", "svhn"), "sweep": ("sweep.yaml", "--dry-run")}
    said = popgen(command, *rest[command], code=6).err
    assert (
        "...\nerror: data set 'svhn' is not there\nlooked for train_32x32.mat, test_32x32.mat, or svhn.npz, in" in said
    )
    assert "Download train_32x32.mat, test_32x32.mat from http://ufldl.stanford.edu/housenumbers/" in said


@pytest.mark.slow  # Ray is started
@pytest.mark.usefixtures("ray_cluster")
def test_workers_that_ray_started_earlier_look_in_the_same_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POPGEN_DATA", str(folder))
    spec = ZooSpec(name="z", archs=["mlp-s"], data="svhn", recipe={"epochs": 1})
    built = [build_zoo(spec, tmp_path / f"{n}", workers=n, progress=False) for n in (0, 1)]
    assert built[0].sha256 == built[1].sha256


def test_a_folder_of_several_sizes(popgen, here: Path) -> None:
    for i in range(40):
        (here / "pictures" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.new("L", (20 + i, 30), 5 * i).save(here / "pictures" / "ab"[i % 2] / f"{i}.png")
    said = popgen("search", *QUICK, "--data", "folder:pictures", code=4).err
    assert "have their centres resized: folder:pictures/size:32." in said
    facts = popgen("search", *QUICK, "--data", "folder:pictures/size:16", "--dry-run").json
    assert facts["data_remarks"] == [
        "images read: 40, split here into train, val and test",
        "images of 40 sizes: shorter side resized to 16, centre 16x16 kept",
        "24 of 24 train images are blank: all their pixels have one value",
        "8 of 8 val images are blank: all their pixels have one value",
        "8 of 8 test images are blank: all their pixels have one value",
    ]


def test_thin_data_are_said_before_a_search(popgen, here: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 8, 8), np.uint8)
    labels = np.arange(30) % 10
    arrays = {"x_train": pixels, "y_train": labels, "x_val": pixels[:4], "y_val": labels[:4]}
    np.savez(here / "few.npz", **arrays, x_test=pixels[5:9], y_test=labels[5:9])
    facts = popgen("search", *QUICK, "--data", "npz:few.npz", "--dry-run").json
    assert facts["data_remarks"] == ["val has 4 images: its accuracy says next to nothing, and one image decides"]
    assert facts["contamination"]["within"][0] == {"split": "val", "among": "train", "exact": 4, "near": 0, "of": 4}
