"""The optimism of a winner's validation score: how much the best of several candidates owes to being chosen by the same images.

The term is Efron's (Estimating the error rate of a prediction rule, 1983).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from popgen.fitness.candidate import Scored
from popgen.networks.forward import network_outputs
from popgen.tasks import CLASSIFICATION
from popgen.types import Images, Labels

_SPLITS = 200
_KNOWN = 3.0  # standard errors by which a network is better on images that trained it


@dataclass(frozen=True)
class Optimism:
    """The optimism of an accuracy (0 to 1): its estimate, and the most that is expected of so many candidates.

    The standard error is None where the estimate is not that of `fresh_optimism`; the bound is None where candidates were bred.
    """

    value: float
    bound: float | None
    candidates: int
    standard_error: float | None = None

    def text(self) -> str:
        """Return it for people.

        >>> Optimism(-0.0001, 0.1, 2).text(), Optimism(0.0251, None, 300, 0.011).text()
        ('0.000', '0.025 ± 0.011')
        """
        value = f"{self.value:.3f}".replace("-0.000", "0.000")
        return value if self.standard_error is None else f"{value} ± {self.standard_error:.3f}"


@dataclass
class Choice:
    """The candidates of a row, of which the one with the lowest loss is chosen: what each answers on every validation image."""

    losses: list[Tensor] = field(default_factory=list)  # (n,) each
    right: list[Tensor] = field(default_factory=list)  # (n,) each, 1 where the answer is right
    offsets: list[float] = field(default_factory=list)

    def add(self, scored: Scored, loss: float | None = None) -> None:
        """Add a candidate.

        Args:
            loss: what it is chosen by, where that is not the network's own loss; None: that.
        """
        if scored.spec.config.task != CLASSIFICATION or scored.targets.dim() > 1 or not scored.outputs.isfinite().all():
            return
        own = scored.image_losses()
        self.losses.append(own)
        self.right.append((scored.outputs.argmax(1) == scored.targets).to(torch.uint8))
        self.offsets.append((scored.finite_loss if loss is None else loss) - float(own.mean()))

    @classmethod
    def of(cls, networks: Iterable[Scored]) -> Choice:
        """The choice among networks by their own loss."""
        choice = cls()
        for one in networks:
            choice.add(one)
        return choice

    def optimism(self) -> Optimism | None:
        """The optimism of the candidate with the lowest loss; None where there was no choice."""
        if len(self.losses) < 2:
            return None
        losses = torch.stack(self.losses).double() + torch.tensor(self.offsets)[:, None]
        return optimism(losses.numpy(), torch.stack(self.right).numpy())


def optimism(losses: np.ndarray, right: np.ndarray, seed: int = 0) -> Optimism:
    """Estimate the optimism of the candidate with the lowest mean loss by sample splitting.

    The images are halved at random, 200 times. The candidate with the lowest loss on one half is scored on both, and its score on the
    half that chose it is higher by the optimism of n / 2 images. On n images it is 1 / sqrt(2) of that where the candidates are equally
    good, the worst case; where they are not, half the images choose less well than all, and the estimate is too high. In simulations with
    20 candidates and 300 images it is .031 where .030 is true (equally good), .018 for .014 (spread over ten points), and .013 for .004
    (one is five points better than the others), each with a standard deviation of .006 to .009. Choosing again without a tenth of
    the images has less bias and two to three times the deviation; the bootstrap has two thirds of the truth in the worst case.
    Candidates that were themselves bred on these images are taken as given, so that for them the estimate is a lower one.

    The bound is that on the expected maximum of `k` means of n values in [0, 1], sqrt(ln k / (2 n)) (Boucheron, Lugosi and Massart,
    Concentration inequalities, 2013, section 2.5), for candidates that do not depend on these images.

    Args:
        losses: the loss of each candidate on each image, (k, n).
        right: 1 where a candidate's answer is right, else 0, (k, n).

    >>> optimism(np.array([[0.1, 0.2], [3.0, 3.0]]), np.array([[1, 1], [0, 0]]))
    Optimism(value=0.0, bound=0.41627730557884884, candidates=2, standard_error=None)
    """
    k, n = losses.shape
    bound = min(math.sqrt(math.log(k) / (2 * n)), 1.0)
    if k == 1 or n < 2:
        return Optimism(0.0, bound, k)
    draws = np.random.default_rng(seed)
    half = np.zeros((_SPLITS, n))
    for chosen in half:
        chosen[draws.permutation(n)[: n // 2]] = 1
    winners = (losses @ half.T).argmin(0)
    own, answers = half.sum(1), right[winners].astype(float)  # (splits, n)
    inside = (answers * half).sum(1)
    gained = inside / own - (answers.sum(1) - inside) / (n - own)
    return Optimism(float(gained.mean() / math.sqrt(2)), bound, k)


def fresh_optimism(best: Scored, start: Scored, images: Images, labels: Labels, candidates: int) -> Optimism | None:
    """The optimism of the best of candidates that were bred on the validation images, by other images that chose nothing.

    It is the gain over the network that the search started from on the validation images, less that on the other images: the start
    takes out that one split may be harder. On 30 searches of 300 evaluations (digits, four architectures, eight variants) the estimate is .024,
    the same by the test images .020 with a standard error of .002 (their correlation is .81), and the estimate that takes the candidates as given .007.

    Images that trained the start show no gain. They give themselves away where it is clearly better on them than on the validation images,
    by three standard errors; the result is then None.

    Args:
        start: a network that was not chosen by the validation images, scored on them as `best` is.
        images: prepared images (m, ...) by which no candidate was chosen, with their labels (m,).
    """
    chose = [_right(one.outputs, one.targets) for one in (best, start)]
    fresh = [_right(network_outputs(one.spec, one.flat, images), labels) for one in (best, start)]
    known, known_error = _difference(fresh[1], chose[1])
    if known > _KNOWN * known_error:
        return None
    value, error = _difference(chose[0] - chose[1], fresh[0] - fresh[1])
    return Optimism(value, None, candidates, error)


def _difference(ours: Tensor, theirs: Tensor) -> tuple[float, float]:
    """The difference of two means over different images, and its standard error."""
    error = math.sqrt(sum(float(one.var()) / len(one) for one in (ours, theirs)))
    return float(ours.mean() - theirs.mean()), error


def _right(outputs: Tensor, labels: Labels) -> Tensor:
    return (outputs.argmax(1) == labels).double()
