"""Takes a few steps of SGD on training images before a network is scored, so that a search prefers networks that train well.

The steps are momentum SGD on the mean loss of the task, without augmentation; the learning rate falls to zero along half a cosine. The
batches depend on the seed and the size of the training split alone, so that all candidates see the same batches. Gradients are clipped,
because the loss of a head that was refitted in closed form is so sharp that plain steps at .01 take its accuracy from .97 to .25 (cnn-s,
inverted digits). Batch norm keeps its statistics, because a head that was fitted to them fails under others.
The search's coordinates stay those of the network before the steps, as in Baldwin's effect, while the file that it writes holds the weights
after them, as in Lamarck's (Hinton and Nowlan, How learning can guide evolution, 1987).
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

_FORWARD_AND_BACKWARD = 3  # cost of a training step in forward passes: the gradient costs about two


@dataclass(frozen=True)
class SgdSteps:
    """`steps` steps on batches of `batch` images, with a first learning rate `lr` and gradients clipped to the norm `clip`."""

    steps: int
    lr: float = 0.01
    batch: int = 50
    momentum: float = 0.9
    clip: float = 1.0
    seed: int = 0  # decides the order of the images

    def passes(self, images: int) -> int:
        """The cost of all steps with so many training images, in forward passes of one image.

        >>> SgdSteps(steps=10, batch=50).passes(1000), SgdSteps(steps=10, batch=50).passes(20)
        (1500, 600)
        """
        return _FORWARD_AND_BACKWARD * self.steps * min(self.batch, images)

    def batches(self, images: int) -> Iterator[Tensor]:
        """Indices of each step's images. Every image is used once before any is used again; images that fill no batch are left out."""
        generator, size = torch.Generator().manual_seed(self.seed), min(self.batch, images)
        left: list[Tensor] = []
        for _ in range(self.steps):
            if not left:
                left = list(torch.randperm(images, generator=generator)[: images // size * size].split(size))
            yield left.pop(0)


def take_steps(spec: ArchSpec, flat: Tensor, inputs: Tensor, targets: Tensor, sgd: SgdSteps) -> Tensor:
    """Take the steps from the weights `flat` (p,) on prepared inputs; returns the weights (p,), the same to the last digit each time.

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
