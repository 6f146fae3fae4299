"""The choice among candidates without labels."""

from __future__ import annotations

import pytest
import torch
from random_networks import network
from torch import Tensor

from popgen.adaptation.choose import SHARES, Candidate, choose, compare, finished, shares_for
from popgen.adaptation.points import Point, PointDecoder
from popgen.archs import ArchSpec
from popgen.data import load_data
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


def test_the_most_informative_candidate_is_chosen() -> None:
    candidates = [Candidate(Point(share), 0.0, answers(sureness)) for share, sureness in ((0, 1), (0.5, 4), (1, 2))]
    made = choose(candidates)
    assert made.candidate is made.best is candidates[1]
    assert made.gain == pytest.approx(candidates[1].information - candidates[0].information, abs=0.01)
    assert made.gain > 2 * made.error > 0


def test_the_base_comes_back_where_the_gain_is_within_its_error() -> None:
    candidates = [Candidate(Point(), 0.0, answers(2, seed=0)), Candidate(Point(1.0), 0.0, answers(2.05, seed=1))]
    candidates.sort(key=lambda one: one.information)
    made = choose(candidates)
    assert made.best is candidates[1] and made.candidate is candidates[0]
    assert made.gain < 2 * made.error


def test_outputs_that_are_not_finite_are_the_last_choice() -> None:
    broken = Candidate(Point(1.0), 0.0, torch.full((200, 4), torch.nan))
    candidates = [Candidate(Point(), 0.0, answers(1)), broken, Candidate(Point(0.5), 0.0, answers(4))]
    assert choose(candidates).candidate is candidates[2]
    assert choose(candidates[:2]).candidate is candidates[0]


def test_shares_shrink_with_few_images() -> None:
    spec = ArchSpec.from_config("resnet-s")
    assert shares_for(10**6, spec) == pytest.approx(SHARES, abs=1e-4)
    assert shares_for(4, spec)[-1] == pytest.approx(4 / 20)
    assert shares_for(4, ArchSpec.from_config("mlp-s")) == [0.0]


def test_candidates_are_all_points_with_all_shares() -> None:
    spec, images = ArchSpec.from_config("resnet-s"), load_data("digits/invert").train.inputs[:120]
    base, robust, generated = (network(spec, seed) for seed in range(3))
    scaling = Scaling.of(spec, robust, torch.full((spec.size,), 0.1))
    decoder = PointDecoder(spec, scaling, base, robust, {1.0: generated})
    seen: list[tuple[int, int]] = []
    found = compare(decoder, images, Passes(spec, images[:50]), lambda done, of: seen.append((done, of)))
    assert seen[-1] == (len(found), len(found)) and len(seen) == len(found)
    assert len(found) == len(decoder.points()) * 5
    assert found[0].point == Point() and found[0].share == 0
    assert torch.allclose(found[0].logits, network_outputs(spec, base, images[:50]), atol=1e-4)
    flats = dict(finished(spec, base, images, [0.0, 1.0]))
    assert torch.equal(flats[0.0], base) and torch.equal(flats[1.0], reestimate(spec, base, images))
