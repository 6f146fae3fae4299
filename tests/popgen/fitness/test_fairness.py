"""Differences between groups against rates that are counted by hand, and against the definitions for two classes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from popgen.errors import BadInput
from popgen.fitness.fairness import demographic_parity, equal_opportunity, equalised_odds
from popgen.fitness.measures import GROUP_MEASURES, check_on_groups, measure

ALL = (demographic_parity, equal_opportunity, equalised_odds)


def answered(answers: list[int], classes: int) -> Tensor:
    """Logits of a network that gives these answers."""
    return F.one_hot(torch.tensor(answers), classes).float()


def test_two_classes_are_those_of_the_literature() -> None:
    """Hardt et al. 2016, definitions 2.1 and 2.2, with rates that differ between two random groups."""
    draws = torch.Generator().manual_seed(0)
    groups, labels, answers = (torch.randint(2, (200,), generator=draws) for _ in range(3))
    logits = answered(answers.tolist(), 2)

    def rate(group: int, label: int | None = None) -> float:
        rows = (groups == group) & ((labels == label) if label is not None else True)
        return float((answers[rows] == 1).float().mean())

    selection, true, false = (abs(rate(0, y) - rate(1, y)) for y in (None, 1, 0))
    assert len({selection, true, false}) == 3 and false > true, "the case tells the measures apart"
    assert demographic_parity(logits, labels, groups) == pytest.approx(selection)
    assert equal_opportunity(logits, labels, groups) == pytest.approx(true)
    assert equalised_odds(logits, labels, groups) == pytest.approx(max(true, false))


def test_several_classes_and_groups_are_counted_by_hand() -> None:
    labels = torch.tensor([0, 0, 1, 2, 0, 1, 1, 2, 0, 1, 2, 2])
    groups = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2])
    logits = answered([0, 1, 1, 2, 0, 1, 0, 0, 0, 1, 2, 2], 3)
    # Class 0 is answered 1, 3 and 1 times of four; class 1 2, 1 and 1; class 2 1, 0 and 2.
    assert demographic_parity(logits, labels, groups) == pytest.approx(0.5)
    # Recalls of class 0 are 1/2, 1, 1; of class 1 1, 1/2, 1; of class 2 1, 0, 1.
    assert equal_opportunity(logits, labels, groups) == pytest.approx(1.0)
    # False positives of class 0 are 0/2, 2/3, 0/3, which is less.
    assert equalised_odds(logits, labels, groups) == pytest.approx(1.0)
    without = labels != 2
    args = logits[without], labels[without], groups[without]
    assert equal_opportunity(*args) == pytest.approx(0.5)  # class 2 has no images now
    # False positives of class 0 are 0/1, 1/2, 0/1; those of class 1 are 1/2, 0/1, 0/1; class 2 is never answered.
    assert equalised_odds(*args) == pytest.approx(0.5)


def test_a_perfect_network_differs_only_where_groups_do() -> None:
    labels, groups = torch.tensor([0, 0, 0, 1, 0, 1, 1, 1]), torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    right = answered(labels.tolist(), 2)
    assert equal_opportunity(right, labels, groups) == equalised_odds(right, labels, groups) == 0
    assert demographic_parity(right, labels, groups) == pytest.approx(0.5)  # 1 of 4 against 3 of 4


def test_a_group_without_a_class_has_no_part_in_its_rate() -> None:
    labels = torch.tensor([0, 1, 0, 1, 0, 0])
    groups = torch.tensor([0, 0, 1, 1, 3, 3])  # no image is of group 2, and group 3 has none of class 1
    logits = answered([0, 1, 0, 1, 0, 1], 2)
    assert equal_opportunity(logits, labels, groups) == 0
    assert equalised_odds(logits, labels, groups) == pytest.approx(0.5)  # half of group 3's zeros are taken for ones
    alone = torch.tensor([0, 0, 0, 0, 1, 1])
    with pytest.raises(
        BadInput, match="equal_opportunity compares groups, and these images do not allow it\n.* 1 group"
    ):
        equal_opportunity(logits, labels, alone)
    assert equalised_odds(logits, labels, alone) == pytest.approx(0.5)


@pytest.mark.parametrize("function", ALL, ids=lambda function: function.__name__)
def test_one_group_cannot_be_compared(function: object) -> None:
    name, labels = function.__name__, torch.tensor([0, 1, 2])  # type: ignore[attr-defined]
    with pytest.raises(BadInput, match=f"{name} compares groups, .*\n.*\nGive groups that share classes."):
        check_on_groups(name, labels, 3, torch.zeros(3, dtype=torch.long))
    check_on_groups("worst_group_error", labels, 3, torch.zeros(3, dtype=torch.long))


@pytest.mark.parametrize("name", GROUP_MEASURES)
def test_groups_are_needed(name: str) -> None:
    logits, labels, groups = answered([0, 1, 1, 0], 2), torch.tensor([0, 1, 1, 0]), torch.tensor([0, 0, 1, 1])
    assert measure(name, logits, labels, groups) == GROUP_MEASURES[name](logits, labels, groups)
    assert 0 <= measure(name, logits, labels, groups) <= 1
    with pytest.raises(BadInput, match=f"{name} needs groups\n.*\nGive --groups FILE, or try --data digits/style:"):
        measure(name, logits, labels)
