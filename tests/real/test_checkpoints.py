"""Real checkpoints of several sources in one zoo, each evaluated as it was trained. Skipped where the files are absent."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from popgen.configs.load import load
from popgen.configs.spec import ArchEntry, SpecFile, ZooSpec
from popgen.data import DataSet, load_data
from popgen.errors import BadInput, BrokenFile
from popgen.networks.train import evaluate
from popgen.zoo import Zoo, build_zoo
from popgen.zoo.imports.checkpoint import ForeignCheckpoint, import_checkpoint
from popgen.zoo.imports.fetch import check_sha256

HERE = Path(__file__).parent
REAL = HERE.parents[2] / "shared" / "data"
CIFAR = REAL / "cifar10" / "cifar10.npz"
FILES = REAL / "checkpoints"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.real,
    pytest.mark.skipif(not REAL.exists(), reason="needs the published checkpoints"),
]


@pytest.fixture(scope="module")
def spec() -> Iterator[ZooSpec]:
    sys.path.insert(0, str(HERE))  # for nets.py, which the spec names
    yield load(HERE / "shared_real.yaml", SpecFile).zoo
    sys.path.remove(str(HERE))


@pytest.fixture(scope="module")
def zoo(spec: ZooSpec, tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    return build_zoo(spec, tmp_path_factory.mktemp("real") / "zoo", progress=False)


@pytest.fixture(scope="module")
def cifar() -> DataSet:
    return load_data(f"npz:{CIFAR}")


def test_everything_comes_in(zoo: Zoo) -> None:
    counts = {arch: len(zoo.select(arch)) for arch in zoo.archs}
    assert counts == {
        "lenet": 4,
        "lenet-cifar": 1,
        "lora-2": 1,
        "lora-6": 1,
        "resnet20": 13,
        "resnet32": 3,
        "resnet56": 8,
        "small-cnn": 5,
        "small-cnn-225": 2,
        "small-cnn-28": 3,
        "small-cnn-raw": 1,
    }
    assert zoo.verify() == []
    assert sum(len(r.classes) for r in zoo.records if not r.arch.startswith("lora")) == 400
    assert {r.lineage for r in zoo.select("resnet56") if "verdi" in r.id} == {"verdi-r56"}
    assert [zoo.spec(a).size for a in ("small-cnn", "small-cnn-28", "lenet")] == [214_918, 166_406, 62_006]
    record = zoo.record("resnet20/cifar10/resnet20_dansun-run1")
    assert record.note == "removed the prefix 'module.' from its names"
    assert record.licence == "none stated (fork of BSD-2)"


def test_a_build_that_is_started_again_imports_nothing(spec: ZooSpec, zoo: Zoo, tmp_path: Path) -> None:
    shutil.copytree(zoo.folder, tmp_path / "zoo")
    assert build_zoo(spec, tmp_path / "zoo", progress=False).sha256 == zoo.sha256
    moved = spec.model_copy(update={"root": str(FILES)})  # where the files lie is no part of the zoo
    assert build_zoo(moved, tmp_path / "zoo", progress=False).sha256 == zoo.sha256


def scored(zoo: Zoo, name: str, data: DataSet) -> float:
    record = zoo.record(name)
    assert record.classes == data.classes
    return evaluate(zoo.spec(record.arch), zoo.state(record), data.test)[1]


@pytest.mark.parametrize("name", ["resnet20/cifar10/resnet20_bognev", "resnet20/cifar10/resnet20_dansun-undertrained"])
def test_published_accuracies_come_out(zoo: Zoo, cifar: DataSet, name: str) -> None:
    stated = zoo.record(name).metrics["accuracy_first_1000_test_images"]
    assert abs(scored(zoo, name, cifar) - stated) < 0.002


@pytest.mark.slow
def test_all_published_accuracies_come_out(zoo: Zoo, cifar: DataSet) -> None:
    for arch in ("resnet20", "resnet32", "resnet56"):
        for record in zoo.select(arch):
            assert abs(scored(zoo, record.id, cifar) - record.metrics["accuracy_first_1000_test_images"]) < 0.002


def test_networks_of_one_zoo_see_images_as_they_were_trained(zoo: Zoo, cifar: DataSet) -> None:
    """Inputs in [-1, 1], ImageNet's statistics and CIFAR-10's, with another network's normalisation for comparison."""
    assert zoo.spec("lenet").config.inputs.mean == (0.5, 0.5, 0.5)
    assert zoo.spec("resnet20").config.inputs.mean == (0.485, 0.456, 0.406)
    lenets = [scored(zoo, r.id, cifar) for arch in ("lenet", "lenet-cifar") for r in zoo.select(arch)]
    assert all(0.54 <= accuracy <= 0.645 for accuracy in lenets), lenets
    exchanged = {
        "lenet/cifar10/cifar_net1": "resnet20",
        "lenet-cifar/cifar10/cifar_net": "lenet",
        "small-cnn/cifar10/cnn_a_cifar10_mix": "lenet",
    }
    for name, other in exchanged.items():
        spec, wrong = zoo.spec(zoo.record(name).arch), zoo.spec(other).config
        inputs = replace(spec.config.inputs, mean=wrong.inputs.mean, std=wrong.inputs.std)
        config = replace(spec.config, inputs=inputs)
        _, accuracy = evaluate(spec, zoo.state(zoo.record(name)), cifar.test, config)
        assert accuracy < scored(zoo, name, cifar) - 0.1


def test_small_networks_of_four_data_sets(zoo: Zoo, cifar: DataSet) -> None:
    mnist = load_data(f"npz:{REAL / 'mnist' / 'mnist.npz'}")
    assert scored(zoo, "small-cnn-28/mnist/cnn_a_mnist_robust", mnist) > 0.97
    assert scored(zoo, "small-cnn-28/mnist/cnn_a_mnist_adv", mnist) > 0.94
    assert scored(zoo, "small-cnn/cifar10/cnn_a_cifar10_mix", cifar) > 0.76
    assert scored(zoo, "small-cnn-225/cifar10/cnn_a_cifar10_robust36", cifar) > 0.54
    fashion = load_data(f"npz:{REAL / 'mnist' / 'fashion_mnist_900.npz'}")
    assert scored(zoo, "small-cnn-28/fashionmnist/cnn_a_fashion_robust", fashion) > 0.75


@pytest.mark.parametrize(
    ("file", "arch", "lines"),
    [
        (
            "resnet20_akamaster",
            "resnet32",
            [
                "does not fit the architecture 'resnet32'",
                "layer1.3.conv1.weight (16, 16, 3, 3) is missing",
                "are those of 'resnet20'",
            ],
        ),
        ("resnet32_akamaster", "resnet20", ["layer1.3.conv1.weight (16, 16, 3, 3) is not in it"]),
        (
            "resnet20_akamaster",
            "resnet20/shortcut:B",
            ["10 tensors differ", "layer2.0.shortcut.0.weight (32, 16, 1, 1) is missing"],
        ),
        (
            "resnet20_akamaster",
            "resnet20/widths:16-32-96",
            ["layer3.0.conv1.weight is (64, 32, 3, 3), not (96, 32, 3, 3)"],
        ),
    ],
)
def test_a_wrong_architecture_is_explained_by_its_tensors(file: str, arch: str, lines: list[str]) -> None:
    with pytest.raises(BadInput) as caught:
        import_checkpoint(ForeignCheckpoint(FILES / "cifar10_resnet" / f"{file}.th", arch, "cifar10"))
    for line in lines:
        assert line in str(caught.value)


def test_a_cascade_of_networks_asks_which(spec: ZooSpec) -> None:
    with pytest.raises(BadInput, match="holds 3 state dicts in a list"):
        entry = next(a for a in spec.archs if a.name == "small-cnn")
        path = FILES / "small_cnn" / "cnn_a_cifar10_robust8.pth"
        import_checkpoint(ForeignCheckpoint(path, "nets:small_cnn", "cifar10", changes=entry))


@pytest.mark.parametrize(("depth", "digest"), [(20, "12fca82f"), (32, "d509ac18"), (56, "4bfd9763")])
def test_the_hashes_of_the_published_spec_are_those_of_the_files(depth: int, digest: str) -> None:
    path = FILES / "cifar10_resnet" / f"resnet{depth}_akamaster.th"
    (entry,) = [
        e for e in load("zoo_specs/cifar_resnets.yaml", SpecFile).zoo.checkpoints if f"/resnet{depth}-" in (e.url or "")
    ]
    assert entry.digest == digest
    check_sha256(path, entry.digest)
    with pytest.raises(BrokenFile, match="is not the expected file"):
        check_sha256(path, digest[::-1])


def test_a_real_file_goes_into_a_cloned_repositorys_network(tmp_path: Path, cifar: DataSet) -> None:
    shutil.copy(HERE / "nets.py", tmp_path / "their_nets.py")
    (tmp_path / "hubconf.py").write_text("dependencies = ['torch']\nfrom their_nets import lenet\n")
    half = (0.5, 0.5, 0.5)
    entry = ArchEntry(name="their-lenet", input_shape=(3, 32, 32), mean=half, std=half)
    file = ForeignCheckpoint(FILES / "lenet" / "cifar_net3.pth", f"hub:{tmp_path}:lenet", "cifar10", changes=entry)
    record, state = import_checkpoint(file)
    assert (record.id, record.arch_config.classes) == ("their-lenet/cifar10/cifar_net3", 10)
    assert evaluate(file.arch_spec, state, cifar.test)[1] > 0.62


def test_adapters_have_the_tensors_of_their_files(zoo: Zoo) -> None:
    spec = zoo.spec("lora-6")
    names = {t.name: t.kind for t in spec.tensors}
    assert names["base_model.model.distilbert.transformer.layer.0.attention.q_lin.lora_A.weight"] == "linear"
    assert (len(names), spec.head) == (28, "base_model.model.classifier")
    state = zoo.state(zoo.record("lora-6/emotion/emotion"))
    file = load_file(FILES / "lora_distilbert_emotion" / "adapter_model.safetensors")
    assert state.keys() == file.keys() and all(torch.equal(state[name], file[name]) for name in file)
