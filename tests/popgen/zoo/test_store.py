"""The folder of a zoo."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from popgen.archs import ArchConfig, ArchSpec, ImageInputs, arch_config, build
from popgen.errors import BadInput, BrokenFile, CannotResume, NotFound
from popgen.zoo import Checkpoint, Zoo

TINY = ArchConfig("tiny", "mlp", {"hidden": [2]}, ImageInputs((1, 1, 2)), 2)
SPECS = {config.name: ArchSpec.from_config(config) for config in (TINY, arch_config("mlp-s"), arch_config("resnet-s"))}


def record(number: int, arch: str = "tiny", **fields: object) -> Checkpoint:
    known = {
        "id": f"{arch}/{number}",
        "arch": arch,
        "arch_config": SPECS[arch].config,
        "data": "digits",
        "seed": number,
    }
    return Checkpoint.model_validate({**known, "lineage": f"run {number}", **fields})


def weights(number: int, arch: str = "tiny") -> torch.Tensor:
    return torch.randn(SPECS[arch].size, generator=torch.Generator().manual_seed(number)).abs()


def fill(zoo: Zoo, numbers: range, arch: str = "tiny") -> None:
    zoo.add([(record(i, arch), weights(i, arch)) for i in numbers])


@pytest.fixture
def zoo(tmp_path: Path) -> Zoo:
    made = Zoo.create(tmp_path / "zoo", "test")
    fill(made, range(5))
    fill(made, range(3), "mlp-s")
    return made


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4), order=st.randoms())
def test_stored_weights_are_read_back(tmp_path_factory: pytest.TempPathFactory, sizes: list[int], order) -> None:
    zoo = Zoo.create(tmp_path_factory.mktemp("zoo"), "test")
    numbers = list(range(sum(sizes)))
    order.shuffle(numbers)
    start = 0
    for size in sizes:
        zoo.add(
            [
                (record(i, ("tiny", "resnet-s")[i % 2]), weights(i, ("tiny", "resnet-s")[i % 2]))
                for i in numbers[start : start + size]
            ]
        )
        start += size
    before = zoo.sha256
    zoo.finalize()
    again = Zoo.open(zoo.folder)
    assert again.sha256 == before
    assert again.verify() == []
    assert len(list((zoo.folder / "shards").iterdir())) == len(again.archs)
    for found in again.records:
        spec = SPECS[found.arch]
        assert torch.equal(spec.to_flat(again.state(found)), weights(found.seed or 0, found.arch))
    mine = again.select(arch="tiny")
    if mine:
        assert torch.equal(again.matrix(mine[::-1]), torch.stack([weights(r.seed or 0) for r in mine[::-1]]))


def test_state_dicts_and_counters(tmp_path: Path) -> None:
    zoo = Zoo.create(tmp_path, "test")
    state = build("resnet-s", seed=3).state_dict()
    zoo.add([(record(0, "resnet-s"), state)])
    found = zoo.state(zoo.record("resnet-s/0"))
    assert list(found) != []
    assert found.keys() == state.keys()
    build("resnet-s").load_state_dict(found)
    assert found["bn1.num_batches_tracked"] == 0


def test_select(zoo: Zoo) -> None:
    zoo.add([(record(9, data="other", held_out=True), weights(9))])
    assert [r.id for r in zoo.select(data="other")] == ["tiny/9"] == [r.id for r in zoo.select(held_out=True)]
    assert [r.id for r in zoo.select(seed=2)] == ["tiny/2", "mlp-s/2"]
    assert (zoo.archs, zoo.data, len(zoo)) == (["tiny", "mlp-s"], ["digits", "other"], 9)


@pytest.mark.parametrize("cut", [1, 10, 200])
def test_a_torn_last_line_is_left_out_and_repaired(zoo: Zoo, cut: int) -> None:
    index = zoo.folder / "index.jsonl"
    index.write_bytes(index.read_bytes()[:-cut])
    torn = Zoo.open(zoo.folder)
    assert [r.id for r in torn.records] == [r.id for r in zoo.records[:-1]]
    assert any("cut off" in line for line in torn.verify())
    fill(torn, range(7, 8))
    assert [r.id for r in Zoo.open(zoo.folder).records] == [*[r.id for r in zoo.records[:-1]], "tiny/7"]
    torn.finalize()
    assert Zoo.open(zoo.folder).verify() == []


def test_reading_changes_nothing(zoo: Zoo) -> None:
    (zoo.folder / "index.jsonl").open("ab").write(b'{"id": "to')
    before = {p: p.read_bytes() for p in zoo.folder.rglob("*") if p.is_file()}
    torn = Zoo.open(zoo.folder)
    torn.verify()
    torn.state(torn.records[0])
    assert {p: p.read_bytes() for p in zoo.folder.rglob("*") if p.is_file()} == before


def test_every_altered_byte_is_found(zoo: Zoo) -> None:
    zoo.finalize()
    shard = zoo.folder / zoo.record("tiny/2").shard
    content = bytearray(shard.read_bytes())
    content[-4 * SPECS["tiny"].size * 3 + 5] ^= 1  # The byte is in the third row from the end, which is tiny/2.
    shard.write_bytes(content)
    (problem,) = Zoo.open(zoo.folder).verify()
    assert problem.startswith("tiny/2: its weights do not have the recorded sha256")


def test_truncated_and_missing_shards_are_found(zoo: Zoo) -> None:
    zoo.finalize()
    shard = zoo.folder / zoo.record("tiny/0").shard
    shard.write_bytes(shard.read_bytes()[:-3])
    opened = Zoo.open(zoo.folder)
    assert len(opened.verify()) == 5
    assert "cannot be read" in opened.verify()[0]
    with pytest.raises(BrokenFile, match="cannot be read"):
        opened.state(opened.record("tiny/1"))
    shard.unlink()
    assert len(Zoo.open(zoo.folder).verify()) == 5
    assert torch.equal(opened.matrix(opened.select(arch="mlp-s"))[1], weights(1, "mlp-s"))


def test_duplicates_and_an_edited_index_are_found(zoo: Zoo) -> None:
    zoo.add([(record(8), weights(0))])
    zoo.finalize()
    assert zoo.verify() == ["tiny/8: has the same weights as tiny/0"]
    index = zoo.folder / "index.jsonl"
    lines = index.read_text().splitlines(keepends=True)
    index.write_text("".join([*lines, lines[0]]).replace("run 1", "run 2"))
    problems = "\n".join(Zoo.open(zoo.folder).verify())
    assert "the id mlp-s/0 occurs 2 times" in problems
    assert "another state of the index" in problems


@pytest.mark.usefixtures("tmp_path")
def test_a_shard_outside_the_folder_is_refused(zoo: Zoo) -> None:
    index = zoo.folder / "index.jsonl"
    index.write_text(index.read_text().replace(zoo.records[0].shard, "../outside.safetensors"))
    with pytest.raises(BadInput, match="leaves the folder"):
        Zoo.open(zoo.folder)


def test_a_broken_line_is_named(zoo: Zoo) -> None:
    index = zoo.folder / "index.jsonl"
    lines = index.read_text().splitlines(keepends=True)
    index.write_text(lines[0] + "nonsense\n" + lines[1])
    with pytest.raises(BrokenFile, match=r"index\.jsonl, line 2 is not a checkpoint's record"):
        Zoo.open(zoo.folder)


def test_two_writers_do_not_mix(zoo: Zoo) -> None:
    other = Zoo.open(zoo.folder)
    fill(other, range(20, 22))
    with pytest.raises(CannotResume, match=r"changed by another process \(2 more checkpoints\)"):
        fill(zoo, range(30, 31))
    assert len(Zoo.open(zoo.folder)) == 10


def test_networks_that_do_not_fit_are_refused(zoo: Zoo) -> None:
    index = (zoo.folder / "index.jsonl").read_bytes()
    with pytest.raises(BadInput, match="'tiny/0' is already in the zoo"):
        fill(zoo, range(1))
    with pytest.raises(BadInput, match=r"weights of shape \(3,\)\n'tiny' has \(12,\)"):
        zoo.add([(record(10), torch.zeros(3))])
    with pytest.raises(BadInput, match="holds NaN or infinity"):
        zoo.add([(record(10), torch.full((12,), float("nan")))])
    with pytest.raises(BadInput, match="knows 'tiny' with another configuration"):
        zoo.add(
            [
                (
                    record(10, arch_config=ArchConfig("tiny", "mlp", {"hidden": [3]}, ImageInputs((1, 1, 2)), 2)),
                    torch.zeros(17),
                )
            ]
        )
    with pytest.raises(BadInput, match=r"a matrix of 8 checkpoints of \['mlp-s', 'tiny'\]"):
        zoo.matrix(zoo.records)
    with pytest.raises(NotFound, match=r"no checkpoint called 'tiny/44'\nnearest known: tiny/4"):
        zoo.record("tiny/44")
    with pytest.raises(NotFound, match="no architecture called 'tinny'"):
        zoo.spec("tinny")
    assert (zoo.folder / "index.jsonl").read_bytes() == index
    assert not zoo.is_torn


@pytest.mark.usefixtures("tmp_path")
def test_opening_and_creating(zoo: Zoo) -> None:
    with pytest.raises(NotFound, match="there is no zoo 'nowhere'"):
        Zoo.open("nowhere")
    with pytest.raises(BadInput, match="is not an empty folder"):
        Zoo.create(zoo.folder, "again")
    (zoo.folder / "zoo.json").write_text(json.dumps({"name": "test", "format": 99}))
    with pytest.raises(BrokenFile, match="format 99, needed 1"):
        Zoo.open(zoo.folder)


def test_references_are_the_start_or_the_mean(zoo: Zoo) -> None:
    with pytest.raises(BadInput, match="has no reference for 'tiny'"):
        zoo.reference("tiny")
    start = weights(77)
    zoo.set_starts({"tiny": start})
    zoo.add([(record(40, held_out=True), weights(40))])
    zoo.finalize()
    again = Zoo.open(zoo.folder)
    trained = again.matrix(again.select(arch="tiny", held_out=False))
    assert torch.equal(again.reference("tiny"), start)
    assert again.start("mlp-s") is None
    assert torch.allclose(again.reference("mlp-s"), again.matrix(again.select(arch="mlp-s")).mean(0), atol=1e-6)
    first = SPECS["tiny"].tensors[0].size
    expected = (trained - start)[:, :first].square().mean().sqrt()
    assert torch.allclose(again.scales("tiny")[:first], expected)


def test_3000_networks_take_few_files(tmp_path: Path) -> None:
    _check_many(tmp_path, 3_000, 500)


@pytest.mark.slow
def test_50000_networks_take_few_files(tmp_path: Path) -> None:
    _check_many(tmp_path, 50_000, 1_000)


def _check_many(folder: Path, count: int, batch: int) -> None:
    zoo = Zoo.create(folder / "zoo", "many")
    for start in range(0, count, batch):
        fill(zoo, range(start, start + batch))
    assert len(list((zoo.folder / "shards").iterdir())) == count // batch
    zoo.finalize()
    again = Zoo.open(zoo.folder)
    assert len(again) == count
    assert len(list(zoo.folder.rglob("*.*"))) == 6
    matrix = again.matrix(again.select(arch="tiny"))
    assert matrix.shape == (count, 12)
    middle = again.record(f"tiny/{count // 2}")
    assert torch.equal(SPECS["tiny"].to_flat(again.state(middle)), weights(count // 2))
    shard = zoo.folder / middle.shard
    assert shard.stat().st_size < 1.02 * 4 * 12 * count + 200
