"""What a search says of validation images that its checkpoints were trained on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from popgen.archs import ArchSpec, arch_config, build
from popgen.audit.contamination import contamination, say_contamination
from popgen.data import DataSet, load_data
from popgen.generator import Generator
from popgen.generator.records import Provenance
from popgen.zoo import Checkpoint, Zoo


@pytest.fixture
def generator() -> Generator:
    made = Generator.from_pretrained("digits")
    made.provenance = Provenance()  # what it was trained on is what a test says
    return made


def zoo_of(folder: Path, *trained: tuple[str, str]) -> Zoo:
    """Networks with random weights, of the data sets and sources given."""
    spec = ArchSpec.from_config("mlp-s")
    zoo = Zoo.create(folder, "some")
    for i, (data, source) in enumerate(trained):
        record = Checkpoint(
            id=f"n{i}", arch="mlp-s", arch_config=arch_config("mlp-s"), data=data, lineage=str(i), source=source
        )
        zoo.add([(record, spec.to_flat(build("mlp-s", seed=i).state_dict()))])
    return zoo


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataSet:
    """A set called cifar10 in the data folder, none of whose images is there twice."""
    monkeypatch.setenv("POPGEN_DATA", str(tmp_path))
    x, other = np.split(np.random.default_rng(0).integers(0, 256, (110, 16, 16, 3), dtype=np.uint8), [100])
    np.savez(tmp_path / "cifar10.npz", x_train=x, y_train=np.arange(100) % 2, x_test=other, y_test=np.arange(10) % 2)
    return load_data("cifar10")


BUILT, FOREIGN = "popgen zoo build some", "https://github.com/someone/nets"


def test_popgen_has_trained_on_the_training_split_alone_and_others_on_validation_too(
    tmp_path: Path, generator: Generator, pictures: DataSet
) -> None:
    built = contamination(pictures, generator, zoo_of(tmp_path / "a", ("cifar10", BUILT)))
    assert built == {"within": [], "shared": [], "checked": ["cifar10"], "not_checked": []}
    foreign = contamination(pictures, generator, zoo_of(tmp_path / "b", ("cifar10", BUILT), ("cifar10", FOREIGN)))
    none = {"exact": 0, "near": 0, "of": 10}
    all_of_val = {"exact": 20, "near": 0, "of": 20}
    assert foreign["shared"] == [{"data": "cifar10", "seen": "train+val", "val": all_of_val, "test": none}]


def test_a_network_that_starts_from_a_foreign_one_has_seen_what_that_has(
    tmp_path: Path, generator: Generator, pictures: DataSet
) -> None:
    zoo = zoo_of(tmp_path / "z", ("cifar10/noise:0.2", BUILT))
    for parent, seen in (("start:0", []), ("start:zoos/theirs#resnet20/cifar10/net", ["train+val"])):
        zoo.records = [zoo.records[0].model_copy(update={"parent": parent})]
        assert [one["seen"] for one in contamination(pictures, generator, zoo)["shared"]] == seen


@pytest.mark.usefixtures("pictures")
def test_variants_are_put_aside_on_both_sides(tmp_path: Path, generator: Generator) -> None:
    zoo = zoo_of(tmp_path / "z", ("cifar10/noise:0.2", FOREIGN))
    [found] = contamination(load_data("cifar10/rotate:90/mirror"), generator, zoo)["shared"]
    assert (found["data"], found["val"]["exact"]) == ("cifar10", 20)


def test_subsets_leave_out_what_was_not_seen(tmp_path: Path, generator: Generator, pictures: DataSet) -> None:
    copy = f"npz:{tmp_path / 'copy.npz'}"
    images = (pictures.train.inputs.permute(0, 2, 3, 1) * 255).round().byte().numpy()
    own = {"x_val": images, "y_val": pictures.train.targets.numpy()}
    test = {"x_test": images[:4] // 3, "y_test": np.arange(4) % 2}
    np.savez(tmp_path / "copy.npz", x_train=255 - images, y_train=own["y_val"], **own, **test)
    [found] = contamination(load_data(copy), generator, zoo_of(tmp_path / "z", ("cifar10/shots:3", BUILT)))["shared"]
    assert (found["val"], found["seen"]) == ({"exact": 6, "near": 0, "of": 80}, "train")
    [whole] = contamination(load_data(copy), generator, zoo_of(tmp_path / "y", ("cifar10", BUILT)))["shared"]
    assert whole["val"]["exact"] == 80


@pytest.mark.usefixtures("tmp_path")
def test_without_a_zoo_the_generator_knows(generator: Generator, pictures: DataSet) -> None:
    generator.provenance = replace(Provenance(), data=["cifar10/noise:0.1", "stl10"], foreign=["cifar10/noise:0.1"])
    found = contamination(pictures, generator, None)
    assert (found["checked"], found["not_checked"]) == (["cifar10"], ["stl10"])  # stl10 is not downloaded
    assert found["shared"][0]["val"]["exact"] == 20
    lines: list[str] = []
    say_contamination(found, pictures, lines.append)
    assert lines == [
        "cifar10: 20 of 20 validation images (20 pixel for pixel, 0 as near copies) are among the images of cifar10 that "
        "checkpoints were trained on (train+val): accuracy on them is inflated",
        "cifar10: not compared with the training images of stl10, which are not here",
    ]


def test_a_file_that_is_gone_or_broken_is_not_compared(tmp_path: Path, generator: Generator, pictures: DataSet) -> None:
    (tmp_path / "broken.npz").write_bytes(b"PK and no more")
    names = [f"npz:{tmp_path / 'broken.npz'}", f"npz:{tmp_path / 'gone.npz'}", "somewhere:else"]
    found = contamination(pictures, generator, zoo_of(tmp_path / "z", *((name, FOREIGN) for name in names)))
    assert found == {"within": [], "shared": [], "checked": [], "not_checked": sorted(names)}


def test_digits_are_clean() -> None:
    made = Generator.from_pretrained("digits")
    found = contamination(load_data("digits/rotate:45"), made, Zoo.open("digits"))
    assert found == {"within": [], "shared": [], "checked": ["digits"], "not_checked": []}


def test_copies_in_another_split_of_the_same_data_are_counted_and_said(tmp_path: Path, generator: Generator) -> None:
    x = np.random.default_rng(1).random((40, 16, 16, 3), dtype=np.float32)
    val, test = x[10:14].copy(), x[[20, 12, 13]].copy()
    val[0] = val[0] * 0.9 + 0.05  # a near copy
    labels = {"y_train": np.arange(10) % 2, "y_val": np.arange(6) % 2, "y_test": np.arange(3) % 2}
    np.savez(tmp_path / "it.npz", x_train=x[1:11], x_val=np.concatenate([val, x[4:6]]), x_test=test, **labels)
    data = load_data(f"npz:{tmp_path}/it.npz")
    found = contamination(data, generator, None)
    assert found["within"] == [
        {"split": "val", "among": "train", "exact": 2, "near": 1, "of": 6},
        {"split": "test", "among": "val", "exact": 2, "near": 0, "of": 3},
    ]
    lines: list[str] = []
    say_contamination(found, data, lines.append)
    assert lines == [
        f"{data.name}: 3 of 6 validation images (2 pixel for pixel, 1 as near copies) are among its own training images: "
        "accuracy on them is inflated",
        f"{data.name}: 2 of 3 test images (2 pixel for pixel, 0 as near copies) are among its own validation images: "
        "the test score is not independent of the choice",
    ]


def test_texts_are_compared_without_case_and_white_space(
    tmp_path: Path, generator: Generator, capsys: pytest.CaptureFixture[str]
) -> None:
    def table(name: str, texts: list[str]) -> str:
        lines = [f'"{text}",{i % 2},{("train", "val", "test")[i // 4]}' for i, text in enumerate(texts)]
        (tmp_path / name).write_text("\n".join(["text,label,split", *lines]) + "\n", encoding="utf-8")
        return f"text:{tmp_path / name}"

    own = table("own.csv", [f"text {i}" for i in range(11)] + ["Text  0"])
    seen = table("seen.csv", [f"TEXT {i}" for i in range(7, 11)] + [f"other {i}" for i in range(8)])
    found = contamination(load_data(own), generator, zoo_of(tmp_path / "z", (seen, BUILT), ("digits", BUILT)))
    assert found["within"] == [{"split": "test", "among": "train", "exact": 1, "near": 0, "of": 4}]
    counts = {"val": {"exact": 1, "near": 0, "of": 4}, "test": {"exact": 3, "near": 0, "of": 4}}
    assert found["shared"] == [{"data": seen, "seen": "train", **counts}]
    assert (found["checked"], found["not_checked"]) == (["digits", seen], [])
    say_contamination(found, load_data(own), print)
    assert capsys.readouterr().out == (
        f"{own}: 1 of 4 validation texts, 3 of 4 test texts are among the texts of {seen} that checkpoints were trained on "
        "(train): accuracy on them is inflated\n"
    )


def test_few_labels_for_both_splits_are_no_finding(generator: Generator) -> None:
    assert contamination(load_data("digits/labels:20"), generator, None)["within"] == []
