"""The head that starts at label phrases: exact leave-one-out, its limits, and its choices."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from popgen.fitness.heads import RidgeHead, fit_phrase_head


def task(n: int, noise: float, seed: int = 0, width: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    """Features of length 1, labels, and centred phrases that say something of the three classes."""
    generator = torch.Generator().manual_seed(seed)
    centres = F.normalize(torch.randn(3, width, generator=generator), dim=1)
    labels = torch.arange(n) % 3
    features = F.normalize(centres[labels] + noise * torch.randn(n, width, generator=generator), dim=1)
    phrases = F.normalize(centres + 0.5 * torch.randn(3, width, generator=generator), dim=1)
    return features, labels, phrases - phrases.mean(0)


def regression(x: Tensor, residual: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """Coefficients (f, classes) and intercept of ridge regression with an absolute penalty, solved directly."""
    mean, offset = x.mean(0), residual.mean(0)
    centred = x - mean
    gram = centred.T @ centred + penalty * torch.eye(x.shape[1], dtype=x.dtype)
    coefficients = torch.linalg.solve(gram, centred.T @ (residual - offset))
    return coefficients, offset - mean @ coefficients


def chosen(head: RidgeHead, x: Tensor, y: Tensor, phrases: Tensor) -> tuple[float, float]:
    """The temperature and the step by which a head was made, found by solving for it with each."""
    for t in (5.0, 10.0, 20.0, 40.0):
        coefficients, intercept = regression(x, y - (t * x @ phrases.T).softmax(1), head.penalty)
        for k in (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0):
            weight, bias = t * phrases + k * coefficients.T, k * intercept
            if torch.allclose(head.weight.double(), weight, atol=1e-5) and torch.allclose(
                head.bias.double(), bias, atol=1e-5
            ):
                return t, k
    raise AssertionError("no temperature and step give this head")


@pytest.mark.parametrize(("n", "noise"), [(9, 0.3), (30, 0.6), (90, 0.4)])
def test_left_out_logits_are_those_of_fitting_without_each_example(n: int, noise: float) -> None:
    features, labels, phrases = task(n, noise)
    head = fit_phrase_head(features, labels, phrases)
    x, y, a = features.double(), F.one_hot(labels, 3).double(), phrases.double()
    t, k = chosen(head, x, y, a)
    assert k > 0
    residual = y - (t * x @ a.T).softmax(1)
    for i in range(n):
        rest = torch.arange(n) != i
        coefficients, intercept = regression(x[rest], residual[rest], head.penalty)
        expected = t * x[i] @ a.T + k * (x[i] @ coefficients + intercept)
        assert torch.allclose(head.left_out[i].double(), expected, atol=1e-4)


def test_loss_and_accuracy_are_those_of_the_left_out_logits() -> None:
    features, labels, phrases = task(40, 0.8)
    head = fit_phrase_head(features, labels, phrases)
    assert head.loss == pytest.approx(float(F.cross_entropy(head.left_out, labels)), abs=1e-5)
    assert head.accuracy == pytest.approx(float((head.left_out.argmax(1) == labels).double().mean()))
    assert 0.3 < head.accuracy < 1


def test_no_choice_has_a_lower_left_out_loss_than_the_phrases_alone() -> None:
    for seed in range(10):
        features, labels, phrases = task(12, 1.5, seed)
        head = fit_phrase_head(features, labels, phrases)
        alone = min(float(F.cross_entropy(t * features @ phrases.T, labels)) for t in (5.0, 10.0, 20.0, 40.0))
        assert head.loss <= alone + 1e-5


def test_where_labels_say_nothing_the_phrases_are_the_head() -> None:
    """Labels by chance: a fit to them often fails on what was left out."""
    alone = 0
    for seed in range(10):
        features, _, phrases = task(12, 1.5, seed)
        labels = torch.randint(0, 3, (12,), generator=torch.Generator().manual_seed(seed))
        head = fit_phrase_head(features, labels, phrases)
        if torch.equal(head.bias, torch.zeros(3)):
            alone += 1
            assert torch.allclose(head.weight, 5 * phrases, atol=1e-5)
            assert torch.allclose(head.left_out, 5 * features @ phrases.T, atol=1e-5)
    assert alone >= 3


def test_labels_improve_on_phrases_that_mislead() -> None:
    features, labels, phrases = task(90, 0.4)
    wrong = phrases.roll(1, 0)
    head = fit_phrase_head(features, labels, wrong)
    fresh, truth, _ = task(300, 0.4, seed=0)
    assert float(((fresh @ wrong.T).argmax(1) == truth).double().mean()) < 0.3
    assert float(((fresh @ head.weight.T + head.bias).argmax(1) == truth).double().mean()) > 0.9


def test_more_features_than_examples_and_absent_classes_are_fitted() -> None:
    features, labels, phrases = task(8, 0.3, width=64)
    head = fit_phrase_head(features[labels < 2], labels[labels < 2], phrases)
    assert head.weight.shape == (3, 64)
    assert bool(torch.isfinite(head.weight).all()) and bool(torch.isfinite(head.left_out).all())


def test_one_example_leaves_the_phrases() -> None:
    """There is nothing to fit to without it, and so the label must not enter what is left out."""
    features, labels, phrases = task(1, 0.3)
    for label in range(3):
        head = fit_phrase_head(features, labels + label, phrases)
        t = 40.0 if label == int((features @ phrases.T).argmax()) else 5.0
        assert torch.allclose(head.weight, t * phrases, atol=1e-5) and torch.equal(head.bias, torch.zeros(3))
        assert torch.allclose(head.left_out, t * features @ phrases.T, atol=1e-5)


def test_equal_features_are_fitted_without_division_by_zero() -> None:
    features, _, phrases = task(1, 0.3)
    head = fit_phrase_head(features.repeat(6, 1), torch.tensor([0, 0, 0, 0, 1, 2]), phrases)
    assert bool(torch.isfinite(head.weight).all())
    assert int((features @ head.weight.T + head.bias).argmax()) == 0
