"""Networks of one architecture side by side, under one head, at the cost of all of them.

On photographs with a fitted head three were better than any of them (examples/results/few_labels.md). Where the head is kept and the others are
much worse, they pull the best down: on digits turned by 45 degrees .920 beside .972. With a fitted head it is fitted to the features of all members at once; else the outputs are the means of the members' outputs
(Lakshminarayanan et al., arXiv 1612.01474). Members are taken by their own losses: a greedy choice by the leave-one-out loss of the
whole was no better with 160 labels and 2 points worse with 40 (ResNet20, photographs of other classes).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.archs.families.ensemble import ensemble_config, joined_state
from popgen.baselines.rivals import RivalInputs
from popgen.fitness import Fitness, Scored, scores_of
from popgen.fitness.loss import image_losses


def strongest(
    given: RivalInputs, beside: Scored, count: int, found: Mapping[str, Scored]
) -> tuple[list[Scored], list[str]]:
    """A network and the best others by validation loss, finished: `count` in all where there are so many; with the others' names.

    Args:
        found: further searches' best, by name; the zoo's networks are named by their ids.
    """
    named: list[tuple[str, Scored]] = [*found.items()]
    for i in given.ranked if given.records else []:
        if len(named) - len(found) == count:
            break
        scored = scores_of(given.fitness, [given.weights[i]])
        if scored and not any(torch.equal(scored[0].flat, one.flat) for one in (beside, *(one for _, one in named))):
            named.append((given.records[i].id, scored[0]))
    named = sorted(named, key=lambda one: one[1].finite_loss)[: count - 1]
    return [beside, *(scored for _, scored in named)], [name for name, _ in named]


def mean_of(members: Sequence[Scored], fitness: Fitness) -> Scored:
    """The ensemble of networks that were scored on the same examples, whose outputs are the means of theirs."""
    whole, flat = _joined(members)
    outputs, targets = torch.stack([member.outputs for member in members]).mean(0), members[0].targets
    loss = float(image_losses(outputs, targets).mean())
    return Scored(whole, flat, loss, float(fitness.task.score(outputs, targets)), outputs, targets)


def side_by_side(members: Sequence[Scored], fitness: Fitness) -> Scored:
    """The ensemble of finished networks, scored as `fitness` scores each of them."""
    whole, flat = _joined(members)
    own = fitness.as_finished()
    head = "refit" if fitness.head == "refit" else "keep"
    return replace(own, spec=whole, finished=whole, head=head, mask=None).score(flat)


def _joined(members: Sequence[Scored]) -> tuple[ArchSpec, Tensor]:
    """The architecture and the weights (p,) of the ensemble whose outputs are the means of its members'."""
    [spec] = {member.spec for member in members}
    whole = ArchSpec.from_config(ensemble_config(spec.config, spec.head, len(members)))
    return whole, whole.to_flat(joined_state([member.state() for member in members], spec.head))
