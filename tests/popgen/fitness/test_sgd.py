"""Steps of SGD before a score: against a plain loop of torch, the same for every candidate, and what they cost."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from popgen.archs import ArchSpec, build
from popgen.data import Part, load_data
from popgen.fitness import Fitness, LatentObjective, Scored, SgdSteps, fit_ridge_head, make_fitness
from popgen.fitness.loss import classification_loss
from popgen.fitness.sgd import take_steps
from popgen.generator import Generator
from popgen.networks.forward import network_features
from popgen.zoo import Zoo
from popgen.zoo.imports.matching import fit_tensors
from popgen.zoo.imports.tensors import read_tensors

DIGITS = tuple("0123456789")
REAL = Path(__file__).parents[3].parent / "shared" / "data"


def expert(arch: str) -> tuple[ArchSpec, Tensor]:
    zoo = Zoo.open("digits")
    return zoo.spec(arch), zoo.matrix(zoo.select(arch, "digits/rotate:30"))[0]


def by_hand(spec: ArchSpec, flat: Tensor, images: Tensor, labels: Tensor, sgd: SgdSteps) -> dict[str, Tensor]:
    """The same steps with the update rule written out (Sutskever's momentum as torch has it)."""
    net = build(spec.config, seed=3).eval()
    net.load_state_dict(spec.to_state(flat), strict=False)
    speed = [torch.zeros_like(p) for p in net.parameters()]
    for step, rows in enumerate(sgd.batches(len(labels))):
        loss = F.cross_entropy(net(images[rows]), labels[rows])
        rate = sgd.lr * 0.5 * (1 + math.cos(math.pi * step / sgd.steps))
        gradients = torch.autograd.grad(loss, list(net.parameters()))
        norm = math.sqrt(sum(float(g.square().sum()) for g in gradients))
        for p, v, gradient in zip(net.parameters(), speed, gradients, strict=True):
            v.mul_(sgd.momentum).add_(gradient * min(1.0, sgd.clip / norm))
            p.data.sub_(rate * v)
    return {name: value for name, value in net.state_dict().items() if value.is_floating_point()}


@pytest.mark.parametrize("arch", ["mlp-s", "cnn-s", "resnet-s"])
def test_the_steps_are_those_of_a_plain_loop(arch: str) -> None:
    (spec, flat), train = expert(arch), load_data("digits/rotate:45").train
    sgd = SgdSteps(steps=7, lr=0.03, batch=200, seed=4)  # five batches, and two of the next order
    before = flat.clone()
    after = spec.to_state(take_steps(spec, flat, train.inputs, train.targets, sgd))
    for name, value in by_hand(spec, flat, train.inputs, train.targets, sgd).items():
        assert torch.allclose(after[name], value, atol=1e-5), name
    assert torch.equal(flat, before)
    again = take_steps(spec, flat, train.inputs, train.targets, sgd)
    assert torch.equal(again, spec.to_flat(after))
    assert not torch.equal(again, take_steps(spec, flat, train.inputs, train.targets, replace(sgd, seed=5)))


def test_batches_go_through_the_images() -> None:
    batches = list(SgdSteps(steps=8, batch=30, seed=1).batches(100))
    assert [len(rows) for rows in batches] == [30] * 8
    for first in (0, 3):  # the first batches of both epochs; each epoch leaves ten images out
        assert len(set(torch.cat(batches[first : first + 3]).tolist())) == 90
    assert not torch.equal(batches[0], batches[3])
    assert all(
        torch.equal(a, b) for a, b in zip(batches, SgdSteps(steps=8, batch=30, seed=1).batches(100), strict=True)
    )
    assert [len(rows) for rows in SgdSteps(steps=2, batch=50).batches(7)] == [7, 7]


def plain(score: Scored, part: Part) -> tuple[float, float]:
    """Loss and accuracy of the returned state dict in a plain module."""
    net = build(score.spec.config, seed=5).eval()
    net.load_state_dict(score.state(), strict=False)
    with torch.no_grad():
        logits = net(part.inputs)
    return classification_loss(logits, part.targets), float((logits.argmax(1) == part.targets).float().mean())


@pytest.mark.parametrize(("arch", "batch_norm"), [("cnn-s", "keep"), ("resnet-s", "keep"), ("resnet-s", "reestimate")])
def test_what_is_scored_is_what_is_returned(arch: str, batch_norm: str) -> None:
    (spec, flat), data = expert(arch), load_data("digits/rotate:45")
    sgd = SgdSteps(steps=20, lr=0.01)
    without = make_fitness(spec, data, DIGITS, batch_norm=batch_norm)
    fitness = make_fitness(spec, data, DIGITS, batch_norm=batch_norm, sgd=sgd)
    score, before = fitness.score(flat), without.score(flat)
    assert torch.equal(score.flat, take_steps(spec, before.flat, data.train.inputs, data.train.targets, sgd))
    loss, accuracy = plain(score, data.val)
    assert (score.loss, score.score) == (pytest.approx(loss, rel=1e-4), pytest.approx(accuracy))
    assert score.loss < before.loss - 0.05  # trained on another rotation, it learns this one
    weights = torch.stack([flat, flat + 0.01])
    assert [one.loss for one in fitness.score_many(weights)] == [fitness.score(one).loss for one in weights]
    assert pickle.loads(pickle.dumps(fitness)).score(flat).loss == score.loss


def test_a_refitted_head_is_trained_on_with_the_rest() -> None:
    (spec, flat), data = expert("cnn-s"), load_data("digits/invert")
    fitness = make_fitness(spec, data, DIGITS, head="refit", sgd=SgdSteps(steps=10))
    head = fit_ridge_head(network_features(spec, flat, data.train.inputs), data.train.targets, 10)
    start = {**spec.to_state(flat), f"{spec.head}.weight": head.weight, f"{spec.head}.bias": head.bias}
    wanted = take_steps(spec, spec.to_flat(start), data.train.inputs, data.train.targets, SgdSteps(steps=10))
    score = fitness.score(flat)
    assert torch.allclose(score.flat, wanted, atol=1e-5)
    assert score.loss == pytest.approx(plain(score, data.val)[0], rel=1e-4)  # validation images alone
    assert (fitness.examples, replace(fitness, sgd=None).examples) == (300, 1300)
    assert score.score >= replace(fitness, sgd=None).score(flat).score - 0.02


def test_what_an_evaluation_costs() -> None:
    spec, data = ArchSpec.from_config("mlp-s"), load_data("digits")
    assert make_fitness(spec, data, DIGITS).cost == 1.0
    assert make_fitness(spec, data, DIGITS, sgd=SgdSteps(steps=10, batch=50)).cost == 1 + 3 * 10 * 50 / 300
    few = load_data("digits/shots:2")
    assert make_fitness(spec, few, DIGITS, sgd=SgdSteps(steps=10, batch=50)).cost == 1 + 3 * 10 * 20 / 300


def test_groups_follow_the_images_through_looks_and_measures() -> None:
    data, generator = load_data("digits/rotate:45"), Generator.from_pretrained("digits")
    groups = torch.arange(300) % 3
    fitness = make_fitness(generator.spec("mlp-s"), data, DIGITS, groups=groups)
    objective = LatentObjective(
        generator.decoder("mlp-s"), fitness, rungs=(0.5,), measures=("worst_group_error", "f1_error")
    )
    vector = np.random.default_rng(3).normal(size=math.prod(generator.latent_shape))
    _, named = objective(vector)
    right = fitness.score(generator.decoder("mlp-s").weights(vector)).outputs.argmax(1) == data.val.targets
    assert named["worst_group_error"] == pytest.approx(max(1 - float(right[g::3].float().mean()) for g in range(3)))
    _, of_half, _ = objective.look(vector, 0.5, None)
    seen = fitness.racing_order[:150]
    errors = [1 - float(right[seen[groups[seen] == g]].float().mean()) for g in range(3)]
    assert of_half["worst_group_error"] == pytest.approx(max(errors), abs=1e-6)
    assert objective.look(vector, 1.0, None)[1] == pytest.approx(named)


@pytest.mark.real
@pytest.mark.skipif(not REAL.exists(), reason="needs the published checkpoints")
def test_a_published_resnet56_for_eight_classes() -> None:
    spec = ArchSpec.from_config("resnet56")
    path = REAL / "checkpoints" / "cifar10_resnet" / "resnet56_akamaster.th"
    state, _ = fit_tensors(spec, read_tensors(path), path)
    data = load_data(f"folder:{REAL / 'imagenet32_animals_vehicles'}/shots:12")
    val = data.val.take(torch.arange(0, len(data.val), 4))
    fitness: Fitness = make_fitness(spec, replace(data, val=val), DIGITS, head="refit")
    score = fitness.score(spec.to_flat(state))
    assert (len(data.classes), score.spec.config.classes) == (8, 8)
    net = build(score.spec.config, seed=1).eval()
    net.load_state_dict(score.state(), strict=True)
    head = net.get_submodule(spec.head)
    assert head.weight.shape == (8, 64) and head.bias.shape == (8,)
    with torch.no_grad():
        answers = torch.cat([net(part).argmax(1) for part in fitness.val[0].split(50)])
    assert float((answers == val.targets).float().mean()) == pytest.approx(score.score)
    assert score.score > 0.45  # chance is 1 in 8
    body = [name for name in state if not name.startswith(spec.head) and state[name].is_floating_point()]
    assert all(torch.equal(score.state()[name], state[name]) for name in body)
