"""A mixture's start: the best merge of its experts by validation, where one is better than the best expert or was asked for.

All that they take counts in the search's budget, so that merges together stay below a fixed cost unless they are asked for by name. The limit
does not depend on the budget: a run that goes on with a larger one equals a run that had it from the beginning. Merged networks are kept in
the run's folder.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from popgen.baselines.merges import IMAGES, Merger
from popgen.baselines.rivals import Merge
from popgen.data import load_data
from popgen.data.load import is_local
from popgen.errors import BrokenFile, PopgenError, brief
from popgen.files import write_tensors
from popgen.fitness import scores_under
from popgen.fitness.batch_norm import BatchNorm
from popgen.jobs.searching.decide import SpaceDecision, TriedMerge
from popgen.merging import METHODS
from popgen.zoo import Checkpoint, Zoo

MOST = 50.0  # evaluations that merges may take together where none was asked for


def with_merges(
    decision: SpaceDecision,
    merger: Merger,
    methods: Sequence[str] | None,
    batch_norms: Sequence[BatchNorm],
    say: Callable[[str], None],
) -> SpaceDecision:
    """The decision with the merges that were tried, and with the best as the start and its treatment of batch norm.

    Args:
        methods: those that are tried, of which the best is the start; None: all, up to the cost MOST, and the best expert.
        batch_norms: the treatments of batch norm that are open.
    """
    arch, left = merger.fitness.spec.name, MOST if methods is None else math.inf
    options = [decision.batch_norm] if merger.fitness.label_free else batch_norms
    best, start, batch_norm, spent = math.inf, None, decision.batch_norm, 0.0
    if methods is None:
        best, spent = _best_of(merger, merger.experts[0], options)[0], _cost(merger, options)
    tried: dict[str, TriedMerge] = {}
    for method in sorted(METHODS, key=merger.expected_cost) if methods is None else methods:
        expected = merger.expected_cost(method)
        if why := merger.why_not(method):
            say(f"{arch}: no merge by {method}: {why}")
        elif expected > left:
            say(
                f"{arch}: {method} is no start: it would take about {expected:.0f} evaluations, and merges may take {left:.0f} more; "
                f"--merges {method} starts from it"
            )
        elif made := merger.merge(method):
            loss, chosen = _best_of(merger, made.weights, options)
            cost = made.cost + _cost(merger, options)
            left, spent = left - cost, spent + cost
            tried[method] = TriedMerge(
                loss=loss if math.isfinite(loss) else None, cost=round(made.cost, 3), text=made.text
            )
            if loss < best:
                best, start, batch_norm = loss, method, chosen
    total = decision.spent + math.ceil(spent / merger.fitness.cost)
    return decision.model_copy(update={"merges": tried, "start": start, "batch_norm": batch_norm, "spent": total})


def affordable(merger: Merger) -> tuple[list[str], list[str]]:
    """The methods whose merges cost up to MOST together, the cheapest first, with all that are made; and the others that could be made."""
    left, shown, dear = MOST, [], []
    for method in sorted(METHODS, key=merger.expected_cost):
        if merger.why_not(method) is not None:
            continue
        cost = merger.made[method].cost if method in merger.made else merger.expected_cost(method)
        if method in merger.made or cost <= left:
            shown.append(method)
            left -= cost
        else:
            dear.append(method)
    return [method for method in METHODS if method in shown], dear


def _best_of(merger: Merger, flat: Tensor, options: Sequence[BatchNorm]) -> tuple[float, BatchNorm]:
    """The lowest loss of a network (p,) under the treatments of batch norm, and that treatment."""
    losses = {name: one.finite_loss for name, one in scores_under(merger.fitness, flat, options).items()}
    best = min(losses, key=losses.__getitem__, default=options[0])
    return losses.get(best, math.inf), best


def _cost(merger: Merger, options: Sequence[BatchNorm]) -> float:
    """The cost of scoring a network under the treatments of batch norm; shares are not counted, as in `decide_space`."""
    return min(len(options), 2) * merger.fitness.cost


def write_merges(file: Path, merger: Merger) -> None:
    """Keep the merged networks."""
    write_tensors(file, {method: made.weights for method, made in merger.made.items()})


def read_merges(file: Path, decision: SpaceDecision) -> dict[str, Merge]:
    """The merged networks that an earlier session made.

    Raises:
        BrokenFile: they cannot be read.
    """
    if not decision.merges:
        return {}
    try:
        weights = load_file(file)
        return {method: Merge(weights[method], one.text, one.cost) for method, one in decision.merges.items()}
    except (OSError, SafetensorError, KeyError) as error:
        raise BrokenFile(f"{file} cannot be read", brief(error), "Start a new run.") from error


def base_of(zoo: Zoo, records: Sequence[Checkpoint]) -> Tensor | None:
    """The weights (p,) that all of these checkpoints were trained from, where the zoo knows them."""
    start, parents = zoo.start(records[0].arch), {record.parent for record in records}
    if start is not None:
        return start
    named = next(iter(parents))
    found = [one for one in zoo.select(arch=records[0].arch) if len(parents) == 1 and one.id == named]
    return zoo.matrix(found)[0] if found else None


def own_images(records: Sequence[Checkpoint], target: Tensor, data_dir: str | None, seed: int) -> list[Tensor]:
    """Prepared unlabelled training images of each checkpoint's own data, or of the target (n, ...) where these are not at hand."""

    def drawn(inputs: Tensor) -> Tensor:
        return inputs[torch.randperm(len(inputs), generator=torch.Generator().manual_seed(seed))[:IMAGES]]

    found = []
    for record in records:
        images = drawn(target)
        try:
            if is_local(record.data, data_dir):
                own = drawn(load_data(record.data, data_dir).train.inputs)
                prepared = record.arch_config.inputs.prepare(own)
                images = prepared if prepared.shape[1:] == target.shape[1:] else images
        except PopgenError:  # a name that this version does not know, or files that have changed
            pass
        found.append(images)
    return found
