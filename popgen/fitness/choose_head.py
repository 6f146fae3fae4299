"""Chooses between a head's own rows, sorted by the names of classes, and a fitted head: by held-out losses of some networks.

Names that agree do not make the same classes. Published ResNet20 for CIFAR-10 had .53 accuracy on other photographs of eight of
its classes with their own rows, and .71 with a head that was fitted to 2,920 of these.
"""

from __future__ import annotations

import math

from popgen.fitness.candidate import Fitness
from popgen.fitness.loss import image_losses
from popgen.types import Flat


def named_or_fitted(named: Fitness, fitted: Fitness, networks: Flat) -> tuple[Fitness, str]:
    """The Fitness whose head has the lower mean loss over networks (n, p) on the validation examples, and the reason in words.

    Where validation examples are those of training, each is left out of the fit in turn.
    """
    losses, scores = {}, {}
    for fitness in (named, fitted):
        scored = [fitness.score(flat) for flat in networks]
        means = [float(image_losses(one.outputs, one.targets).mean()) for one in scored]
        losses[fitness.head] = sum(mean if math.isfinite(mean) else math.inf for mean in means)
        scores[fitness.head] = sum(one.score for one in scored) / len(scored)
    chosen = min((named, fitted), key=lambda one: losses[one.head])
    of = "network" if len(networks) == 1 else f"{len(networks)} networks"
    return chosen, (
        f"head {chosen.head}: {of} of the zoo {'has' if len(networks) == 1 else 'have'} {scores[named.head]:.3f} accuracy with rows by class "
        f"name, {scores[fitted.head]:.3f} with a fitted head, on images that it was not fitted to (--head decides otherwise)"
    )
