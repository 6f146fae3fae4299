"""Places in weight space: replicas, noise, averages and permutations of checkpoints, against closed forms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from popgen.archs import ArchSpec, build
from popgen.audit.controls import noisy
from popgen.audit.space import Beside, WeightSpace
from popgen.weights.align import permuted

SPEC = ArchSpec.from_config("mlp-s")
NONE = torch.zeros(1, 0, dtype=torch.long)


def networks(n: int) -> Tensor:
    return torch.stack([SPEC.to_flat(build("mlp-s", seed=i).state_dict()) for i in range(n)])


@pytest.fixture(scope="module")
def checkpoints() -> Tensor:
    return networks(6)


@pytest.fixture(scope="module")
def space(checkpoints: Tensor) -> WeightSpace:
    return WeightSpace(SPEC, checkpoints, [f"lineage {i}" for i in range(6)])


def scaled(weights: Tensor, checkpoints: Tensor) -> Tensor:
    """Weights divided by each tensor's root mean square over the checkpoints."""
    sizes = [t.size for t in SPEC.tensors]
    parts = zip(weights.split(sizes, 1), checkpoints.split(sizes, 1), strict=True)
    return torch.cat([part / known.square().mean().sqrt() for part, known in parts], 1).double()


def test_distances_are_those_of_linear_algebra(checkpoints: Tensor, space: WeightSpace) -> None:
    others = networks(9)[6:]
    found = space.places(others, NONE.expand(3, 0))
    x, known = scaled(others, checkpoints), scaled(checkpoints, checkpoints)
    assert torch.allclose(found.plain.double(), torch.cdist(x, known).amin(1), rtol=1e-5)
    assert torch.allclose(found.l2, torch.cdist(others, checkpoints).amin(1), rtol=1e-4)
    basis = (known[1:] - known[0]).T
    for i, one in enumerate(x):
        solution = torch.linalg.lstsq(basis, (one - known[0])[:, None]).solution
        residual = float((basis @ solution - (one - known[0])[:, None]).norm())
        assert float(found.span[i]) <= residual * (1 + 1e-5)  # another order of the units may be nearer
    assert (found.nearest <= found.plain).all() and (found.span <= found.nearest + 1e-3).all()


def test_a_replica_and_its_permutations(checkpoints: Tensor, space: WeightSpace) -> None:
    orders = torch.stack([permuted(SPEC, flat, seed) for seed, flat in enumerate(checkpoints[:3])])
    for weights in (checkpoints[:3], orders):
        found = space.places(weights, torch.tensor([[0], [1], [2]]))
        assert found.nearest.max() < 1e-3 and found.span.max() < 1e-3
        assert torch.allclose(found.anchor, torch.ones(3), atol=1e-3)
    assert found.plain.min() > 10, "in their own order they are far from it"
    rigid = WeightSpace(SPEC, checkpoints, list("abcdef"), permutable=False)
    assert rigid.places(orders, torch.tensor([[0], [1], [2]])).nearest.min() > 10


def test_noise_keeps_its_anchor_and_averages_have_none(checkpoints: Tensor, space: WeightSpace) -> None:
    for strength in (0.1, 0.5, 1.0):
        found = space.places(noisy(SPEC, checkpoints, strength, 6, seed=0), torch.arange(6)[:, None])
        assert float(found.anchor.mean()) == pytest.approx(1, abs=0.1)
        assert float(found.nearest.mean()) == pytest.approx(strength * SPEC.size**0.5, rel=0.1)
    pair = checkpoints[:2].mean(0)[None]
    found = space.places(pair, NONE)
    assert float(found.span) < 1e-3 and abs(float(found.anchor)) < 1e-3
    quarter = (0.75 * checkpoints[0] + 0.25 * checkpoints[1])[None]
    assert float(space.places(quarter, NONE).anchor) == pytest.approx(0.5, abs=1e-3)


def test_a_checkpoint_is_compared_with_other_lineages_only(checkpoints: Tensor) -> None:
    family = torch.cat([checkpoints[:3], checkpoints[:1] + 1e-3])
    space = WeightSpace(SPEC, family, ["a", "b", "c", "a"])
    found = space.places(family[:1], NONE, ["a"])
    x = scaled(family, family)
    assert float(found.plain) == pytest.approx(float(torch.cdist(x[:1], x[1:3]).amin()), rel=1e-5)
    assert float(space.places(family[:1], NONE).nearest) < 1e-3


def test_networks_beside_checkpoints_of_one_run_give_their_anchor_another_end(checkpoints: Tensor) -> None:
    run, independent = noisy(SPEC, checkpoints[:1], 0.1, 4, seed=0), checkpoints[1:4]
    names = ["b", "c", "d"]
    alone = WeightSpace(SPEC, run, ["a"] * 4, permutable=False)
    space = WeightSpace(SPEC, run, ["a"] * 4, permutable=False, beside=Beside(independent, names))
    new, middle = checkpoints[4:5], (run[:1] + independent[:1]) / 2
    assert float(alone.places(new, NONE).anchor) == 1, "without another lineage nothing tells"
    assert float(space.places(run[1:2], NONE).anchor) == 1
    assert abs(float(space.places(new, NONE).anchor)) < 0.2 and abs(float(space.places(middle, NONE).anchor)) < 0.1
    held = space.places(independent, NONE.expand(3, 0), names)
    assert held.anchor.abs().max() < 0.2, "a reference is not compared with itself"
    assert torch.equal(space.places(new, NONE).span, alone.places(new, NONE).span), (
        "the span is that of checkpoints alone"
    )


def test_checkpoints_of_other_starts_are_compared_in_one_order() -> None:
    first = networks(1)[0]
    kin = noisy(SPEC, first[None], 0.3, 4, seed=0)
    shuffled = torch.stack([kin[0], *(permuted(SPEC, flat, seed) for seed, flat in enumerate(kin[1:]))])
    space = WeightSpace(SPEC, shuffled, list("abcd"), aligned=kin)
    middle = kin.mean(0)[None]
    assert float(space.places(middle, NONE).span) < 1e-3, "an average of aligned networks lies in their span"
    plain = shuffled.mean(0)[None]
    assert float(space.places(plain, NONE).span) < 1e-3, "so does an average of networks as they are"


def test_running_statistics_do_not_count() -> None:
    spec = ArchSpec.from_config("resnet-s")
    weights = torch.stack([spec.to_flat(build("resnet-s", seed=i).state_dict()) for i in range(3)])
    moved = {**spec.to_state(weights[0])}
    for tensor in spec.tensors:
        if tensor.kind in ("norm_mean", "norm_var"):
            moved[tensor.name] = moved[tensor.name] + 3
    space = WeightSpace(spec, weights, list("abc"))
    assert float(space.places(spec.to_flat(moved)[None], NONE).nearest) < 1e-3
    assert space.spread(weights[:1]) == 0 and space.spread(weights) > 1


def test_a_network_whose_outputs_overflow_keeps_its_order(checkpoints: Tensor, space: WeightSpace) -> None:
    found = space.places(1e30 * checkpoints[:1], torch.tensor([[1, 2]]))
    assert found.nearest.isfinite().all() and float(found.nearest) == pytest.approx(float(found.plain))
