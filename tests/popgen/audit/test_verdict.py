"""The rule: every end of it on made-up evidence, intervals, and what makes it unsure."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from popgen.audit.space import Places
from popgen.audit.verdict import HALF, Evidence, Measured, Statistic, bootstrap, decide

IMAGES = 400
REFERENCES = 6


def wrong(rows: list[range]) -> Tensor:
    mask = torch.zeros(len(rows), IMAGES, dtype=torch.bool)
    for row, images in zip(mask, rows, strict=True):
        row[list(images)] = True
    return mask


def measured(rows: list[range], distance: float, anchor: float, lineages: list[str] | None = None) -> Measured:
    n = len(rows)
    column, held = torch.full((n,), distance), torch.full((n,), anchor)
    places = Places(column, column, held, column, column)
    return Measured(wrong(rows), places, tuple(lineages or [None] * n))


def evidence(rows: list[range], distance: float, anchor: float, independent: int = REFERENCES) -> Evidence:
    """References make 40 errors, half of which they share; they are 10 apart. Noise at distance 8 makes 160 errors."""
    names = [f"lineage {i}" for i in range(REFERENCES)]
    errors = [[*range(20), *range(20 + 20 * i, 40 + 20 * i)] for i in range(REFERENCES)]
    training = torch.zeros(REFERENCES, IMAGES, dtype=torch.bool)
    for row, images in zip(training, errors, strict=True):
        row[images] = True
    column = torch.full((REFERENCES,), 10.0)
    references = Measured(
        training, Places(column, column, torch.full((REFERENCES,), 0.1), column, column), tuple(names)
    )
    noise = (measured([range(80)] * 4, 3.0, 1.0), measured([range(160)] * 4, 8.0, 1.0))
    return Evidence(measured(rows, distance, anchor), references, noise, training, tuple(names), 10, independent)


NEW = [range(300, 340), range(310, 350), range(320, 360), range(330, 370)]  # 40 errors, none of them a checkpoint's
OF_ONE = [range(40)] * 4  # the errors of the first checkpoint


@pytest.mark.parametrize(
    ("rows", "distance", "anchor", "word", "why"),
    [
        ([range(390)] * 4, 10.0, 0.0, "fails", "they keep too little"),
        (OF_ONE, 0.0, 1.0, "copies", "they lie in the span"),
        (NEW, 1.0, 1.0, "copies", "they lie in the span"),
        (NEW, 1.0, 0.0, "interpolates", "they lie in the span"),
        (OF_ONE, 30.0, 0.0, "copies", "they make the same errors"),
        (NEW, 9.0, 0.1, "novel", "they are as far"),
        (NEW, 9.0, 0.9, "novel", "they are as far"),  # anchored, but undamaged at a distance at which noise does damage
        ([range(160, 320)] * 4, 9.0, 0.9, "copies", "they are no better than noise"),
        ([range(160, 320)] * 4, 9.0, 0.1, "interpolates", "they are no better than noise"),
    ],
)
def test_every_end_of_the_rule(rows: list[range], distance: float, anchor: float, word: str, why: str) -> None:
    found = decide(evidence(rows, distance, anchor), rounds=200)
    assert found.word == word and found.why.startswith(why), found


LIKE_REFERENCES = [range(10, 50), range(50, 90), range(0, 40), range(100, 140)]


@pytest.mark.parametrize(
    ("rows", "anchor", "word"),
    [(NEW, 0.95, "copies"), (LIKE_REFERENCES, 0.2, "novel"), (NEW, 0.2, "unsure")],
)
def test_where_noise_does_no_damage_anchor_and_errors_decide(rows: list[range], anchor: float, word: str) -> None:
    given = evidence(rows, 6.0, anchor)
    harmless = (measured([range(40)] * 4, 8.0, 1.0),)
    found = decide(dataclasses.replace(given, noise=harmless), rounds=200)
    assert found.statistics["damaged"].answer is None and found.word == word


def test_an_interval_around_one_half_makes_unsure() -> None:
    given = evidence(NEW, 5.0, 1.0)  # exactly half-way between the references and a replica
    spread = dataclasses.replace(given.generated.places, span=torch.tensor([1.0, 3.0, 7.0, 9.0]))
    given = dataclasses.replace(given, generated=dataclasses.replace(given.generated, places=spread))
    found = decide(given, rounds=200)
    assert found.word == "unsure"
    assert found.why == "the interval does not decide between copies and novel (within)"


def test_few_lineages_and_few_copies_make_unsure() -> None:
    found = decide(evidence(NEW, 9.0, 0.1, independent=2), rounds=200)
    assert (found.word, found.why) == (
        "unsure",
        "they look novel, but references of 2 lineages do not show what novel is",
    )
    given = evidence(NEW * 4, 9.0, 0.1)
    span = torch.tensor([1.0] + [9.0] * 15)
    places = dataclasses.replace(given.generated.places, span=span)
    found = decide(
        dataclasses.replace(given, generated=dataclasses.replace(given.generated, places=places)), rounds=200
    )
    assert found.word == "unsure" and found.single == 1
    assert found.why == "most look novel, but 1 of 16 lie in the span of the training checkpoints"


def test_values_are_those_of_the_formulas() -> None:
    found = bootstrap(evidence([range(0, 80)] * 4, 4.0, 0.46), seed=0, rounds=200)
    assert found["works"].value == pytest.approx((0.8 - 0.1) / (0.9 - 0.1), abs=1e-6)
    assert found["within"].value == pytest.approx(0.6)
    assert found["anchored"].value == pytest.approx(0.46)
    # 80 errors contain all 40 of a checkpoint: 40 / 80; two references share 20 of 60.
    assert found["same_errors"].value == pytest.approx((1 / 2 - 1 / 3) / (1 - 1 / 3), abs=1e-6)
    noise = 0.8 + (4 - 3) / (8 - 3) * (0.6 - 0.8)
    assert found["damaged"].value == pytest.approx(HALF + (0.9 + noise) / 2 - 0.8, abs=1e-6)
    assert found["tied"].value == pytest.approx((0.46 - 0.1) / (1 - 0.1))
    assert all(one.low - 1e-6 <= one.value <= one.high + 1e-6 for one in found.values())


def test_lineages_are_drawn_as_wholes() -> None:
    """Two lineages of very different spans, one with nine checkpoints: the interval is that of two units, not of ten."""
    given = evidence(NEW, 4.0, 0.1)
    lineages = ["a"] * 5 + ["b"]
    span = torch.tensor([10.0] * 5 + [20.0])
    places = dataclasses.replace(given.references.places, span=span)
    references = dataclasses.replace(given.references, places=places, lineages=tuple(lineages))
    found = bootstrap(dataclasses.replace(given, references=references), seed=0, rounds=400)["within"]
    assert found.low == pytest.approx(1 - 4 / 10) and found.high == pytest.approx(1 - 4 / 20)


def test_intervals_of_nothing_decide_nothing() -> None:
    assert Statistic(float("nan"), float("nan"), float("nan")).answer is None
    assert [Statistic(0.5, low, high).answer for low, high in ((0.6, 0.7), (0.1, 0.4), (0.4, 0.6))] == [
        True,
        False,
        None,
    ]
