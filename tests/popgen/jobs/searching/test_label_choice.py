"""Which adapters labels choose among: with few labels those of the nearest task, with many all that the search has evaluated."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from popgen.archs import ArchSpec, arch_config
from popgen.fitness import Scored
from popgen.jobs.searching.results.label_choice import ENOUGH_LABELS, Candidates, LabelChoice, candidates
from search import Population, Record

NEAR = ["expert:a/text:near.jsonl/s0", "expert:a/text:near.jsonl/s1"]
FAR = ["expert:a/text:far.jsonl/s0", "expert:a/text:else.jsonl/s0"]
ORIGINS = ["frozen", "both@0.5", "both@1", "none@1", "generated", *NEAR, *FAR]
POPULATION = Population(np.eye(len(ORIGINS)), ORIGINS)


def seed(row: int, loss: float | None, penalty: float = 0.0) -> Record:
    """The evaluation of a row of the population; None: it failed."""
    plain = {
        "index": row + 1, "candidate": row + 1, "asked": 0, "batch": 0, "coordinates": None, "share": 1.0, "cost": 1.0,
        "values": None, "seconds": 0.0, "elapsed": 0.0,
    }  # fmt: skip
    metrics = {} if loss is None else {"unpenalised_loss": loss}
    penalised = None if loss is None else loss + penalty
    return Record(**plain, phase="seed", origin=ORIGINS[row], loss=penalised, metrics=metrics, error=None)


def test_few_labels_choose_among_the_seven_named_candidates() -> None:
    among = candidates(POPULATION, "text:near.jsonl", ENOUGH_LABELS - 1, [seed(row, 0.5) for row in range(9)])
    assert among.rows == {"frozen": 0, "both@1": 2, "none@1": 3, NEAR[0]: 5, NEAR[1]: 6}
    assert (among.count, among.of_zoo, among.missed) == (5, 2, 0)


def test_enough_labels_choose_among_all_adapters_by_their_losses_without_the_penalty() -> None:
    records = [seed(row, 1.0) for row in range(5)] + [seed(5, 0.9), seed(6, None), seed(7, 0.3, 5.0), seed(8, 0.4)]
    among = candidates(POPULATION, "text:near.jsonl", ENOUGH_LABELS, records)
    assert among.rows == {"frozen": 0, "both@1": 2, "none@1": 3, FAR[0]: 7}
    assert (among.count, among.of_zoo, among.missed) == (6, 3, 0), "a failed evaluation gives no candidate"


def test_adapters_that_were_not_evaluated_are_no_candidates() -> None:
    among = candidates(POPULATION, "text:near.jsonl", ENOUGH_LABELS, [seed(0, 1.0), seed(5, 0.9)])
    assert among.rows.keys() == {"frozen", "both@1", "none@1", NEAR[0]} and (among.of_zoo, among.missed) == (1, 3)
    none = candidates(POPULATION, "text:near.jsonl", ENOUGH_LABELS, [])
    assert none.rows.keys() == {"frozen", "both@1", "none@1"} and (none.of_zoo, none.missed) == (0, 4)


def scored(right: float) -> Scored:
    """A network of two classes that is as sure of the right one as its logit says, and has that loss."""
    outputs, targets = torch.tensor([[right, 0.0]]).repeat(64, 1), torch.zeros(64, dtype=torch.long)
    outputs[::2] += torch.tensor([0.1, 0.0])  # so that gains have an error
    loss = float(torch.nn.functional.cross_entropy(outputs, targets))
    return Scored(ArchSpec.from_config(arch_config("mlp-s")), torch.zeros(1), loss, 1.0, outputs, targets)


@pytest.mark.parametrize(("found", "kept"), [(0.9, False), (4.0, True)])
def test_the_line_says_how_many_were_compared_and_what_the_evaluations_did_not_reach(found: float, kept: bool) -> None:
    named = {"frozen": scored(0.0), FAR[0]: scored(1.0)}
    choice = LabelChoice.of(scored(found), named, Candidates({"frozen": 0, FAR[0]: 7}, 3, 2))
    assert choice.name == FAR[0] and choice.is_search_kept is kept
    assert choice.text().startswith(
        f"chosen by 64 labels among 4 candidates, 3 of them from the zoo: {FAR[0]}, accuracy 1.000"
    )
    assert choice.text().endswith("; 2 more from the zoo were not reached by the evaluations")
    assert choice.to_json()["candidates"] == 4 and choice.to_json()["missed"] == 2
