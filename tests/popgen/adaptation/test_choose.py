"""The choice among candidates without labels."""

from __future__ import annotations

import math
from dataclasses import replace
from unittest.mock import ANY

import pytest
import torch
from random_networks import network
from torch import Tensor

from popgen.adaptation.choose import (
    SHARES,
    Candidate,
    Choice,
    Comparison,
    best_of,
    classes_in_use,
    finished,
    shares_for,
)
from popgen.adaptation.points import Point, PointDecoder
from popgen.archs import ArchSpec
from popgen.data import load_data
from popgen.fitness.information import information_gain
from popgen.generator.strength import mutual_information
from popgen.networks.batchnorm import reestimate
from popgen.networks.forward import network_outputs
from popgen.networks.passes import Passes
from popgen.weights import Scaling


def answers(sureness: float, seed: int = 0) -> Tensor:
    """Logits for 200 images of four classes; the larger `sureness`, the more certain and varied."""
    noise = torch.randn(200, 4, generator=torch.Generator().manual_seed(seed))
    return noise + sureness * torch.eye(4).repeat(
        50, 1
    )  # in an order of classes that halves of every second image would see


def by_answers(candidates: list[Candidate]) -> Choice:
    """The choice among candidates whose answers are given: one in the middle of others answers as the first of them."""

    class Given(Comparison):
        def middle(self, candidates: list[Candidate], images: Tensor | None = None) -> Candidate:
            shown = candidates if images is None else [replace(one, logits=one.logits[images]) for one in candidates]
            best = best_of(shown)
            return next(one for one, part in zip(candidates, shown, strict=True) if part is best)

    nothing = torch.zeros(0)
    return Given(None, nothing, None).choose(candidates)  # type: ignore[arg-type]


def test_the_most_informative_candidate_is_chosen() -> None:
    candidates = [Candidate(Point(share), 0.0, answers(sureness)) for share, sureness in ((0, 1), (0.5, 4), (1, 2))]
    made = by_answers(candidates)
    assert made.candidate is made.best is candidates[1] and not made.is_base
    assert made.gain == pytest.approx(candidates[1].information - candidates[0].information, abs=0.01)
    assert made.gain > made.error > 0


def test_the_base_comes_back_where_the_gain_is_within_its_error() -> None:
    candidates = [Candidate(Point(), 0.0, answers(2, seed=0)), Candidate(Point(1.0), 0.0, answers(2.05, seed=1))]
    candidates.sort(key=lambda one: one.information)
    made = by_answers(candidates)
    assert made.best is candidates[1] and made.candidate is candidates[0] and made.is_base
    assert made.gain < made.error


def test_the_gain_of_a_choice_among_equals_is_not_flattered() -> None:
    """Networks that differ by noise alone: the best on the images that chose gains, and nothing on others."""
    flattered, honest = [], []
    for seed in range(30):
        noise = torch.Generator().manual_seed(seed)
        base = 3 * torch.eye(5).repeat(12, 1)
        many = [Candidate(Point(), 0.0, base + torch.randn(60, 5, generator=noise)) for _ in range(30)]
        flattered.append(max(information_gain(many[0].logits, one.logits)[0] for one in many))
        honest.append(by_answers(many).gain)
    assert sum(flattered) / 30 > 0.08
    assert abs(sum(honest)) / 30 < 0.03


def test_the_effective_number_of_classes_is_that_of_the_robust_network() -> None:
    uniform, single = torch.zeros(8, 4), 50 * torch.eye(4)[torch.zeros(8, dtype=torch.long)]
    base, robust = Candidate(Point(), 0.0, uniform), Candidate(Point(1.0), 0.0, single)
    assert classes_in_use([base]) == pytest.approx(4)
    assert classes_in_use([base, robust]) == pytest.approx(1)


def test_three_images_are_no_evidence() -> None:
    candidates = [Candidate(Point(share), 0.0, answers(sureness)[:3]) for share, sureness in ((0, 1), (0.5, 9))]
    made = by_answers(candidates)
    assert made.is_base and made.error == math.inf


def test_outputs_that_are_not_finite_are_the_last_choice() -> None:
    broken = Candidate(Point(1.0), 0.0, torch.full((200, 4), torch.nan))
    candidates = [Candidate(Point(), 0.0, answers(1)), broken, Candidate(Point(0.5), 0.0, answers(4))]
    assert best_of(candidates) is candidates[2]
    assert best_of(candidates[:2]) is candidates[0]


def test_shares_shrink_with_few_images() -> None:
    spec = ArchSpec.from_config("resnet-s")
    assert shares_for(10**6, spec) == pytest.approx(SHARES, abs=1e-4)
    assert shares_for(4, spec)[-1] == pytest.approx(4 / 20)
    assert shares_for(4, ArchSpec.from_config("mlp-s")) == [0.0]


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    spec, images = ArchSpec.from_config("resnet-s"), load_data("digits/invert").train.inputs[:120]
    base, robust, generated, average = (network(spec, seed) for seed in range(4))
    scaling = Scaling.of(spec, robust, torch.full((spec.size,), 0.1))
    decoder = PointDecoder(spec, scaling, base, robust, generated, average)
    return Comparison(decoder, images, Passes(spec, images[:50]))


def test_candidates_are_all_points_with_all_shares(comparison: Comparison) -> None:
    seen: list[tuple[int, int]] = []
    decoder, images = comparison.decoder, comparison.statistics
    found = replace(comparison, on_network=lambda done, of: seen.append((done, of))).candidates()
    assert seen[-1] == (len(found), len(found)) and len(seen) == len(found) == len(decoder.points()) * 5
    assert found[0].point == Point() and found[0].share == 0
    assert torch.allclose(found[0].logits, network_outputs(decoder.spec, decoder.base, images[:50]), atol=1e-4)
    flats = dict(finished(decoder.spec, decoder.base, images, [0.0, 1.0]))
    assert torch.equal(flats[0.0], decoder.base)
    assert torch.equal(flats[1.0], reestimate(decoder.spec, decoder.base, images))


def test_the_choice_is_the_middle_of_the_most_informative_candidates(comparison: Comparison) -> None:
    candidates = comparison.candidates()
    five = sorted(candidates, key=lambda one: one.information)[-5:]
    made = comparison.choose(candidates).best
    assert made.point.along == pytest.approx(sum(one.point.along for one in five) / 5)
    assert made.point.generated == pytest.approx(sum(one.point.generated for one in five) / 5)
    assert made.share == pytest.approx(sum(one.share for one in five) / 5)
    outputs = comparison.passes.outputs(comparison.weights(made.point, made.share))
    assert torch.equal(made.logits, outputs)
    assert comparison.middle(candidates[:7]) in [replace(one, logits=ANY) for one in candidates[:7]], (
        "of seven, the first"
    )


def test_halves_choose_by_the_images_that_they_see(comparison: Comparison) -> None:
    candidates = comparison.candidates()
    half = torch.arange(25)
    seen = sorted(candidates, key=lambda one: mutual_information(one.logits[:25]))[-5:]
    assert comparison.middle(candidates, half).point == Point.mean([one.point for one in reversed(seen)])
    assert len(comparison.middle(candidates, half).logits) == 50
