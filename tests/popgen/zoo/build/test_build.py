"""Building a zoo: interrupted, resumed, with workers."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from popgen.archs import ArchSpec, build
from popgen.configs.spec import Recipe, ZooSpec
from popgen.data import load_data
from popgen.errors import BadInput, CannotResume, NotFound
from popgen.networks.train import evaluate, train_snapshots
from popgen.zoo import Zoo, build_zoo, train_network
from popgen.zoo.build.build import plan

SPEC = ZooSpec(
    name="tiny",
    archs=["mlp-s", "cnn-s"],
    data={"source": "digits", "rotate": {"every": 180}, "variants": ["invert"]},
    seeds=[0, 1],
    held_out={"seeds": [1]},
    recipe={"epochs": 1},
    workers=0,
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    return build_zoo(SPEC, tmp_path_factory.mktemp("zoo") / "tiny", progress=False)


def test_a_network_learns_and_is_the_same_again() -> None:
    spec, data = ArchSpec.from_config("cnn-s"), load_data("digits/rotate:30")
    start = build("cnn-s", seed=0).state_dict()
    state, metrics = train_network(spec, data, Recipe(epochs=3), start=start, seed=5)
    assert metrics["test_accuracy"] > 0.8
    assert evaluate(spec, state, data.test) == (metrics["test_loss"], metrics["test_accuracy"])
    again, _ = train_network(spec, data, Recipe(epochs=3), start=start, seed=5)
    other, _ = train_network(spec, data, Recipe(epochs=3), start=start, seed=6)
    assert torch.equal(spec.to_flat(again), spec.to_flat(state))
    assert not torch.equal(spec.to_flat(other), spec.to_flat(state))


def test_without_epochs_the_start_is_returned() -> None:
    spec, start = ArchSpec.from_config("resnet-s"), build("resnet-s", seed=4).state_dict()
    state, _ = train_network(spec, load_data("digits"), Recipe(epochs=0), start=start, seed=0)
    assert torch.equal(spec.to_flat(state), spec.to_flat(start))


@pytest.mark.parametrize(
    "recipe", [{"optimizer": "sgd", "lr": 0.05, "schedule": "constant"}, {"batch": 5000, "lr": 0.05}]
)
def test_other_recipes_train(recipe: dict[str, object]) -> None:
    spec, data = ArchSpec.from_config("mlp-s"), load_data("digits")
    _, metrics = train_network(spec, data, Recipe.model_validate({"epochs": 4, **recipe}), start=None, seed=0)
    assert metrics["train_loss"] < 2.25  # An untrained network has about ln 10 = 2.30.


def test_training_that_diverges_is_reported() -> None:
    recipe = Recipe(epochs=2, optimizer="sgd", lr=1e12, schedule="constant")
    with pytest.raises(BadInput, match="the network trained as mlp-s on digits with seed 0 holds NaN or infinity"):
        train_network(ArchSpec.from_config("mlp-s"), load_data("digits"), recipe, start=None, seed=0)


def test_a_zoo_has_every_network_of_its_spec(built: Zoo) -> None:
    assert len(built) == 12
    assert built.verify() == []
    assert {r.seed for r in built.select(held_out=True)} == {1}
    assert len({r.lineage for r in built.records}) == 12
    assert {r.parent for r in built.records} == {"start:0"}
    for found in built.records:
        loss, accuracy = evaluate(built.spec(found.arch), built.state(found), load_data(found.data).test)
        assert (loss, accuracy) == (found.metrics["test_loss"], found.metrics["test_accuracy"])
    assert torch.equal(built.reference("cnn-s"), built.spec("cnn-s").to_flat(build("cnn-s", seed=0).state_dict()))


def test_workers_do_not_change_the_weights(built: Zoo, tmp_path: Path) -> None:
    other = build_zoo(SPEC, tmp_path / "other", workers=2, progress=False)
    assert other.sha256 == built.sha256
    files = sorted(p.relative_to(built.folder) for p in built.folder.rglob("*") if p.is_file())
    assert all((built.folder / p).read_bytes() == (other.folder / p).read_bytes() for p in files)


@pytest.mark.slow
def test_workers_get_large_starts_without_an_error_of_ray(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Ray says on stderr that a worker could not be restarted if its constructor takes more than 100 kB."""
    spec = ZooSpec(name="large", archs=["mlp-s/hidden:512"], data=["digits"], seeds=[0, 1], recipe={"epochs": 1})
    assert len(build_zoo(spec, tmp_path / "zoo", workers=2, progress=False)) == 2
    assert "constructor arguments" not in capfd.readouterr().err


def test_a_killed_build_goes_on_to_the_same_zoo(built: Zoo, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    code = (
        "import sys; from pathlib import Path; import popgen.zoo.build.build as b; from popgen.configs.spec import ZooSpec\n"
        "b._WRITE_NETWORKS = 1\n"
        "b.build_zoo(ZooSpec.model_validate_json(sys.argv[1]), Path(sys.argv[2]), workers=0, progress=False)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, SPEC.model_dump_json(by_alias=True), str(folder)])
    index, deadline = folder / "index.jsonl", time.monotonic() + 60
    while not (index.exists() and index.read_bytes().count(b"\n") >= 3) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = len(Zoo.open(folder))
    assert 3 <= finished < 12
    assert len(plan(SPEC, folder).to_train) == 12 - finished
    again = build_zoo(SPEC, folder, progress=False)
    assert again.sha256 == built.sha256
    assert again.verify() == []
    assert not [p for p in folder.rglob("*.tmp")]


def test_ctrl_c_keeps_finished_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = iter(range(100))
    real = train_snapshots

    def interrupted(*args: object, **kwargs: object) -> object:
        if next(calls) == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return real(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr("popgen.zoo.build.trainer.train_snapshots", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build_zoo(SPEC, tmp_path / "zoo", progress=False)
    assert len(Zoo.open(tmp_path / "zoo")) == 4


RUNS = ZooSpec(
    name="runs",
    archs=["resnet-s"],
    data=["digits"],
    seeds=[0, 1],
    start=None,
    recipe={"epochs": 1, "snapshots": 3, "snapshot_every": 9},
    workers=0,
)


def test_a_run_leaves_snapshots_of_its_lineage(tmp_path: Path) -> None:
    zoo = build_zoo(RUNS, tmp_path / "zoo", progress=False)
    first, second = "resnet-s/digits/s0", "resnet-s/digits/s1"
    ids = [f"{run}{end}" for run in (first, second) for end in ("/end-18", "/end-9", "")]
    assert {record.id: record.lineage for record in zoo.records} == dict(
        zip(ids, [first] * 3 + [second] * 3, strict=True)
    )
    assert zoo.verify() == []
    spec, data = zoo.spec("resnet-s"), load_data("digits")
    final, metrics = train_network(spec, data, RUNS.recipe, start=None, seed=0)
    assert torch.equal(zoo.matrix([zoo.record(first)])[0], spec.to_flat(final)), "snapshots do not change the training"
    assert zoo.record(first).metrics == metrics
    early = zoo.record(f"{first}/end-18")
    assert evaluate(spec, zoo.state(early), data.val) == (early.metrics["val_loss"], early.metrics["val_accuracy"])
    assert early.metrics["train_loss"] > metrics["train_loss"], "after 2 of the 20 steps of an epoch"


def test_a_run_that_lost_a_snapshot_is_trained_again(tmp_path: Path) -> None:
    zoo = build_zoo(RUNS, tmp_path / "zoo", progress=False)
    before = zoo.sha256
    zoo.drop(["resnet-s/digits/s0/end-9"])
    found = plan(RUNS, tmp_path / "zoo")
    assert (found.total, [run.id for run in found.to_train]) == (6, ["resnet-s/digits/s0"])
    assert build_zoo(RUNS, tmp_path / "zoo", progress=False).sha256 == before


def test_snapshots_that_a_run_has_no_steps_for_are_refused(tmp_path: Path) -> None:
    recipe = RUNS.recipe.model_copy(update={"snapshot_every": 11})
    with pytest.raises(BadInput, match="3 snapshots, 11 steps apart, take 23 steps\na training on digits has 20"):
        build_zoo(RUNS.model_copy(update={"recipe": recipe}), tmp_path / "zoo", progress=False)


def test_a_build_that_fails_before_its_first_network_leaves_no_zoo(tmp_path: Path) -> None:
    recipe = Recipe(epochs=2, optimizer="sgd", lr=1e12, schedule="constant")
    diverging = SPEC.model_copy(update={"recipe": recipe})
    with pytest.raises(BadInput, match="holds NaN or infinity"):
        build_zoo(diverging, tmp_path / "new", progress=False)
    assert not (tmp_path / "new").exists()
    assert len(build_zoo(_one_network(0), tmp_path / "new", progress=False)) == 1


def test_an_empty_zoo_takes_another_spec(tmp_path: Path) -> None:
    """A build that is killed before its first network cannot tidy up."""
    Zoo.create(tmp_path, "tiny", spec=SPEC.content())
    assert len(plan(_one_network(7), tmp_path).to_train) == 1
    assert [r.seed for r in build_zoo(_one_network(7), tmp_path, progress=False).records] == [7]


def _one_network(seed: int) -> ZooSpec:
    return ZooSpec(name="one", archs=["mlp-s"], data=["digits"], seeds=[seed], recipe={"epochs": 1})


def test_damaged_networks_are_trained_anew(built: Zoo, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    for path in built.folder.rglob("*"):
        if path.is_file():
            (folder / path.relative_to(built.folder)).parent.mkdir(parents=True, exist_ok=True)
            (folder / path.relative_to(built.folder)).write_bytes(path.read_bytes())
    shard = folder / built.records[0].shard
    content = bytearray(shard.read_bytes())
    content[-7] ^= 1
    shard.write_bytes(content)
    assert len(Zoo.open(folder).verify()) == 1 == len(plan(SPEC, folder).to_train)
    assert build_zoo(SPEC, folder, progress=False).verify() == []
    assert Zoo.open(folder).sha256 == built.sha256


def test_a_changed_spec_is_refused(built: Zoo) -> None:
    changed = SPEC.model_copy(update={"recipe": Recipe(epochs=2), "seeds": [0]})
    with pytest.raises(CannotResume) as caught:
        build_zoo(changed, built.folder, progress=False)
    assert "changed: recipe.epochs was 1, is 2; seeds was [0, 1], is [0]" in str(caught.value)
    assert plan(SPEC.model_copy(update={"workers": 7}), built.folder).to_train == []


@pytest.mark.parametrize(
    ("changes", "error", "expected"),
    [
        ({"archs": ["cnn-x"]}, NotFound, "no architecture called 'cnn-x'"),
        ({"data": ["digits/rotat:3"]}, NotFound, "no variant called 'rotat'"),
        ({"recipe": {"variants": ["invert/rotat:3"]}}, NotFound, "no variant called 'rotat'"),
        (
            {"archs": [{"name": "c", "like": "cnn-s", "classes": 3}]},
            BadInput,
            "'c' has 3 outputs, data set 'digits' has 10",
        ),
        ({"archs": [{"name": "c", "like": "cnn-s", "options": {"width": 3}}]}, BadInput, "does not take these options"),
    ],
)
def test_a_spec_that_cannot_work_is_refused_first(
    tmp_path: Path, changes: dict[str, object], error: type, expected: str
) -> None:
    spec = ZooSpec.model_validate({**SPEC.model_dump(by_alias=True), "held_out": {}, **changes})
    with pytest.raises(error, match=expected):
        build_zoo(spec, tmp_path / "zoo", progress=False)
    assert not (tmp_path / "zoo").exists()
