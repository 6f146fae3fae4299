"""Chooses a network and its batch-norm statistics without labels, and says whether the choice is better than the base.

Networks that fit a kind of images are certain about single images, and predict different classes for different images: the
mutual information between image and prediction is high (see popgen/generator/strength.py). The best few of many candidates are
mostly neighbours, and which of them is the first is chance, so the choice is the point in their middle. Its gain over the base
is estimated on images that did not choose.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from popgen.adaptation.points import Point, PointDecoder
from popgen.archs import ArchSpec
from popgen.fitness.information import is_gain, mean_and_error, paired_gains
from popgen.generator.strength import mutual_information
from popgen.networks.batchnorm import mix_statistics, reestimate
from popgen.networks.passes import Passes
from popgen.types import Images

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # batch-norm statistics are the images' own to this share
_MIDDLE_OF = 5  # the choice is the middle of so many candidates, but of no more than a fifth of those compared
_FEWEST = 2  # images in a half that judges
# The base is given up for a gain above so many standard errors. A needless change costs little, because the middle of networks as
# informative as the base is about as good; a gain that is refused may be 25 points, where 50 images leave the error large.
_ERRORS = 1.0
_FEW_CLASSES = 0.5  # share of the classes below which the images may be of few classes, and the base is not given up
_PRIOR_IMAGES = 16  # a network's own statistics count as so many images: N of Schneider et al., arXiv 2006.16971


@dataclass(frozen=True)
class Candidate:
    """A network with batch-norm statistics of which a `share` is the images' own."""

    point: Point
    share: float  # 0 to 1
    logits: Tensor  # (n, classes), on the images that it is chosen by

    @property
    def information(self) -> float:
        """The mutual information between image and prediction, in nats."""
        return mutual_information(self.logits)

    def text(self) -> str:
        """The candidate in words."""
        return f"{self.point.text()}, batch norm {self.share:.2g}"


@dataclass(frozen=True)
class Choice:
    """The chosen candidate and its estimated gain over the base, in nats, with its standard error."""

    candidate: Candidate
    gain: float
    error: float
    best: Candidate  # the middle of the most informative ones, which is not chosen where its gain is within its error
    middles: int  # networks that were made in the middle of others
    classes: float  # effective number of classes in the predictions, see `classes_in_use`
    why_base: str | None  # why the base is given back; None where it is not

    @property
    def is_base(self) -> bool:
        """Whether the base is given back."""
        return self.why_base is not None


def shares_for(images: int, spec: ArchSpec) -> list[float]:
    """Return the shares to compare; few images weigh less against the network's own statistics.

    >>> from popgen.archs import ArchSpec
    >>> [round(share, 2) for share in shares_for(16, ArchSpec.from_config("resnet-s"))]
    [0.0, 0.12, 0.25, 0.38, 0.5]
    """
    if not spec.has_batch_norm:
        return [0.0]
    return [share * images / (images + _PRIOR_IMAGES) for share in SHARES]


def finished(spec: ArchSpec, flat: Tensor, statistics: Images, shares: list[float]) -> Iterator[tuple[float, Tensor]]:
    """Yield each share with the weights (p,) whose statistics have it."""
    own = reestimate(spec, flat, statistics) if max(shares) > 0 else flat
    for share in shares:
        yield share, mix_statistics(spec, flat, own, share)


@dataclass(frozen=True)
class Comparison:
    """Compares every point with every share on images, without labels.

    Args:
        statistics: prepared images (n, ...) that statistics are measured on.
        passes: over the prepared images (m, ...) that candidates are compared by.
        on_network: called after each candidate with the number of candidates done and of all.
    """

    decoder: PointDecoder
    statistics: Images
    passes: Passes
    on_network: Callable[[int, int], None] = lambda *_: None

    @property
    def shares(self) -> list[float]:
        """The shares that are compared."""
        return shares_for(len(self.statistics), self.decoder.spec)

    def candidates(self) -> list[Candidate]:
        """Return the candidates; the first is the base as it is."""
        found: list[Candidate] = []
        points = self.decoder.points()
        for point in points:
            for share, flat in finished(self.decoder.spec, self.decoder.weights(point), self.statistics, self.shares):
                found.append(Candidate(point, share, self.passes.outputs(flat)))
                self.on_network(len(found), len(points) * len(self.shares))
        return found

    def weights(self, point: Point, share: float) -> Tensor:
        """Return the weights (p,) of a point with a share."""
        [(_, flat)] = finished(self.decoder.spec, self.decoder.weights(point), self.statistics, [share])
        return flat

    def middle(self, candidates: list[Candidate], images: Tensor | None = None) -> Candidate:
        """Return the candidate in the middle of the most informative ones.

        Args:
            images: indices of the images by which they are the most informative; None: all.
        """
        shown = candidates if images is None else [replace(one, logits=one.logits[images]) for one in candidates]
        order = sorted(range(len(shown)), key=lambda i: _finite(shown[i].information), reverse=True)
        taken = [candidates[i] for i in order[: max(1, min(_MIDDLE_OF, len(candidates) // 5))]]
        point, share = Point.mean([one.point for one in taken]), sum(one.share for one in taken) / len(taken)
        return Candidate(point, share, self.passes.outputs(self.weights(point, share)))

    def choose(self, candidates: list[Candidate]) -> Choice:
        """Choose the middle of the most informative candidates; the base where that is no gain beyond its error, or where
        the predictions use fewer than half of the classes (see `classes_in_use`).

        Each random half of the images judges what the other half chose (cross-fitting: Chernozhukov et al., arXiv
        1608.00060), because on the images that chose the best of many is flattered.

        Args:
            candidates: of `candidates`, or some of them; the first is the base.
        """
        base, best = candidates[0], self.middle(candidates)
        halves = torch.randperm(len(base.logits), generator=torch.Generator().manual_seed(0)).tensor_split(2)
        gain, error, middles = 0.0, math.inf, 1
        if min(map(len, halves)) >= _FEWEST:
            judged = ((self.middle(candidates, half), other) for half, other in (halves, halves[::-1]))
            gains = [paired_gains(base.logits[other], one.logits[other]) for one, other in judged]
            gain, error, middles = *mean_and_error(torch.cat(gains)), 3
        classes = classes_in_use(candidates)
        why = None if is_gain(gain, error, _ERRORS) else "that is not above its standard error"
        if classes < _FEW_CLASSES * base.logits.shape[1]:
            why = (
                f"the predictions use about {classes:.1f} of {base.logits.shape[1]} classes, "
                "and the choice takes all classes to be equally frequent"
            )
        return Choice(best if why is None else base, gain, error, best, middles, classes, why)


def classes_in_use(candidates: list[Candidate]) -> float:
    """Return the effective number of classes in the predictions of the robust network as it is, else of the base.

    It is the exponential of the entropy of the mean prediction. Where it is small, the images may really be of few classes;
    re-estimated statistics and mutual information then prefer networks that see all classes in them.
    """
    alone = next((one for one in candidates if one.point == Point(1.0) and not one.share), candidates[0])
    return float(torch.special.entr(alone.logits.softmax(1).mean(0)).sum().exp())


def best_of(candidates: list[Candidate]) -> Candidate:
    """Return the candidate of the highest mutual information; one whose logits are not finite is the last choice."""
    return max(candidates, key=lambda one: _finite(one.information))


def _finite(value: float) -> float:
    return value if math.isfinite(value) else -math.inf
