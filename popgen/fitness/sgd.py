"""A few steps of SGD on training images before a network is scored: what it is worth a little later, not as it was born.

Momentum SGD on the mean loss of the task, no augmentation, its rate falling to zero along half a cosine. The batches are a
function of the seed and the size of the training split, so that all candidates see the same ones and are compared in pairs.
Gradients are clipped: a head refitted in closed form has so sharp a loss that plain steps at .01 throw it from .97 to .25
(cnn-s, inverted digits). Batch norm keeps the statistics that it has: a head fitted to them is worth little under others.
The search's coordinates stay those of the network before the steps, and the file that it writes holds the weights after
them: Baldwin's effect in the search, Lamarck's in the result (Hinton and Nowlan, How learning can guide evolution, 1987).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.networks.forward import skeleton
from popgen.networks.threads import threads
from popgen.tasks import get_task

_FORWARD_AND_BACKWARD = 3  # passes: the gradient costs about two forward passes


@dataclass(frozen=True)
class SgdSteps:
    """`steps` steps on batches of `batch` images at a first rate `lr`, gradients of a norm of at most `clip`."""

    steps: int
    lr: float = 0.01
    batch: int = 50
    momentum: float = 0.9
    clip: float = 1.0
    seed: int = 0  # of the order of the images

    def passes(self, images: int) -> int:
        """What the steps cost with so many training images, in forward passes of one image.

        >>> SgdSteps(steps=10, batch=50).passes(1000), SgdSteps(steps=10, batch=50).passes(20)
        (1500, 600)
        """
        return _FORWARD_AND_BACKWARD * self.steps * min(self.batch, images)

    def batches(self, images: int) -> Iterator[Tensor]:
        """Row numbers of each step's images: all once in a random order, then in another; a rest is left out."""
        generator, size = torch.Generator().manual_seed(self.seed), min(self.batch, images)
        left: list[Tensor] = []
        for _ in range(self.steps):
            if not left:
                left = list(torch.randperm(images, generator=generator)[: images // size * size].split(size))
            yield left.pop(0)


def take_steps(spec: ArchSpec, flat: Tensor, inputs: Tensor, targets: Tensor, sgd: SgdSteps) -> Tensor:
    """The weights (p,) after the steps, from `flat` (p,), on prepared inputs; the same to the last digit every time.

    >>> spec = ArchSpec.from_config("mlp-s")
    >>> flat = torch.zeros(spec.size)
    >>> take_steps(spec, flat, torch.ones(4, 1, 8, 8), torch.zeros(4, dtype=torch.long), SgdSteps(steps=1)).abs().max() > 0
    tensor(True)
    """
    net, task = copy.deepcopy(skeleton(spec)).to(flat.device), get_task(spec.config.task)
    net.load_state_dict(spec.to_state(flat))
    net.requires_grad_(True)
    parameters = list(net.parameters())
    optimizer = torch.optim.SGD(parameters, lr=sgd.lr, momentum=sgd.momentum)
    with threads(1), torch.enable_grad():
        for step, rows in enumerate(sgd.batches(len(targets))):
            optimizer.param_groups[0]["lr"] = sgd.lr * (1 + math.cos(math.pi * step / sgd.steps)) / 2
            optimizer.zero_grad()
            task.loss(net(inputs[rows]), targets[rows]).backward()
            torch.nn.utils.clip_grad_norm_(parameters, sgd.clip)
            optimizer.step()
    return spec.to_flat(net.state_dict())
