"""Measures against scikit-learn's, and functions of a user's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, log_loss, recall_score
from torch import Tensor

from popgen.errors import BadInput, NotFound
from popgen.fitness.measures import MEASURES, check_measure, check_on_outputs, measure, sign_remark, worst_group_error


def drawn(seed: int, classes: int = 5, used: int = 5) -> tuple[Tensor, Tensor]:
    """Logits that are right more often than not, and unbalanced labels of the first `used` classes."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.cat([torch.arange(used), torch.randint(used, (80,), generator=generator).clamp(max=1 + seed % used)])
    logits = torch.randn(len(labels), classes, generator=generator)
    logits[torch.arange(len(labels)), labels] += 1.5
    return logits, labels


@pytest.mark.parametrize("used", [5, 3])
@pytest.mark.parametrize("seed", range(4))
def test_they_are_those_of_scikit_learn(seed: int, used: int) -> None:
    logits, labels = drawn(seed, used=used)
    truth, answers = labels.numpy(), logits.argmax(1).numpy()
    assert measure("error", logits, labels) == pytest.approx(1 - accuracy_score(truth, answers), abs=1e-6)
    if used == 5:  # a class without examples that is answered warns there
        assert measure("balanced_error", logits, labels) == pytest.approx(1 - balanced_accuracy_score(truth, answers))
    recalls = recall_score(truth, answers, labels=range(used), average=None)
    assert measure("balanced_error", logits, labels) == pytest.approx(1 - recalls.mean())
    assert measure("worst_class_error", logits, labels) == pytest.approx(1 - recalls.min())
    assert measure("f1_error", logits, labels) == pytest.approx(1 - f1_score(truth, answers, average="macro"))
    chances = logits.double().softmax(1).numpy()
    assert measure("cross_entropy", logits, labels) == pytest.approx(
        log_loss(truth, chances, labels=range(5)), rel=1e-5
    )


def test_the_worst_group_is_the_one_with_the_lowest_accuracy() -> None:
    logits, labels = drawn(1)
    groups = torch.arange(len(labels)) % 7
    groups[groups == 3] = 4  # an empty one
    errors = [1 - accuracy_score(labels[groups == g], logits.argmax(1)[groups == g]) for g in groups.unique()]
    assert worst_group_error(logits, labels, groups) == measure("worst_group_error", logits, labels, groups)
    assert worst_group_error(logits, labels, groups) == pytest.approx(max(errors))
    assert worst_group_error(logits, labels, labels) == pytest.approx(MEASURES["worst_class_error"](logits, labels))
    with pytest.raises(BadInput, match="needs groups\nnone are known of these images\nGive --groups"):
        measure("worst_group_error", logits, labels)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of the user's own."""
    (tmp_path / "own_measures.py").write_text(
        """
import numpy as np
import torch

def false_alarms(logits, labels):
    return ((logits.argmax(1) == 0) & (labels != 0)).float().sum() / (labels != 0).sum()

def as_numpy(logits, labels):
    return np.float64((logits.argmax(1).numpy() != labels.numpy()).mean())

def fails(logits, labels):
    return logits[:, 99].mean()

def word(logits, labels):
    return "good"

def endless(logits, labels):
    return float("inf")

nothing = 3
"""
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    return "own_measures"


def test_a_function_of_the_users_own(own: str) -> None:
    logits, labels = drawn(2)
    answers, truth = logits.argmax(1).numpy(), labels.numpy()
    alarms = np.mean(answers[truth != 0] == 0)
    for name in ("false_alarms", "as_numpy"):
        check_measure(f"{own}:{name}")
        check_on_outputs(f"{own}:{name}", logits, labels)
    assert measure(f"{own}:false_alarms", logits, labels) == pytest.approx(alarms)
    assert measure(f"{own}:as_numpy", logits, labels) == pytest.approx(measure("error", logits, labels))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fails", "the objective 'own_measures:fails' failed\nIndexError: index 99"),
        ("word", "the objective 'own_measures:word' returned 'good'\nit must return one number"),
        ("endless", r"is inf for 85 images' outputs of shape \(85, 5\)\na search can only compare finite numbers"),
    ],
)
def test_functions_that_do_not_fit(own: str, name: str, message: str) -> None:
    check_measure(f"{own}:{name}")
    with pytest.raises(BadInput, match=message):
        check_on_outputs(f"{own}:{name}", *drawn(2))


def test_unknown_names(own: str) -> None:
    with pytest.raises(NotFound, match="no objective called 'balanced_eror'\nnearest known: balanced_error"):
        check_measure("balanced_eror")
    with pytest.raises(NotFound, match="'own_measures' has no 'other'"):
        check_measure(f"{own}:other")
    with pytest.raises(NotFound, match="module 'no_such_module' of .* cannot be imported"):
        check_measure("no_such_module:error")
    with pytest.raises(BadInput, match="the objective 'own_measures:nothing' cannot be called"):
        check_measure(f"{own}:nothing")


def test_a_function_that_is_higher_for_right_answers_gets_a_remark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "signs.py").write_text(
        "def accuracy(logits, labels): return (logits.argmax(1) == labels).float().mean()\n"
        "def mistakes(logits, labels): return 1 - accuracy(logits, labels)\n"
        "def constant(logits, labels): return 1.0\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    labels = torch.tensor([0, 1, 2, 1])
    assert sign_remark("signs:accuracy", labels, 3) == (
        "the objective signs:accuracy is 1 where all answers are right and 0 where all are wrong; "
        "a search minimises it: return its negative if higher is better"
    )
    assert sign_remark("signs:mistakes", labels, 3) == sign_remark("signs:constant", labels, 3) == ""
    assert sign_remark("signs:accuracy", torch.zeros(3, dtype=torch.long), 1) == ""
    assert all(sign_remark(name, labels, 3) == "" for name in MEASURES)
