"""The robust networks that a generator keeps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from popgen.configs.spec import ZooSpec
from popgen.errors import BadInput, NotFound
from popgen.generator.training.robust import read_robust
from popgen.zoo import Zoo, build_zoo


def made(folder: Path, arch: str, start: int | str) -> Zoo:
    spec = ZooSpec(name=folder.name, archs=[arch], data=["digits"], start=start, recipe={"epochs": 0}, workers=0)
    return build_zoo(spec, folder, progress=False)


def test_robust_networks_are_found_and_refused(tmp_path: Path) -> None:
    first, other = made(tmp_path / "first", "mlp-s", 0), made(tmp_path / "other", "cnn-s", 0)
    name = f"{first.folder}#mlp-s/digits/s0"
    zoo = made(tmp_path / "zoo", "mlp-s", name)
    assert torch.equal(read_robust([name], zoo)["mlp-s"], first.matrix(first.records)[0])
    assert read_robust([], zoo) == {}
    with pytest.raises(BadInput, match="a cnn-s\nthe zoo 'zoo' has mlp-s"):
        read_robust([f"{other.folder}#cnn-s/digits/s0"], zoo)
    with pytest.raises(BadInput, match="the zoo 'first' has no base"):
        read_robust([name], first)
    with pytest.raises(
        BadInput, match="generator.robust is 'zoos'\na robust network is a zoo's folder and a checkpoint"
    ):
        read_robust(["zoos"], zoo)
    with pytest.raises(NotFound):
        read_robust([f"{first.folder}#mlp-s/digits/s9"], zoo)
