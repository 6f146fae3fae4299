"""Subspaces around experts: vectors give the right weights, layers are grouped, and decoders can be sent to workers."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from popgen.archs import ArchSpec
from popgen.weights.mask import Mask
from popgen.weights.mixing import MAX_GROUPS, STEP, layer_groups, low_rank, mixture, principal

SPEC = ArchSpec.from_config("resnet-s")


def experts(count: int) -> torch.Tensor:
    weights = torch.randn(count, SPEC.size, generator=torch.Generator().manual_seed(0))
    for i in range(count):
        for tensor, values in zip(SPEC.tensors, weights[i].split([t.size for t in SPEC.tensors]), strict=True):
            if tensor.kind == "norm_var":
                values.abs_().add_(0.1)
    return weights


def test_groups_hold_every_tensor_once() -> None:
    for arch in ("mlp-s", "cnn-m", "resnet-s", "resnet20", "resnet56", "mlp-s/hidden:8-8-8-8-8-8-8-8-8"):
        spec = ArchSpec.from_config(arch)
        groups = layer_groups(spec)
        assert [n for names in groups.values() for n in names] == [t.name for t in spec.tensors]
        assert len(groups) <= MAX_GROUPS and list(groups)[-1] == "head"
    assert list(layer_groups(SPEC)) == ["stem", "layer1", "layer2", "head"]


def test_corners_of_a_mixture_are_the_experts() -> None:
    base, *others = experts(3)
    mixed = mixture(SPEC, base, torch.stack(others))
    assert mixed.dim == 2 * 4
    vectors = np.stack([mixed.vector(np.array(row)) for row in ([0, 0], [1, 0], [0, 1], [0.5, 0], [1 / 3, 1 / 3])])
    wanted = [base, *others, (base + others[0]) / 2, (base + others[0] + others[1]) / 3]
    assert torch.allclose(mixed.weights_of_many(vectors), torch.stack(wanted), atol=1e-5)


def test_a_coefficient_moves_its_group_alone() -> None:
    base, other = experts(2)
    mixed = mixture(SPEC, base, other[None])
    vector = np.zeros(mixed.dim)
    vector[mixed.groups.index("layer2")] = 1
    state, was, there = (SPEC.to_state(flat) for flat in (mixed.weights(vector), base, other))
    for name in state:
        wanted = there if name.startswith("layer2.") else was
        assert torch.allclose(state[name].float(), wanted[name].float(), atol=1e-5)


def test_variances_stay_above_zero() -> None:
    base, other = experts(2)
    mixed = mixture(SPEC, base, other[None]).weights(np.full(4, -50.0))
    assert all(bool((v > 0).all()) for n, v in SPEC.to_state(mixed).items() if n.endswith("running_var"))


def test_low_rank_steps_have_rank_one_and_their_size() -> None:
    [base] = experts(1)
    steps = low_rank(SPEC, base, rank=3, seed=0)
    vector = np.zeros(steps.dim)
    vector[steps.groups.index("layer2")] = 2.0  # coefficient of the first direction
    step = SPEC.to_state(steps.weights(vector) - base)
    matrix = step["layer2.0.conv1.weight"].flatten(1)
    values = torch.linalg.svdvals(matrix)
    assert values[1] < 1e-4 * values[0]
    spread = SPEC.to_state(base)["layer2.0.conv1.weight"].std()
    assert 0.5 < float(matrix.square().mean().sqrt() / (2 * STEP * spread)) < 2
    assert not step["layer2.0.bn1.running_mean"].any() and not step["linear.weight"].any()
    assert torch.equal(steps.weights(np.zeros(steps.dim)), base)


def test_directions_depend_on_the_seed_alone() -> None:
    [base] = experts(1)
    a, b, c = (low_rank(SPEC, base, 2, seed).directions for seed in (0, 0, 1))
    assert torch.equal(a, b) and not torch.equal(a, c)


@pytest.mark.parametrize("kind", ["mix", "low-rank"])
def test_subspaces_are_picklable_and_apply_masks(kind: str) -> None:
    base, other = experts(2)
    kept = torch.zeros(SPEC.size, dtype=torch.bool)
    kept[-10:] = True
    mask = Mask(kept, torch.full((SPEC.size,), 7.0), "")
    decoder = mixture(SPEC, base, other[None], mask) if kind == "mix" else low_rank(SPEC, base, 2, 0, mask)
    vectors = np.random.default_rng(0).normal(size=(3, decoder.dim))
    made = decoder.weights_of_many(vectors)
    assert bool((made[:, :-10] == 7).all()) and not bool((made[:, -10:] == 7).any())
    again = pickle.loads(pickle.dumps(decoder)).to("cpu")
    assert torch.equal(again.weights_of_many(vectors), made)
    assert torch.allclose(again.weights(vectors[1]), made[1], atol=1e-6)


def test_normal_vectors_of_the_principal_components_have_the_experts_covariance() -> None:
    weights = experts(4)
    space, vectors = principal(SPEC, weights)
    assert (space.dim, space.groups) == (3, ("all",))
    assert torch.allclose(space.weights_of_many(vectors), weights, atol=1e-4), "all of the variance of four is in three"
    assert np.allclose(vectors.mean(0), 0, atol=1e-5) and np.allclose(vectors.std(0, ddof=1), 1, atol=1e-5)
    inner = space.directions @ space.directions.T
    assert torch.allclose(inner, inner.diag().diag(), atol=1e-3 * float(inner.max())), "components are orthogonal"
    assert torch.equal(inner.diag(), inner.diag().sort(descending=True).values)


def test_components_that_explain_next_to_nothing_are_left_out() -> None:
    first, second = experts(2)
    line = torch.stack([first, second, (first + second) / 2, 0.3 * first + 0.7 * second + 1e-4 * experts(3)[2]])
    assert principal(SPEC, line)[0].dim == 2, "an optimizer needs two"
    assert principal(SPEC, line[:2])[0].dim == 1


def test_workers_read_weights_in_place() -> None:
    weights = experts(3)
    mask = Mask(torch.arange(SPEC.size) < 9, weights[0], "")
    buffers: list[pickle.PickleBuffer] = []
    content = pickle.dumps(principal(SPEC, weights, mask)[0], protocol=5, buffer_callback=buffers.append)
    assert len(content) < 20_000, "weights lie in buffers, of which Ray keeps one for all workers"
    again = pickle.loads(content, buffers=[memoryview(one.raw()).toreadonly() for one in buffers])
    vector = np.array([0.5, -1.0])
    assert torch.equal(again.weights(vector)[9:], weights[0][9:])
    assert torch.equal(again.weights(vector), principal(SPEC, weights, mask)[0].weights(vector))
