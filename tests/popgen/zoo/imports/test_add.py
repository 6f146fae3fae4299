"""Imports into a zoo: they go on after a bad file, leave out the same weights, and compare accuracies."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch

from popgen.archs import ArchSpec, build
from popgen.data import load_data
from popgen.errors import CannotResume, NotFound
from popgen.networks.train import evaluate
from popgen.zoo import Zoo
from popgen.zoo.imports.add import import_checkpoints, write_error
from popgen.zoo.imports.checkpoint import ForeignCheckpoint


def foreign(path: Path, seed: int | None = None, **fields: str) -> ForeignCheckpoint:
    if seed is not None:
        torch.save(build("mlp-s", seed=seed).state_dict(), path)
    return ForeignCheckpoint(path, **{"arch": "mlp-s", "data": "digits", **fields})


def test_an_import_goes_on_after_a_bad_file_and_takes_it_up_later(tmp_path: Path) -> None:
    zoo = Zoo.create(tmp_path / "zoo", "zoo")
    files = [foreign(tmp_path / "a.pt", 1), foreign(tmp_path / "b.pt"), foreign(tmp_path / "c.pt", 3)]
    said: list[str] = []
    with pytest.raises(
        NotFound, match=r"1 of 3 checkpoints were not imported(.|\n)*the first is mlp-s/digits/b"
    ) as caught:
        import_checkpoints(zoo, files, on_remark=said.append)
    assert caught.value.todo.endswith("Then run this again; only missing checkpoints are imported.")
    assert said == [f"mlp-s/digits/b is left out: {tmp_path / 'b.pt'} is not a file: there is nothing of that name"]
    assert [r.id for r in Zoo.open(zoo.folder).records] == ["mlp-s/digits/a", "mlp-s/digits/c"] and zoo.is_final
    foreign(tmp_path / "b.pt", 2)
    assert [r.id for r in import_checkpoints(zoo, files)] == ["mlp-s/digits/b"]
    assert len(zoo) == 3 and zoo.is_final


def test_a_description_that_cannot_work_is_refused_before_any_file_is_read(tmp_path: Path) -> None:
    zoo = Zoo.create(tmp_path / "zoo", "zoo")
    with pytest.raises(NotFound, match="no architecture called 'mlp-x'"):
        import_checkpoints(zoo, [foreign(tmp_path / "a.pt", 1), foreign(tmp_path / "b.pt", 2, arch="mlp-x")])
    assert len(zoo) == 0


def test_the_same_weights_are_one_checkpoint(tmp_path: Path) -> None:
    zoo = Zoo.create(tmp_path / "zoo", "zoo")
    files = [foreign(tmp_path / f"{name}.pt", 1) for name in ("a", "b")]
    said: list[str] = []
    assert [r.id for r in import_checkpoints(zoo, files, on_remark=said.append)] == ["mlp-s/digits/a"]
    assert said == ["mlp-s/digits/b has the same weights as mlp-s/digits/a: it is left out"]
    other = foreign(tmp_path / "a.pt", data="digits/invert")
    assert len(import_checkpoints(zoo, [other], on_remark=said.append)) == 1
    assert said[1:] == ["mlp-s/digits/invert/a has the same weights as mlp-s/digits/a"]
    assert len(import_checkpoints(zoo, files[1:], keep_twins=True, on_remark=said.append)) == 1
    assert len(zoo) == 3


def test_a_stated_accuracy_is_compared_with_the_measured_one(tmp_path: Path) -> None:
    data, state = load_data("digits"), build("mlp-s", seed=1).state_dict()
    _, measured = evaluate(ArchSpec.from_config("mlp-s"), state, data.test)
    said: list[str] = []
    for name, stated in (("right", measured), ("wrong", 0.97)):
        torch.save({"state_dict": state, "best_acc": 100 * stated}, tmp_path / f"{name}.pt")
        zoo = Zoo.create(tmp_path / name, name)
        (record,) = import_checkpoints(zoo, [foreign(tmp_path / f"{name}.pt")], evaluate_on=data, on_remark=said.append)
        assert record.metrics["accuracy_in_file"] == pytest.approx(stated)
    (remark,) = said
    assert remark.startswith("mlp-s/digits/wrong: accuracy_in_file is 0.970, and .")
    assert remark.endswith("standard errors below")


@pytest.mark.parametrize(
    ("number", "todo"),
    [(errno.ENOSPC, "Free space on its disk"), (errno.EROFS, "Name a folder"), (errno.EIO, "Check its disk")],
)
def test_a_zoo_that_cannot_be_written_says_what_to_do(number: int, todo: str) -> None:
    error = write_error(Path("zoo"), OSError(number, "no"))
    assert isinstance(error, CannotResume) and str(error).startswith("the zoo zoo cannot be written\nno\n")
    assert error.todo.startswith(todo) and error.todo.endswith("run this again.")
