"""How far a condition is trusted where nobody knows its labels: what the generated networks say of unlabelled images decides.

A data set that is not of the family that a generator was trained on may look like one of its tasks and be another: photographs after
JPEG look clean, and what is right for clean images is not right for them. Embeddings have mean 0 over the data sets of
training, so one that is multiplied by a strength below 1 asks for a network between that of its own and that of
the average data set. Networks that fit a shift are sure of single images, and of different classes for different images:
their mutual information between image and answer is high (Bridle et al., Unsupervised classifiers, mutual information and
phantom targets, 1991; entropy as a criterion without labels: Morerio et al., arXiv 1711.10288). The strength is the one at which
it is highest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.networks.passes import Passes
from popgen.types import Images

CHOICES = (0.0, 0.25, 0.5, 0.75, 1.0)
_IMAGES = 1000


@dataclass(frozen=True)
class Strength:
    """The chosen strength, 0 to 1, and for each choice the mutual information of its network (nats)."""

    value: float
    information: dict[float, float]

    def text(self) -> str:
        """In words.

        >>> Strength(0.0, {0.0: 2.08, 1.0: 2.05}).text()
        'condition at strength 0, by its networks on unlabelled images (mutual information 0: 2.080, 1: 2.050)'
        """
        tried = ", ".join(f"{choice:g}: {value:.3f}" for choice, value in self.information.items())
        return (
            f"condition at strength {self.value:g}, by its networks on unlabelled images (mutual information {tried})"
        )


def choose_strength(spec: ArchSpec, images: Images, network: Callable[[float], Tensor], seed: int = 0) -> Strength:
    """The strength among CHOICES whose network has the highest mutual information; the first of equal ones.

    Args:
        images: (n, c, h, w) in [0, 1], of which 1,000 are looked at. Best the validation split's, without its labels: networks are sure of
            images that they, or what they were made from, were trained on.
        network: weights (p,) for a strength.
    """
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:_IMAGES]
    passes = Passes(spec, spec.config.inputs.prepare(images[order]))
    found = {choice: mutual_information(passes.outputs(network(choice))) for choice in CHOICES}
    return Strength(max(found, key=found.__getitem__), found)


def mutual_information(logits: Tensor) -> float:
    """Between image and answer, of logits (n, classes): entropy of the mean answer less mean entropy of the answers, in nats.

    >>> round(mutual_information(torch.tensor([[99.0, 0.0], [0.0, 99.0]])), 4), mutual_information(torch.zeros(3, 2))
    (0.6931, 0.0)
    """
    answers = logits.softmax(1)
    return float(_entropy(answers.mean(0)) - _entropy(answers).mean())


def _entropy(p: Tensor) -> Tensor:
    return torch.special.entr(p).sum(-1)
