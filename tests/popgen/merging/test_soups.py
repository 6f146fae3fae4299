"""Soups: averages of experts, and batch norm of what is merged."""

from __future__ import annotations

import pytest
import torch
from random_networks import network
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.errors import BadInput, NotFound
from popgen.merging import MergeSettings, merge
from popgen.networks.batchnorm import reestimate

SPEC = ArchSpec.from_config("mlp-s")
EXPERTS = torch.stack([network(SPEC, seed) for seed in range(4)])


def closeness(to: Tensor) -> object:
    return lambda flat: -float((flat - to).norm())


def test_a_uniform_soup_is_the_average() -> None:
    made = merge("uniform_soup", SPEC, EXPERTS)
    assert torch.allclose(made.weights, EXPERTS.mean(0))
    assert (made.text, made.evaluations, made.passes) == ("average of 4", 0, 0)


def test_a_greedy_soup_takes_in_what_does_not_harm() -> None:
    """The score is best at the average of the experts 1 and 3, and expert 3 alone is better than expert 1."""
    target = 0.4 * EXPERTS[1] + 0.6 * EXPERTS[3]
    made = merge("greedy_soup", SPEC, EXPERTS, validate=closeness(target))
    assert torch.allclose(made.weights, EXPERTS[[1, 3]].mean(0))
    assert (made.text, made.evaluations) == ("average of 2 of 4", 7)


@pytest.mark.parametrize("seed", range(20))
def test_a_greedy_soup_never_scores_below_the_best_expert(seed: int) -> None:
    score = closeness(torch.randn(SPEC.size, generator=torch.Generator().manual_seed(seed)) + EXPERTS[seed % 4])
    made = merge("greedy_soup", SPEC, EXPERTS, validate=score)
    assert score(made.weights) >= max(map(score, EXPERTS))


def test_a_greedy_soup_may_be_one_expert_with_its_own_statistics() -> None:
    spec = ArchSpec.from_config("resnet-s")
    experts = torch.stack([network(spec, seed) for seed in range(3)])
    made = merge("greedy_soup", spec, experts, inputs=torch.rand(20, 1, 8, 8), validate=closeness(experts[2]))
    assert made.weights.equal(experts[2]) and made.text == "the best expert alone"


def test_statistics_of_batch_norm_are_those_of_the_images_or_the_average() -> None:
    spec, images = ArchSpec.from_config("resnet-s"), [torch.rand(60, 1, 8, 8), torch.rand(40, 1, 8, 8) / 2]
    experts = torch.stack([network(spec, seed) for seed in range(2)])
    average = experts.mean(0)
    assert torch.allclose(merge("uniform_soup", spec, experts).weights, average)
    made = merge("uniform_soup", spec, experts, inputs=images)
    assert made.weights.equal(reestimate(spec, average, torch.cat(images))) and made.passes == 100
    kept = merge("uniform_soup", spec, experts, inputs=images, settings=MergeSettings(reestimate=False))
    assert torch.allclose(kept.weights, average) and kept.passes == 0


def test_statistics_are_of_two_thousand_images_at_most() -> None:
    spec = ArchSpec.from_config("resnet-s")
    experts = torch.stack([network(spec, seed) for seed in range(2)])
    many, few = torch.rand(2000, 1, 8, 8), torch.rand(30, 1, 8, 8)
    made = merge("uniform_soup", spec, experts, inputs=[many, few])
    assert made.passes == 1030
    assert made.weights.equal(reestimate(spec, experts.mean(0), torch.cat([many[::2], few])))


def test_what_is_missing_is_said() -> None:
    with pytest.raises(NotFound, match="no merging method called 'soup'"):
        merge("soup", SPEC, EXPERTS)
    with pytest.raises(BadInput, match="1 experts to merge"):
        merge("uniform_soup", SPEC, EXPERTS[:1])
    with pytest.raises(BadInput, match="greedy_soup needs labelled validation images"):
        merge("greedy_soup", SPEC, EXPERTS)
    for method in ("task_arithmetic", "ties", "dare", "adamerging"):
        with pytest.raises(BadInput, match=f"{method} needs a base"):
            merge(method, SPEC, EXPERTS)
    for method in ("regmean", "fisher", "adamerging"):
        with pytest.raises(BadInput, match=f"{method} needs images"):
            merge(method, SPEC, EXPERTS, base=EXPERTS[0])
    with pytest.raises(BadInput, match="images of 3 data sets for 4 experts"):
        merge("regmean", SPEC, EXPERTS, inputs=[torch.rand(2, 1, 8, 8)] * 3)
