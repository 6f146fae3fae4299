"""What a file says beside its weights: a moving average, an accuracy, tensors that are left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from popgen.archs import build
from popgen.errors import BadInput, NotFound
from popgen.zoo.imports.checkpoint import ForeignCheckpoint, import_checkpoint
from popgen.zoo.imports.tensors import find_tensors

RAW, EMA = (build("mlp-s", seed=seed).state_dict() for seed in (1, 2))


def named(prefix: str, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {prefix + name: t for name, t in state.items()}


def is_equal(found: dict[str, torch.Tensor], state: dict[str, torch.Tensor]) -> bool:
    return found.keys() == state.keys() and all(torch.equal(found[name], state[name]) for name in state)


@pytest.mark.parametrize(
    "content",
    [
        *(
            {"state_dict": RAW, key: EMA}
            for key in ("state_dict_ema", "ema", "ema_state_dict", "model_ema", "ema_model")
        ),
        {"model": RAW, "ema": {"decay": 0.99, "module": EMA}},
        {"state_dict": {**named("", RAW), **named("ema.", EMA)}},
        {"model": {"state_dict": RAW, "ema": EMA}},
    ],
)
def test_a_moving_average_is_offered_and_taken_as_asked(tmp_path: Path, content: dict[str, Any]) -> None:
    path = tmp_path / "net.pt"
    torch.save(content, path)
    raw = find_tensors(path)
    assert is_equal(raw.tensors, RAW)
    assert len(raw.remarks) == 1 and raw.remarks[0].endswith(": --use ema takes them")
    average = find_tensors(path, use="ema")
    assert is_equal(average.tensors, EMA)
    assert (average.notes, average.remarks) == (["EMA weights"], [])


def test_a_moving_average_alone_is_taken_only_if_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.save({"ema": EMA, "epoch": 3}, path)
    with pytest.raises(BadInput, match="It has EMA weights under 'ema': --use ema takes them"):
        find_tensors(path)
    assert is_equal(find_tensors(path, use="ema").tensors, EMA)
    torch.save({"state_dict": RAW}, path)
    with pytest.raises(NotFound, match=r"holds no EMA weights\nlooked under state_dict_ema, .*; it holds state_dict"):
        find_tensors(path, use="ema")
    with pytest.raises(BadInput, match="both key and use are given"):
        ForeignCheckpoint(path, "mlp-s", "digits", key="state_dict", use="ema").check()


@pytest.mark.parametrize(
    ("beside", "expected"),
    [
        ({"best_acc1": torch.tensor(91.5)}, ("best_acc1", 0.915)),
        ({"best_prec1": np.float64(91.5), "acc": 0.2}, ("best_prec1", 0.915)),
        ({"metrics": {"Val/Acc": 0.75}}, ("val_acc", 0.75)),
        ({"acc": 0.7, "test_accuracy": 0.8}, ("test_accuracy", 0.8)),
        ({"acc": np.float32(50)}, ("acc", 0.5)),
        ({"acc": True}, None),
        ({"acc": float("nan")}, None),
        ({"accuracy": [0.5], "best_acc": torch.ones(2)}, None),
        ({"acc": 250.0}, None),
    ],
)
def test_the_accuracy_that_a_file_states_is_kept(
    tmp_path: Path, beside: dict[str, Any], expected: tuple[str, float] | None
) -> None:
    path = tmp_path / "net.pt"
    torch.save({"state_dict": RAW, **beside}, path)
    assert find_tensors(path).accuracy == (None if expected is None else (expected[0], pytest.approx(expected[1])))
    record, _ = import_checkpoint(ForeignCheckpoint(path, "mlp-s", "digits", metrics={"accuracy_stated": 0.1}))
    assert record.metrics.get("accuracy_in_file") == (None if expected is None else pytest.approx(expected[1]))
    assert record.metrics["accuracy_stated"] == 0.1
