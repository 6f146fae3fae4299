"""Decides how a search around a zoo's experts moves: mixtures of those that mix with the best, else low-rank steps from it.

Two networks mix where the loss at their midpoint, batch norm re-estimated, is hardly above that at the ends. All of this is evaluations,
which count in the budget, but for the shares of batch norm between keep and re-estimate: at most six, which a budget does not notice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from popgen.configs.load import parse
from popgen.configs.search import SearchConfig
from popgen.errors import BadInput, BrokenFile, brief
from popgen.fitness import Fitness, scores_under
from popgen.fitness.batch_norm import BatchNorm, most_informative
from popgen.jobs.searching.checks import ArchSearch
from popgen.json_text import known_numbers, parse_json
from popgen.types import Flat
from popgen.zoo import Checkpoint, Zoo

# The share of the way from the ends' loss to that of guessing, up to which two networks mix. Midpoints of independent ResNet20, aligned
# by images, are at .40 to .44 on imagenet32. The midpoint of one lineage of ResNet56 has .91 accuracy on CIFAR-10, its ends .94.
MIXES = 0.1
Align = Callable[[list[str]], Flat]  # ids of checkpoints to their weights (n, p), aligned with the best


class TriedMerge(BaseModel):
    """A merge that a mixture could start from."""

    model_config = ConfigDict(extra="forbid")

    loss: float | None  # validation loss; None where it is not finite
    cost: float  # evaluations, without that of scoring it
    text: str  # how it was made


class SpaceDecision(BaseModel):
    """The decisions before a search around experts; they are kept in the run's folder."""

    model_config = ConfigDict(extra="forbid")

    space: Literal["mix", "principal", "low-rank"]
    reason: str
    experts: list[str] = Field(min_length=1)  # ids, the base first
    batch_norm: BatchNorm
    spent: int  # evaluations
    # The validation loss of every checkpoint alone, by id; None where it is not finite.
    losses: dict[str, float | None]
    merges: dict[str, TriedMerge] = {}  # by method
    start: str | None = None  # the method of the merge that a mixture starts from; None: it starts from the best expert
    barriers: dict[str, float] = {}  # barrier between each expert and the base: 0 is the ends' loss, 1 that of guessing


def decide_space(
    zoo: Zoo,
    records: Sequence[Checkpoint],
    one: ArchSearch,
    config: SearchConfig,
    batch_norms: Sequence[BatchNorm],
    align: Align,
) -> SpaceDecision:
    """Rank the checkpoints, measure which mix with the best, and choose the space and the treatment of batch norm.

    Args:
        batch_norms: the treatments of batch norm that are open: that of the fitness, and behind it re-estimation and its shares.

    Raises:
        BadInput: `--space mix` or `principal` with one expert, or no checkpoint has a finite loss.
    """
    keep = one.fitness
    networks = zip(records, zoo.matrix(list(records)), strict=True)
    losses = {record.id: keep.loss_of(flat) for record, flat in networks}
    ranked = rank(losses)[: max(config.few_experts, 1)]
    if not ranked:
        raise BadInput(
            f"none of the {len(records)} networks of {one.arch!r} in the zoo {zoo.folder} has a finite loss on {one.data.name!r}",
            "their outputs are not numbers",
            "Check --mean and --std of their import, and that the files are whole.",
        )
    if config.space in ("mix", "principal") and len(ranked) < 2:
        raise BadInput(
            f"--space {config.space} has one expert of {one.arch!r} to mix",
            f"the zoo {zoo.folder} has {len(records)}, and --experts is {config.few_experts}",
            "Use --space low-rank, or a zoo with more of them.",
        )
    barriers: dict[str, float] = {}
    if config.space not in ("low-rank", "principal"):
        classes, mixed = len(one.data.classes), replace(keep, batch_norm=batch_norms[:2][-1])
        barriers = {i: barrier(ranked[0], i, losses, mixed, align, classes) for i in ranked[1:]}
    space, reason, experts = _choose(config.space, ranked, barriers)
    batch_norm, tried = keep.batch_norm, 0
    if len(batch_norms) > 1:
        batch_norm, tried = _choose_batch_norm(experts, keep, batch_norms, align)
    return SpaceDecision(
        space=space,
        reason=reason,
        experts=experts,
        batch_norm=batch_norm,
        spent=len(losses) + len(barriers) + tried,
        losses=known_numbers(losses),
        barriers=barriers,
    )


def rank(losses: Mapping[str, float | None]) -> list[str]:
    """The ids of the checkpoints with a finite loss, best first.

    >>> rank({"a": 2.0, "b": math.inf, "c": 1.0, "d": None})
    ['c', 'a']
    """
    finite = {i: loss for i, loss in losses.items() if loss is not None and math.isfinite(loss)}
    return sorted(finite, key=finite.__getitem__)


def barrier(base: str, other: str, losses: dict[str, float], fitness: Fitness, align: Align, classes: int) -> float:
    """Loss of the midpoint on a scale where 0 is the mean loss of both ends, and 1 that of guessing."""
    ends = (losses[base] + losses[other]) / 2
    # The loss of a uniform answer, whose errors count where `search_loss` counts them.
    is_left_out = fitness.left_out and fitness.head == "refit"
    guessing = math.log(classes) + (0 if is_left_out else 1 - 1 / classes)
    if fitness.label_free:
        guessing = math.log(fitness.finished.config.classes)  # the same in `information_loss`
    middle = fitness.loss_of(align([base, other]).mean(0))
    if not math.isfinite(middle) or not ends < guessing:
        return 0.0 if middle <= ends else 1.0
    return (middle - ends) / (guessing - ends)


def read_decision(file: Path) -> SpaceDecision:
    """The decision that an earlier session wrote.

    Raises:
        BrokenFile: it is not what popgen wrote.
    """
    try:
        content = parse_json(file.read_text())
    except (OSError, ValueError) as error:
        raise BrokenFile(f"{file} cannot be read", brief(error), "Start a new run.") from error
    return parse(content, SpaceDecision, str(file))


def _choose(
    wanted: str | None, ranked: list[str], barriers: dict[str, float]
) -> tuple[Literal["mix", "principal", "low-rank"], str, list[str]]:
    """The space, the reason, and the experts in it."""
    if wanted == "mix":
        return "mix", "it was asked for", ranked
    if wanted == "principal":
        return "principal", "it was asked for", ranked
    if wanted == "low-rank":
        return "low-rank", "it was asked for", ranked[:1]
    experts = [ranked[0], *(i for i, height in barriers.items() if height <= MIXES)]
    measured = ", ".join(f"{height:.2f}" for height in barriers.values())
    how = f"midpoints with the best expert are at {measured} of the way to guessing (up to {MIXES} mixes)"
    if len(experts) > 1:
        return "mix", f"{len(experts)} experts mix: {how}", experts
    if not barriers:
        return "low-rank", "there is one expert", experts
    return "low-rank", f"no other expert mixes with the best: {how}", experts


def _choose_batch_norm(
    experts: list[str], fitness: Fitness, batch_norms: Sequence[BatchNorm], align: Align
) -> tuple[BatchNorm, int]:
    """The treatment of batch norm with the lowest loss of the base or of the experts' mean, and the evaluations that count."""
    networks = [align(experts[:1])[0]]
    if len(experts) > 1:
        networks.append(align(experts).mean(0))
    tried = [scores_under(fitness, flat, batch_norms) for flat in networks]
    losses = [(one.finite_loss, i, name) for i, scored in enumerate(tried) for name, one in scored.items()]
    counted = 2 * len(networks) - 1  # kept and re-estimated; the base was ranked as it is
    _, best, name = min(losses, key=lambda one: one[0])
    if fitness.label_free:
        name = most_informative({option: one.outputs for option, one in tried[best].items()}).treatment
    return name, counted
