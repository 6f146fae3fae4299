"""columns.json: it spares lists of a zoo its index, and never says what the index does not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from popgen.archs import ArchConfig, ArchSpec, ImageInputs
from popgen.cli.zoo import zoo as command
from popgen.errors import BrokenFile, NotFound
from popgen.zoo import Checkpoint, Zoo
from popgen.zoo.columns import Columns, read_columns

TINY = ArchConfig("tiny", "mlp", {"hidden": [2]}, ImageInputs((1, 1, 2)), 2)
SIZE = ArchSpec.from_config(TINY).size


def fill(zoo: Zoo, numbers: range) -> None:
    zoo.add(
        (
            Checkpoint(
                id=f"tiny/{i}",
                arch="tiny",
                arch_config=TINY,
                data=f"digits/rotate:{15 * i}",
                lineage=f"run {i}",
                seed=i % 3,
                held_out=i % 2 == 1,
                metrics={"test_accuracy": i / 16} if i else {},
            ),
            torch.full((SIZE,), float(i)),
        )
        for i in numbers
    )


@pytest.fixture
def zoo(tmp_path: Path) -> Zoo:
    made = Zoo.create(tmp_path / "zoo", "test")
    fill(made, range(12))
    made.finalize()
    return made


def shown(*arguments: object) -> str:
    done = CliRunner().invoke(command, [str(one) for one in arguments], catch_exceptions=False)
    return done.stdout


def test_they_are_the_records(zoo: Zoo) -> None:
    columns = read_columns(zoo.folder)
    assert columns == Columns.of(zoo.records)
    assert columns.ids == [f"tiny/{i}" for i in range(12)]  # numbers by value; the index has tiny/10 before tiny/2
    assert [zoo.records[line].id for line in columns.lines] == columns.ids
    assert columns.scores[:3] == [None, 1 / 16, 2 / 16]
    assert [columns.ids[i] for i in columns.select(None, "digits/rotate:30")] == ["tiny/2"]
    assert columns.select("other", None) == []


def test_lists_are_the_same_without_them(zoo: Zoo) -> None:
    calls = [("list", zoo.folder), ("list", zoo.folder, "--all", "--arch", "tiny"), ("show", zoo.folder, "tiny/7")]
    calls += [(*call, "--json") for call in calls]
    quick = [shown(*call) for call in calls]
    (zoo.folder / "columns.json").unlink()
    assert [shown(*call) for call in calls] == quick
    assert json.loads(quick[-1])["data"] == "digits/rotate:105"


def test_they_do_not_count_for_a_changed_index(zoo: Zoo) -> None:
    fill(zoo, range(12, 14))
    assert read_columns(zoo.folder) is None
    assert len(shown("list", zoo.folder, "--all").splitlines()) == 15
    zoo.finalize()
    assert read_columns(zoo.folder) == Columns.of(zoo.records)
    zoo.drop(["tiny/3"])
    assert read_columns(zoo.folder) is None
    index = zoo.folder / "index.jsonl"
    index.open("ab").write(b'{"id": "to')  # an interrupted write
    assert "tiny/3" not in shown("list", zoo.folder, "--all")


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-9],
        lambda _: b"[" * 100_000,
        lambda _: b"[1]",
        lambda content: content.replace(b'"format": 1', b'"format": 2'),
        lambda content: content.replace(b'"seeds"', b'"sseds"'),
        lambda content: content.replace(b'"lines": [0, ', b'"lines": ['),
    ],
)
def test_a_damaged_file_is_passed_over(zoo: Zoo, damage) -> None:
    file = zoo.folder / "columns.json"
    before = shown("list", zoo.folder)
    file.write_bytes(damage(file.read_bytes()))
    assert read_columns(zoo.folder) is None
    assert shown("list", zoo.folder) == before


def test_errors_are_those_of_the_zoo(zoo: Zoo, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"tiny/77"):
        shown("show", zoo.folder, "tiny/77")
    with pytest.raises(NotFound, match=r"there is no zoo"):
        shown("list", tmp_path / "nothing")
    (zoo.folder / "zoo.json").write_text('{"format": 9}')
    with pytest.raises(BrokenFile, match=r"format 9, needed 1"):
        shown("list", zoo.folder)


def test_torch_is_not_imported_to_list_or_show(zoo: Zoo) -> None:
    code = (
        "import sys; from click.testing import CliRunner; from popgen.cli.zoo import zoo\n"
        f"for call in (['list', {str(zoo.folder)!r}], ['show', {str(zoo.folder)!r}, 'tiny/7']):\n"
        "    assert CliRunner().invoke(zoo, call).exit_code == 0\n"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_records_share_their_configuration(zoo: Zoo) -> None:
    records = Zoo.open(zoo.folder).records
    assert len({id(record.arch_config) for record in records}) == 1
    assert records[0].arch_config == TINY
