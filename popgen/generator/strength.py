"""Chooses the strength of a condition without labels, by the predictions of generated networks on images.

A data set from outside the family that a generator was trained on may have a misleading embedding: photographs after
JPEG compression look clean, but the networks for clean images are not right for them. Embeddings have mean 0 over the
training data sets, so an embedding that is multiplied by a strength below 1 asks for a network between that of the data
set and that of the average data set.

Networks that fit a data set are certain about single images, and predict different classes for different images: the
mutual information between image and prediction is high (Bridle et al., Unsupervised classifiers, mutual information and
phantom targets, 1991; entropy as a criterion without labels: Morerio et al., arXiv 1711.10288). The strength with the
highest mutual information is chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.networks.passes import Passes
from popgen.types import Images

CHOICES = (0.0, 0.25, 0.5, 0.75, 1.0)  # strengths that are compared
_IMAGES = 1000  # maximum number of images that the networks see


@dataclass(frozen=True)
class Strength:
    """The strength of a condition, and the mutual information by which it was chosen."""

    value: float  # 0 to 1
    information: dict[float, float]  # nats, for each of CHOICES; empty if the strength was given

    def text(self) -> str:
        """Return a line that tells the user how the strength was chosen.

        >>> Strength(0.0, {0.0: 2.08, 1.0: 2.05}).text()
        'condition at strength 0, by its networks on unlabelled images (mutual information 0: 2.080, 1: 2.050)'
        """
        tried = ", ".join(f"{choice:g}: {value:.3f}" for choice, value in self.information.items())
        return (
            f"condition at strength {self.value:g}, by its networks on unlabelled images (mutual information {tried})"
        )


def choose_strength(spec: ArchSpec, images: Images, network: Callable[[float], Tensor], seed: int = 0) -> Strength:
    """Return the strength among CHOICES whose network has the highest mutual information; the first of equal ones.

    Args:
        images: images (n, c, h, w) in [0, 1], of which at most 1,000 are used. They should be of the validation split:
            networks are certain about images that they, or the checkpoints behind them, were trained on.
        network: returns the weights (p,) for a strength.
    """
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:_IMAGES]
    passes = Passes(spec, spec.config.inputs.prepare(images[order]))
    found = {choice: mutual_information(passes.outputs(network(choice))) for choice in CHOICES}
    return Strength(max(found, key=found.__getitem__), found)


def mutual_information(logits: Tensor) -> float:
    """Return the mutual information between image and prediction, in nats, from logits (n, classes).

    It is the entropy of the mean prediction less the mean entropy of the predictions.

    >>> round(mutual_information(torch.tensor([[99.0, 0.0], [0.0, 99.0]])), 4), mutual_information(torch.zeros(3, 2))
    (0.6931, 0.0)
    """
    predictions = logits.softmax(1)
    return float(_entropy(predictions.mean(0)) - _entropy(predictions).mean())


def _entropy(p: Tensor) -> Tensor:
    """Return the entropies (...,) of distributions (..., classes), in nats."""
    return torch.special.entr(p).sum(-1)
