"""Task arithmetic, TIES and DARE."""

from __future__ import annotations

import pytest
import torch
from random_networks import network
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.merging import MergeSettings, merge
from popgen.merging.vectors import drop_and_rescale, ties_vector

SPEC = ArchSpec.from_config("mlp-s")
BASE = network(SPEC, 9)
EXPERTS = BASE + 0.1 * torch.stack([network(SPEC, seed) for seed in range(3)])


def test_task_arithmetic_adds_scaled_differences() -> None:
    summed = (EXPERTS - BASE).sum(0)
    made = merge("task_arithmetic", SPEC, EXPERTS, base=BASE)
    assert torch.allclose(made.weights, BASE + 0.4 * summed) and made.text == "scale 0.4"
    given = merge("task_arithmetic", SPEC, EXPERTS, base=BASE, settings=MergeSettings(scale=0.25))
    assert torch.allclose(given.weights, BASE + 0.25 * summed)
    third = merge("task_arithmetic", SPEC, EXPERTS, base=BASE, settings=MergeSettings(scale=1 / 3))
    assert torch.allclose(third.weights, EXPERTS.mean(0), atol=1e-6), "a share for each expert makes their average"


def test_the_scale_is_chosen_by_validation() -> None:
    best = BASE + 0.72 * (EXPERTS - BASE).sum(0)
    made = merge("task_arithmetic", SPEC, EXPERTS, base=BASE, validate=lambda flat: -float((flat - best).norm()))
    assert torch.allclose(made.weights, BASE + 0.7 * (EXPERTS - BASE).sum(0))
    assert (made.text, made.evaluations) == ("scale 0.7, the best of 11 by validation", 11)


def test_with_validation_task_arithmetic_is_never_below_the_uniform_soup() -> None:
    def score(flat: Tensor) -> float:
        return -float((flat - EXPERTS.mean(0)).norm())

    made = merge("task_arithmetic", SPEC, EXPERTS, base=BASE, validate=score)
    assert torch.allclose(made.weights, EXPERTS.mean(0), atol=1e-6) and made.text.startswith("scale 0.333,")


def test_a_score_that_is_no_number_is_the_lowest() -> None:
    scores = iter([float("nan"), -5.0, float("nan"), -4.0, *[float("nan")] * 7])
    made = merge("task_arithmetic", SPEC, EXPERTS, base=BASE, validate=lambda _: next(scores))
    assert made.text.startswith("scale 0.333,")


def test_statistics_are_no_part_of_a_task_vector() -> None:
    """Three experts with small variances would sum up to negative ones."""
    spec = ArchSpec.from_config("resnet-s")
    base = network(spec, 1)
    experts = torch.stack([network(spec, seed) for seed in (2, 3, 4)])
    state = spec.to_state(merge("task_arithmetic", spec, experts, base=base, settings=MergeSettings(scale=1)).weights)
    average = spec.to_state(experts.mean(0))
    for t in spec.tensors:
        assert torch.allclose(state[t.name], average[t.name]) == t.kind.startswith(("norm_mean", "norm_var")), t.name


def test_ties_by_hand() -> None:
    """Half of each vector's values remain: the largest two of four."""
    vectors = torch.tensor(
        [
            [4.0, -3.0, 1.0, 0.5],  # remain: 4, -3
            [-1.0, 5.0, 0.0, -2.0],  # remain: 5, -2
            [2.0, 0.5, 0.1, -4.0],  # remain: 2, -4
        ]
    )
    # Sums 6, 2, 0, -6 elect the signs +, +, none, -. Means of what agrees: (4 + 2) / 2, 5, none, (-2 - 4) / 2.
    assert ties_vector(vectors, keep=0.5).tolist() == [3.0, 5.0, 0.0, -3.0]


def test_ties_of_equal_experts_is_the_trimmed_expert() -> None:
    same = EXPERTS[:1].expand(3, -1)
    settings = MergeSettings(keep=1.0)
    made = merge("ties", SPEC, same, base=BASE, settings=settings)
    assert torch.allclose(made.weights, EXPERTS[0], atol=1e-6) and made.text == "keep 1, scale 1"
    trimmed = merge("ties", SPEC, same, base=BASE).weights - BASE
    assert abs(int((trimmed != 0).sum()) - 0.2 * SPEC.size) <= 1


def test_dare_keeps_the_expectation_and_its_draws_are_seeded() -> None:
    vector = torch.linspace(-1, 1, 50)[None]
    drawn = torch.stack([drop_and_rescale(vector, 0.8, seed)[0] for seed in range(1000)])
    error = (0.8 / 0.2 / 1000) ** 0.5 * vector.abs()  # standard deviation of a mean of 1000 draws
    assert bool(((drawn.mean(0) - vector).abs() <= 5 * error).all())
    assert abs(float((drawn == 0).float().mean()) - 0.8) < 0.01
    again = [merge("dare", SPEC, EXPERTS, base=BASE, seed=seed).weights for seed in (1, 1, 2)]
    assert again[0].equal(again[1]) and not again[0].equal(again[2])


@pytest.mark.parametrize(("settings", "count"), [({}, 33), ({"drop": 0.5}, 11), ({"drop": 0.5, "scale": 1.0}, 1)])
def test_what_dare_may_choose(settings: dict[str, float], count: int) -> None:
    made = merge(
        "dare", SPEC, EXPERTS, base=BASE, validate=lambda flat: float(flat.mean()), settings=MergeSettings(**settings)
    )
    assert made.evaluations == (count if count > 1 else 0)
    nothing = MergeSettings(drop=0.0)
    plain = [merge(name, SPEC, EXPERTS, base=BASE, settings=nothing).weights for name in ("dare", "task_arithmetic")]
    assert torch.allclose(*plain)
