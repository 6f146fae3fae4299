"""Chooses a network and its batch-norm statistics without labels, and says whether the choice is better than the base.

Networks that fit a kind of images are certain about single images, and predict different classes for different images: the
mutual information between image and prediction is high (see popgen/generator/strength.py). The gain over the base is estimated
on images that did not choose.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor

from popgen.adaptation.points import Point, PointDecoder
from popgen.archs import ArchSpec
from popgen.fitness.information import gain_of_choice, is_gain
from popgen.generator.strength import mutual_information
from popgen.networks.batchnorm import mix_statistics, reestimate
from popgen.networks.passes import Passes
from popgen.types import Images

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # batch-norm statistics are the images' own to this share
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
    best: Candidate  # the most informative candidate, which is not chosen where its gain is within its error


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


def compare(
    decoder: PointDecoder, statistics: Images, passes: Passes, on_network: Callable[[int, int], None] | None = None
) -> list[Candidate]:
    """Return the candidates, which are every point with every share; the first is the base as it is.

    Args:
        statistics: prepared images (n, ...) that statistics are measured on.
        passes: over the prepared images (m, ...) that candidates are compared by.
        on_network: called after each candidate with the number of candidates done and of all.
    """
    found: list[Candidate] = []
    points, shares = decoder.points(), shares_for(len(statistics), decoder.spec)
    for point in points:
        for share, flat in finished(decoder.spec, decoder.weights(point), statistics, shares):
            found.append(Candidate(point, share, passes.outputs(flat)))
            if on_network is not None:
                on_network(len(found), len(points) * len(shares))
    return found


def choose(candidates: list[Candidate]) -> Choice:
    """Choose the candidate with the highest mutual information; the base where that is no gain beyond its error.

    Args:
        candidates: of `compare`; the first is the base.
    """
    base, best = candidates[0], best_of(candidates)
    gain, error = gain_of_choice([one.logits for one in candidates])
    return Choice(best if is_gain(gain, error) else base, gain, error, best)


def best_of(candidates: list[Candidate]) -> Candidate:
    """Return the candidate of the highest mutual information; one whose logits are not finite is the last choice."""
    return max(candidates, key=lambda one: one.information if math.isfinite(one.information) else -math.inf)
