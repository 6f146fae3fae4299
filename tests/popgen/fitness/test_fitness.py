"""Losses of candidates: closed-form heads against brute force, finished networks against plain torch."""

from __future__ import annotations

import math
import pickle
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from sklearn.linear_model import Ridge
from torch import Tensor, nn
from torch.nn import functional as F

from popgen.archs import ArchConfig, ArchSpec, arch_config, build
from popgen.data import DataSet, Part, load_data
from popgen.errors import BadInput, NotFound
from popgen.fitness import Fitness, LatentObjective, Scored, fit_ridge_head, make_fitness
from popgen.fitness.heads import _FACTORS, _PENALTIES
from popgen.fitness.loss import classification_loss
from popgen.fitness.measures import MEASURES
from popgen.generator import Generator
from popgen.networks.forward import network_features
from popgen.zoo import Zoo

DIGITS = tuple("0123456789")
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@pytest.fixture(scope="module")
def zoo() -> Zoo:
    return Zoo.open("digits")


@pytest.fixture(scope="module")
def expert(zoo: Zoo) -> tuple[ArchSpec, Tensor]:
    """A good cnn-s on digits/rotate:30."""
    return zoo.spec("cnn-s"), zoo.matrix(zoo.select("cnn-s", "digits/rotate:30"))[0]


def relabelled(path: Path, order: str, names: tuple[str, ...] | None = None) -> DataSet:
    """digits/rotate:30 as .npz with the classes `order` only, in that order, under other names if given."""
    data, arrays = load_data("digits/rotate:30"), {}
    for split in ("train", "val", "test"):
        part: Part = getattr(data, split)
        keep = torch.tensor([str(label) in order for label in part.targets.tolist()])
        arrays[f"x_{split}"] = part.inputs[keep].numpy()
        arrays[f"y_{split}"] = np.array([order.index(str(label)) for label in part.targets[keep].tolist()])
    np.savez(path, **arrays, classes=np.array(names or tuple(order)))
    return load_data(f"npz:{path}")


def make_bare() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10, bias=False))


def make_fixed(classes: int = 10) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, classes))


def make_headless() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 10, 8), nn.Flatten())


def fresh(spec: ArchSpec) -> Tensor:
    return spec.to_flat(build(spec.config, seed=0).state_dict())


def plain_accuracy(score: Scored, part: Part) -> float:
    """Accuracy of the finished state dict in a plain torch module."""
    net = build(score.spec.config, seed=5).eval()
    net.load_state_dict(score.state(), strict=True)
    with torch.no_grad():
        return float((net(part.inputs).argmax(1) == part.targets).float().mean())


# The closed-form head


def clusters(n: int = 40, features: int = 6, classes: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % classes
    centres = torch.randn(classes, features, generator=generator)
    return centres[labels] + 0.8 * torch.randn(n, features, generator=generator), labels


def left_out(x: np.ndarray, y: np.ndarray, penalty: float) -> np.ndarray:
    """Scores of each example from a ridge regression on all others."""
    rows = []
    for i in range(len(x)):
        others = np.arange(len(x)) != i
        rows.append(Ridge(alpha=penalty).fit(x[others], y[others]).predict(x[i : i + 1])[0])
    return np.stack(rows)


def test_the_head_is_the_ridge_regression_of_its_penalty() -> None:
    x, labels = clusters()
    head = fit_ridge_head(x, labels, 3)
    ridge = Ridge(alpha=head.penalty).fit(x.double().numpy(), F.one_hot(labels, 3).double().numpy())
    factors = head.weight.numpy() / ridge.coef_
    assert factors == pytest.approx(float(factors.mean()), rel=1e-3)
    assert np.abs(_FACTORS.numpy() - factors.mean()).min() < 1e-3 * factors.mean()
    assert head.bias.numpy() == pytest.approx(factors.mean() * ridge.intercept_, rel=1e-3, abs=1e-4)


def test_penalty_loss_and_accuracy_are_those_of_leaving_one_out() -> None:
    x, labels = clusters()
    head = fit_ridge_head(x, labels, 3)
    inputs, targets = x.double().numpy(), F.one_hot(labels, 3).double().numpy()
    centred = x.double() - x.double().mean(0)
    unit = float(centred.square().sum()) / x.shape[1]
    scores = {float(p) * unit: left_out(inputs, targets, float(p) * unit) for p in _PENALTIES}
    errors = {penalty: np.square(targets - s).mean() for penalty, s in scores.items()}
    best = min(errors, key=errors.__getitem__)
    assert head.penalty == pytest.approx(best, rel=1e-6)
    assert best not in (min(errors), max(errors))  # a choice with both sides
    losses = [float(F.cross_entropy(torch.from_numpy(scores[best]) * factor, labels)) for factor in _FACTORS]
    assert head.loss == pytest.approx(min(losses), rel=1e-5)
    factor = float(_FACTORS[int(np.argmin(losses))])
    whole = Ridge(alpha=best).fit(inputs, targets)
    assert head.weight.numpy() == pytest.approx(factor * whole.coef_, rel=1e-3, abs=1e-5)
    assert head.accuracy == pytest.approx(float((scores[best].argmax(1) == labels.numpy()).mean()))


def test_the_head_is_honest_about_noise_and_survives_poor_features() -> None:
    generator = torch.Generator().manual_seed(1)
    noise, labels = torch.randn(60, 50, generator=generator), torch.arange(60) % 3
    head = fit_ridge_head(noise, labels, 3)
    assert head.accuracy < 0.6
    assert head.loss > 1.0
    for features in (torch.zeros(30, 4), torch.ones(30, 4), torch.randn(30, 1).repeat(1, 8), torch.randn(30, 90)):
        head = fit_ridge_head(features, labels[:30], 3)
        assert torch.isfinite(head.weight).all() and torch.isfinite(head.bias).all() and np.isfinite(head.loss)


# Heads of candidates


def test_the_loss_is_that_of_the_best_temperature() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(400, 5, generator=generator), torch.randint(5, (400,), generator=generator)
    logits[torch.arange(400), labels] += 2
    errors = float((logits.argmax(1) != labels).float().mean())

    def at(log_factor: float, scale: float) -> float:
        return float(F.cross_entropy(logits * scale * math.exp(log_factor), labels))

    for scale in (0.5, 1.0, 3.0):  # over- and underconfident networks are worth the same
        best = minimize_scalar(at, bounds=(-3, 3), args=(scale,), method="bounded").fun
        assert classification_loss(logits * scale, labels) == pytest.approx(best + errors, abs=2e-3)
    assert classification_loss(logits, labels.roll(1)) > classification_loss(logits, labels) + 0.5


def test_keep_scores_the_network_as_it_is(expert: tuple[ArchSpec, Tensor]) -> None:
    spec, flat = expert
    data = load_data("digits/rotate:30")
    fitness = make_fitness(spec, data, DIGITS)
    score = fitness.score(flat)
    assert fitness.head == "keep"
    assert torch.equal(score.flat, flat)
    net = build(spec.config, seed=1)
    net.load_state_dict(spec.to_state(flat))
    assert score.loss == pytest.approx(classification_loss(net(data.val.inputs).detach(), data.val.targets), rel=1e-4)
    assert score.score == pytest.approx(plain_accuracy(score, data.val))
    assert score.score > 0.85


def test_remap_follows_the_names(expert: tuple[ArchSpec, Tensor], tmp_path: Path) -> None:
    spec, flat = expert
    original = make_fitness(spec, load_data("digits/rotate:30"), DIGITS).score(flat)
    data = relabelled(tmp_path / "permuted.npz", "3120987654")
    fitness = make_fitness(spec, data, DIGITS)
    score = fitness.score(flat)
    assert (fitness.head, fitness.head_rows) == ("remap", (3, 1, 2, 0, 9, 8, 7, 6, 5, 4))
    assert score.loss == pytest.approx(original.loss, rel=1e-4)
    assert score.score == pytest.approx(original.score)
    assert plain_accuracy(score, data.val) == pytest.approx(original.score)
    kept = make_fitness(spec, data, DIGITS, head="keep").score(flat)
    assert kept.score < 0.4  # classes 1 and 2 only are where they were


def test_fewer_classes(expert: tuple[ArchSpec, Tensor], tmp_path: Path) -> None:
    spec, flat = expert
    data = relabelled(tmp_path / "four.npz", "7412")
    for head in ("auto", "remap", "refit"):
        score = make_fitness(spec, data, DIGITS, head=head).score(flat)
        assert score.spec.config.classes == 4
        assert score.score > 0.85
        assert plain_accuracy(score, data.val) == pytest.approx(score.score)
    kept = make_fitness(spec, relabelled(tmp_path / "first.npz", "0123"), DIGITS, head="keep").score(flat)
    assert kept.spec.config.classes == 10
    assert kept.score > 0.8


def test_refit_of_a_network_for_other_names_and_another_job(expert: tuple[ArchSpec, Tensor], tmp_path: Path) -> None:
    spec, flat = expert
    named = relabelled(tmp_path / "named.npz", "0123456789", NAMES)
    assert make_fitness(spec, named, DIGITS).head == "refit"
    data = load_data("digits/invert")
    fitness = make_fitness(spec, data, DIGITS, head="refit")
    score = fitness.score(flat)
    kept = make_fitness(spec, data, DIGITS, head="keep").score(flat)
    assert score.score > max(0.8, kept.score + 0.2)
    assert plain_accuracy(score, data.val) == pytest.approx(score.score)
    head = fit_ridge_head(network_features(spec, flat, data.train.inputs), data.train.targets, 10)
    net = build(spec.config, seed=1)
    net.load_state_dict(score.state())
    assert torch.allclose(net.get_submodule(spec.head).weight, head.weight)
    own = classification_loss(net(data.val.inputs).detach(), data.val.targets)
    assert score.loss == pytest.approx((300 * own + 1000 * (head.loss + 1 - head.accuracy)) / 1300, rel=1e-4)


def test_more_classes_than_outputs(tmp_path: Path) -> None:
    config = replace(arch_config("cnn-s"), name="three", classes=3)
    spec = ArchSpec.from_config(config)
    data = relabelled(tmp_path / "seven.npz", "0123456")
    score = make_fitness(spec, data, ("0", "1", "2")).score(fresh(spec))
    assert score.spec.config.classes == 7
    assert score.score == pytest.approx(plain_accuracy(score, data.val))
    assert score.score > 0.6  # random features and a fitted head
    with pytest.raises(BadInput, match="has 7 classes, the head of 'three' has 3 outputs\nit cannot be kept"):
        make_fitness(spec, data, ("0", "1", "2"), head="keep")


@pytest.mark.parametrize(
    ("classes", "head"),
    [(DIGITS, "keep"), (DIGITS[::-1], "remap"), ((*DIGITS, "ten"), "remap"), (NAMES, "refit"), ((), "refit")],
)
def test_auto_chooses_by_the_names(classes: tuple[str, ...], head: str) -> None:
    assert make_fitness(ArchSpec.from_config("mlp-s"), load_data("digits"), classes).head == head


def test_what_is_refused(tmp_path: Path) -> None:
    spec, data = ArchSpec.from_config("cnn-s"), load_data("digits")
    with pytest.raises(BadInput, match="cannot be scored on the split 'test'\ntest data is used once"):
        make_fitness(spec, data, DIGITS, split="test")
    with pytest.raises(BadInput, match="10 classes of 'digits' are unknown to the network: 0, 1, 2, 3, 4\nnearest"):
        make_fitness(spec, data, NAMES, head="remap")
    headless = ArchSpec.from_config(f"{__name__}:make_headless")
    for head in ("refit", "remap"):
        with pytest.raises(BadInput, match=f"not those of its last linear layer .*\n--head {head} works on that layer"):
            make_fitness(headless, data, DIGITS, head=head)
    assert make_fitness(headless, data, DIGITS, head="keep").score(fresh(headless)).loss > 0
    with pytest.raises(BadInput, match="has a fixed number of outputs .10.\nthe data set has 4 classes"):
        make_fitness(
            ArchSpec.from_config(f"{__name__}:make_fixed"), relabelled(tmp_path / "4.npz", "0123"), DIGITS, head="refit"
        )


def test_a_builder_whose_options_set_the_number_of_classes(tmp_path: Path) -> None:
    config = ArchConfig("mine", f"{__name__}:make_fixed", {"classes": 10})
    fitness = make_fitness(ArchSpec.from_config(config), relabelled(tmp_path / "4.npz", "0123"), DIGITS, head="refit")
    assert fitness.finished.config.classes == 4


@pytest.mark.parametrize("head", ["remap", "refit"])
def test_a_head_without_bias(head: str) -> None:
    spec, data = ArchSpec.from_config(f"{__name__}:make_bare"), load_data("digits")
    with_bias = ArchSpec.from_config(f"{__name__}:make_fixed")
    body = {**build(with_bias.config, seed=0).state_dict()}
    reference = make_fitness(with_bias, data, DIGITS, head="refit").score(with_bias.to_flat(body))
    score = make_fitness(spec, data, DIGITS, head=head).score(spec.to_flat(body))
    assert head == "remap" or score.score > reference.score - 0.1


@pytest.mark.parametrize("option", [{"head": "refitt"}, {"batch_norm": "renew"}])
def test_unknown_options_are_refused(option: dict[str, str]) -> None:
    with pytest.raises(NotFound, match="refit|reestimate"):
        make_fitness(ArchSpec.from_config("cnn-s"), load_data("digits"), DIGITS, **option)


# Batch norm, splits, pickling


def test_batch_norm_preference_picks_the_lower_loss(zoo: Zoo) -> None:
    spec, good = zoo.spec("resnet-s"), zoo.matrix(zoo.select("resnet-s", "digits/rotate:30"))[0]
    for data_name in ("digits/rotate:30", "digits/invert"):
        fitness = make_fitness(spec, load_data(data_name), DIGITS, batch_norm="auto")
        assert fitness.batch_norm == "keep"
        broken = good.clone()
        spec.to_state(broken)["bn1.running_var"].mul_(400)
        for flat, wanted in ((good, None), (broken, "reestimate")):
            losses = {name: replace(fitness, batch_norm=name).score(flat).loss for name in ("keep", "reestimate")}
            chosen = fitness.prefer_batch_norm(flat).batch_norm
            assert chosen == min(losses, key=losses.__getitem__)
            assert wanted in (None, chosen)
    nothing = make_fitness(ArchSpec.from_config("cnn-s"), load_data("digits"), DIGITS, batch_norm="reestimate")
    assert nothing.prefer_batch_norm(fresh(nothing.spec)).batch_norm == "keep"


def test_a_candidate_that_is_not_finite_is_not_preferred(zoo: Zoo) -> None:
    spec, flat = zoo.spec("resnet-s"), zoo.matrix(zoo.select("resnet-s", "digits/rotate:30"))[0]
    spec.to_state(flat)["bn1.running_var"].fill_(float("nan"))
    fitness = make_fitness(spec, load_data("digits/rotate:30"), DIGITS)
    assert np.isnan(fitness.score(flat).loss)
    assert fitness.prefer_batch_norm(flat).batch_norm == "reestimate"


def tensors(value: object) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, (tuple, list)):
        return [t for item in value for t in tensors(item)]
    return []


@pytest.mark.parametrize("split", ["val", "train"])
def test_no_test_image_enters_a_fitness(split: str) -> None:
    data = load_data("digits/rotate:45")
    fitness = make_fitness(ArchSpec.from_config("cnn-s"), data, DIGITS, split=split)
    held = [t for f in fields(Fitness) for t in tensors(getattr(fitness, f.name))]
    images = torch.cat([t for t in held if t.dim() == 4]).flatten(1)
    assert len(images) == {"val": 1300, "train": 2000}[split]
    assert torch.cdist(data.test.inputs.flatten(1), images).min() > 1e-3
    assert torch.cdist(data.train.inputs[:5].flatten(1), images).min() == 0
    scored: Part = getattr(data, split)
    assert torch.equal(fitness.val[0], scored.inputs)
    unknown_test = replace(data, test=Part(torch.rand(5, 1, 8, 8), torch.zeros(5, dtype=torch.long)))
    other = make_fitness(fitness.spec, unknown_test, DIGITS, split=split)
    assert other.score(fresh(fitness.spec)).loss == fitness.score(fresh(fitness.spec)).loss


@pytest.mark.parametrize("arch", ["cnn-s", "resnet-s"])
def test_objectives_survive_pickling(arch: str) -> None:
    generator, data = Generator.from_pretrained("digits"), load_data("digits/rotate:45")
    fitness = make_fitness(generator.spec(arch), data, DIGITS, head="refit", batch_norm="reestimate")
    objective = LatentObjective(generator.decoder(arch), fitness)
    vector = np.random.default_rng(0).normal(size=generator.codes[0].numel())
    loss, more = objective(vector)
    assert pickle.loads(pickle.dumps(objective))(vector) == (loss, more)
    flat = generator.decode(arch, torch.tensor(vector).float().view(1, *generator.latent_shape))[0]
    score = pickle.loads(pickle.dumps(fitness)).score(flat)
    assert (score.loss, score.score) == pytest.approx((loss, more["accuracy"]), rel=1e-4)


def test_the_penalty_is_that_of_a_normal_prior(zoo: Zoo) -> None:
    data, generator = load_data("digits/rotate:30"), Generator.from_pretrained("digits")
    for head, images in (("keep", 300), ("refit", 1300)):
        fitness = make_fitness(zoo.spec("cnn-s"), data, DIGITS, head=head)
        vector = generator.stored("cnn-s", data.name)[0][1].flatten().double().numpy()
        centre = vector + 0.25
        plain, metrics = LatentObjective(generator.decoder("cnn-s"), fitness)(vector)
        believed, _ = LatentObjective(generator.decoder("cnn-s"), fitness, centre, 0.5)(vector)
        assert metrics["unpenalised_loss"] == plain
        assert believed - plain == pytest.approx(32 * 0.25**2 / (2 * 0.5**2 * images))


@pytest.mark.usefixtures("zoo")
def test_looks_add_up() -> None:
    """A look goes on from the last one's logits, and gives the same to the last digit where they are lost."""
    data, generator = load_data("digits/rotate:45"), Generator.from_pretrained("digits")
    fitness = make_fitness(generator.spec("cnn-s"), data, data.classes, "keep")
    objective = LatentObjective(generator.decoder("cnn-s"), fitness, rungs=(0.25, 0.5))
    vector = np.random.default_rng(1).normal(size=math.prod(generator.latent_shape))
    quarter, _, logits = objective.look(vector, 0.25, None)
    half, named, more = objective.look(vector, 0.5, logits)
    assert (len(logits), len(more)) == (75, 150) and np.array_equal(more[:75], logits)
    assert (half, named) == objective.look(vector, 0.5, None)[:2]
    assert objective.look(vector, 1.0, more)[0] == objective.look(vector, 1.0, None)[0]
    assert objective.look(vector, 1.0, more)[0] == pytest.approx(objective(vector)[0], abs=1e-6)
    labels = fitness.val[1][fitness.racing_order[:75]]
    assert quarter == classification_loss(torch.tensor(logits), labels)
    assert labels.bincount().max() - labels.bincount().min() <= 1  # as even as the classes themselves
    assert sorted(fitness.racing_order.tolist()) == list(range(300))


@pytest.mark.parametrize(("arch", "head"), [("mlp-s", "keep"), ("resnet-s", "keep"), ("cnn-s", "refit")])
def test_many_are_scored_as_one_by_one(arch: str, head: str) -> None:
    data, generator = load_data("digits/rotate:45"), Generator.from_pretrained("digits")
    fitness = make_fitness(generator.spec(arch), data, data.classes, head)
    objective = LatentObjective(generator.decoder(arch), fitness, measures=("error",))
    vectors = np.random.default_rng(1).normal(size=(5, math.prod(generator.latent_shape)))
    for (loss, named), vector in zip(objective.many(vectors), vectors, strict=True):
        alone, metrics = objective(vector)
        assert loss == pytest.approx(alone, abs=1e-3) and named["error"] == pytest.approx(
            1 - metrics["accuracy"], abs=1e-6
        )
    # A group is filled up with its last vector: it must not matter with whom one is scored.
    filled = objective.many(np.concatenate([vectors[:2], vectors[1:2], vectors[1:2], vectors[1:2]]))
    assert [loss for loss, _ in filled[:2]] == [loss for loss, _ in objective.many(vectors)[:2]]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu() -> None:
    data, generator = load_data("digits/rotate:45"), Generator.from_pretrained("digits")
    fitness = make_fitness(generator.spec("cnn-s"), data, data.classes, "keep")
    here = LatentObjective(generator.decoder("cnn-s"), fitness, measures=tuple(MEASURES), rungs=(0.5,))
    there = replace(here, device="cuda", bfloat16=True)
    vectors = np.random.default_rng(1).normal(size=(4, math.prod(generator.latent_shape)))
    near = 2e-2  # bfloat16 has three digits, and an image more or less in 300 is worth .003
    assert [one[0] for one in there.many(vectors)] == pytest.approx([here(v)[0] for v in vectors], abs=near)
    assert there.look(vectors[0], 0.5, None)[0] == pytest.approx(here.look(vectors[0], 0.5, None)[0], abs=near)


def test_measures() -> None:
    """By hand: four images of two classes, three of them right, with confidences .9, .8, .6 and .7 (the wrong one)."""
    chances = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.3, 0.7]])
    labels = torch.tensor([0, 0, 1, 0])
    assert MEASURES["error"](chances.log(), labels) == 0.25
    assert MEASURES["worst_class_error"](chances.log(), labels) == pytest.approx(1 / 3)
    wanted = -sum(math.log(p) for p in (0.9, 0.8, 0.6, 0.3)) / 4
    assert MEASURES["cross_entropy"](chances.log(), labels) == pytest.approx(wanted)
    # Each confidence is in a bin of its own, .6 and .7 with it: |.1|, |.2|, |.4|, |.7| over four.
    assert MEASURES["calibration_error"](chances.log(), labels) == pytest.approx((0.1 + 0.2 + 0.4 + 0.7) / 4, abs=1e-6)
