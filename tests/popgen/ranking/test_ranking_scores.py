"""The scores of features and outputs, beside their closed forms and direct computations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from popgen.fitness.heads import fit_ridge_head
from popgen.ranking.direct import direct
from popgen.ranking.h_score import shrunk_h_score
from popgen.ranking.knn import knn
from popgen.ranking.leep import expected_log_predictions, leep
from popgen.ranking.logme import evidence
from popgen.ranking.methods import METHODS, choose_method
from popgen.ranking.ridge import ridge
from popgen.ranking.schedule import race_cost, race_rungs
from popgen.ranking.seen import Score, Seen, jackknifed, mean_score
from popgen.tasks import NEXT_TOKEN


def made(noise: float, n: int = 90, classes: int = 3, seed: int = 0) -> Seen:
    """Features around one corner for each class, and outputs that are the features."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(n) % classes
    x = 3 * torch.eye(8)[targets] + noise * torch.randn(n, 8, generator=generator)
    return Seen(x, x[:, :classes], targets, classes, tuple(range(classes)))


@pytest.mark.parametrize("name", METHODS)
def test_every_method_prefers_features_with_less_noise(name: str) -> None:
    scores = [METHODS[name].score(made(noise)) for noise in (0.5, 1.5, 4.0)]
    assert [score.key for score in scores] == sorted((score.key for score in scores), reverse=True)
    assert all(math.isfinite(score.value) and score.error >= 0 for score in scores)


@pytest.mark.parametrize("name", METHODS)
def test_the_standard_error_falls_with_the_number_of_examples(name: str) -> None:
    errors = [np.mean([METHODS[name].score(made(2.5, n, seed=s)).error for s in range(4)]) for n in (60, 960)]
    assert errors[1] < errors[0] / 2


@pytest.mark.parametrize("name", METHODS)
def test_features_that_say_nothing_have_a_score(name: str) -> None:
    zeros = torch.zeros(30, 4)
    score = METHODS[name].score(Seen(zeros, zeros, torch.arange(30) % 3, 3, (0, 1, 2)))
    assert not math.isnan(score.value)


def test_the_evidence_is_that_of_the_marginal_normal_at_its_best_precisions() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(40, 5, generator=generator, dtype=torch.float64)
    y = x @ torch.randn(5, 1, generator=generator, dtype=torch.float64) + 0.3 * torch.randn(40, 1, generator=generator)

    def marginal(alpha: float, beta: float) -> float:
        """log N(y; 0, x x' / alpha + 1 / beta), divided by n."""
        covariance = (x @ x.T / alpha + torch.eye(40) / beta).numpy()
        return float(multivariate_normal.logpdf(y[:, 0].numpy(), cov=covariance)) / 40

    grid = 10 ** np.linspace(-2, 2, 41)
    best = max(marginal(alpha, beta) for alpha in grid for beta in grid)
    assert best - 1e-6 <= evidence(x, y) <= best + 5e-3  # the grid is coarse


def test_the_evidence_of_more_features_than_examples() -> None:
    x = torch.randn(12, 40, generator=torch.Generator().manual_seed(2))
    assert math.isfinite(evidence(x, x[:, :2]))


def test_the_h_score_approaches_the_trace_of_the_between_class_share() -> None:
    rng, targets = np.random.default_rng(0), np.arange(6000) % 2
    x = rng.normal(size=(6000, 3)) + 2.0 * targets[:, None] * np.array([1.0, 0.0, 0.0])
    # The classes' means differ by 2 along one axis: between-class variance 1, within-class variance 1.
    assert shrunk_h_score(x, targets) == pytest.approx(0.5, abs=0.03)


def test_leep_is_that_of_the_joint_frequencies() -> None:
    shares = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]], dtype=torch.float64)
    targets = torch.tensor([0, 0, 1])
    given = {0: (1.5 / 1.7, 0.5 / 1.3), 1: (0.2 / 1.7, 0.8 / 1.3)}  # P(y | z)
    wanted = [
        math.log(sum(p * q for p, q in zip(share, given[y], strict=True)))
        for share, y in zip(shares.tolist(), [0, 0, 1], strict=True)
    ]
    assert expected_log_predictions(shares, targets, 2).tolist() == pytest.approx(wanted)
    logits = shares.log()
    assert leep(Seen(logits, logits, targets, 2)).value == pytest.approx(np.mean(wanted), abs=1e-6)


def test_ridge_is_the_accuracy_of_heads_that_leave_each_example_out() -> None:
    seen = made(2.0, 30)
    right = []
    for i in range(len(seen)):
        kept = torch.arange(len(seen)) != i
        head = fit_ridge_head(seen.features[kept], seen.targets[kept], 3)
        right.append(int((head.weight @ seen.features[i] + head.bias).argmax()) == int(seen.targets[i]))
    assert ridge(seen).value == pytest.approx(np.mean(right), abs=0.1)  # each head chooses its own penalty


def test_nearest_neighbours_never_count_the_example_itself() -> None:
    alternating = Seen(torch.eye(8), torch.eye(8), torch.arange(8) % 2, 2)
    assert knn(alternating).value <= 0.5
    one = torch.ones(1, 2)
    assert knn(Seen(one, one, torch.tensor([0]), 2)).value in (0.0, 1.0)


def test_direct_reads_the_outputs_of_the_classes() -> None:
    logits = torch.tensor([[5.0, 0.0, 1.0], [5.0, 1.0, 0.0]])
    seen = Seen(logits, logits, torch.tensor([1, 0]), 2, (1, 2))
    assert direct(seen).value == 1.0 and direct(seen.take(torch.tensor([0]))).value == 1.0


def test_direct_of_texts_is_minus_the_mean_loss() -> None:
    outputs = torch.tensor([[-1.0, -3.0], [-2.0, 0.0]])  # log likelihoods; 0 where there is no token
    score = direct(Seen(outputs, outputs, torch.zeros(2), 1, (), NEXT_TOKEN))
    assert score.value == pytest.approx(-2.0) and score.error == pytest.approx(0.0)


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    values = torch.arange(10.0)
    without = [float(values[torch.arange(10) != i].mean()) for i in range(10)]
    assert jackknifed(4.5, without).error == pytest.approx(mean_score(values).error)


def test_scores_that_are_no_numbers_come_last() -> None:
    assert Score(math.nan, 0.0).key == -math.inf and Score(0.5, 0.0, -2.0).key == -2.0


def test_the_rule_of_the_method() -> None:
    assert choose_method("knn", [True]) == ("knn", "it was asked for")
    assert choose_method("auto", [True, True])[0] == "direct"
    name, why = choose_method("auto", [True, False, False])
    assert name == "ridge" and why == "2 of 3 checkpoints do not know the data set's classes by name"


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5, 1.0])
def test_a_race_costs_at_most_its_share(share: float) -> None:
    rungs = race_rungs(share, 100_000, 1)
    assert race_cost(len(rungs)) <= share < race_cost(len(rungs) - 1) if rungs else share == 1.0
