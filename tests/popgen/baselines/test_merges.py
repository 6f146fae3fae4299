"""Merges as rivals: what they cost, what is known already, and what a failure leaves."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.baselines.merges import IMAGES, Merger
from popgen.baselines.rivals import random_weights
from popgen.data import load_data
from popgen.fitness import make_fitness
from popgen.merging import METHODS
from popgen.zoo.record import weights_sha256

SPEC = ArchSpec.from_config("mlp-s/hidden:8")
DATA = load_data("digits/shots:20")
EXPERTS = torch.stack([random_weights(SPEC, seed) for seed in range(3)])


def make_merger(said: list[str], **given: object) -> Merger:
    def own() -> Sequence[Tensor]:
        return [DATA.train.inputs[:IMAGES]] * len(EXPERTS)

    fitness = make_fitness(SPEC, DATA, DATA.classes, head="keep")
    made: dict[str, object] = {"base": torch.zeros(SPEC.size), "own": own, "losses": {}, **given}
    return Merger(EXPERTS, fitness, seed=0, say=said.append, **made)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", METHODS)
def test_the_expected_cost_is_about_that_of_the_merge_and_of_scoring_it(method: str) -> None:
    merger = make_merger([])
    made = merger.merge(method)
    assert made is not None and made.weights.isfinite().all()
    expected = merger.expected_cost(method)
    assert (
        made.cost + 1 <= expected + 3 and expected <= 1.2 * (made.cost + 1) + 3
    )  # images of batch norm, a soup more or less
    assert merger.merge(method) is made


def test_networks_that_were_scored_before_cost_nothing() -> None:
    fresh = make_merger([])
    losses = {weights_sha256(flat): fresh.fitness.loss_of(flat) for flat in EXPERTS}
    known = make_merger([], losses=losses)
    first, second = fresh.merge("greedy_soup"), known.merge("greedy_soup")
    assert first is not None and second is not None and torch.equal(first.weights, second.weights)
    assert (first.cost, second.cost) == (3 + 2, 2)


def test_a_merge_that_fails_is_said_once_and_left_out() -> None:
    def gone() -> Sequence[Tensor]:
        raise OSError("the images are gone")

    said: list[str] = []
    merger = make_merger(said, own=gone, base=None)
    assert merger.merge("regmean") is None and merger.merge("regmean") is None
    assert said == ["mlp-s/hidden:8: the merge by regmean failed: OSError: the images are gone"]
    assert merger.merge("ties") is None and merger.why_not("ties") == "ties needs a base"
    assert merger.merge("uniform_soup") is not None and merger.made.keys() == {"uniform_soup"}
