"""The networks that a zoo's training starts from."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from popgen.configs.spec import ZooSpec
from popgen.zoo import Zoo, build_zoo


def made(folder: Path, start: int | str) -> Zoo:
    spec = ZooSpec(name=folder.name, archs=["mlp-s"], data=["digits"], start=start, recipe={"epochs": 1}, workers=0)
    return build_zoo(spec, folder, progress=False)


def only_network(zoo: Zoo) -> Tensor:
    return zoo.matrix(zoo.records)[0]


def test_a_chain_of_starts_leads_to_the_base(tmp_path: Path) -> None:
    first = made(tmp_path / "first", 0)
    assert first.base("mlp-s") is None, "random weights are no base"
    robust = made(tmp_path / "robust", f"{tmp_path / 'first'}#mlp-s/digits/s0")
    base = only_network(first)
    assert torch.equal(robust.base("mlp-s"), base) and torch.equal(robust.start("mlp-s"), base)
    last = made(tmp_path / "last", f"{tmp_path / 'robust'}#mlp-s/digits/s0")
    assert torch.equal(last.base("mlp-s"), base)
    assert torch.equal(last.start("mlp-s"), only_network(robust))
    assert torch.equal(Zoo.open(tmp_path / "last").base("mlp-s"), base)
