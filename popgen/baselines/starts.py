"""Other ways to fill an untrained architecture with weights: the rivals of a network that is generated for it.

random: a fresh network. weight_selection (Xu et al., ICLR 2024, arXiv 2311.18823): evenly spaced units of a larger trained
network, and the first layers of each kind. tile: each tensor of a trained network is repeated along its axes and cropped, as D2NWG
does for sizes that it was not trained on (arXiv 2402.18153). zoo_transplant: the transplant that the generator uses, applied to
the zoo's network instead of a generated one; the difference is what the generator adds.

The trained network is always the zoo's best by validation score on the closest data set that has one. Batch norm is kept or
re-estimated, whichever has the lower validation loss, for all starts alike, as it is for generated networks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.baselines.rivals import RivalInputs, random_weights, rival
from popgen.configs.spec import Recipe
from popgen.data import DataSet
from popgen.generator.unseen import Target
from popgen.networks.batchnorm import reestimate
from popgen.networks.forward import network_outputs, task_score
from popgen.networks.train import train_network
from popgen.tasks import get_task, score_key
from popgen.types import Flat
from popgen.weights.blocks import blocks_of, match_blocks
from popgen.weights.transplant import plan_transplant
from popgen.zoo import Checkpoint, Zoo

STARTS = ("random", "weight_selection", "tile", "zoo_transplant")


@dataclass(frozen=True)
class Start:
    """Weights (p,) to begin from, and their origin. Without weights `flat` is None, and `origin` says why."""

    name: str
    flat: Tensor | None
    origin: str


def make_starts(target: Target, zoo: Zoo | None, data: DataSet, closest: list[str], seed: int) -> list[Start]:
    """Make all of STARTS for an architecture. Where there is no zoo, those that need one have no weights and say why.

    Args:
        closest: the zoo's data sets, closest first.
        seed: draws the random start.
    """
    return [make_start(name, target, zoo, data, closest, seed) for name in STARTS]


def make_start(name: str, target: Target, zoo: Zoo | None, data: DataSet, closest: list[str], seed: int) -> Start:
    """One of STARTS for an architecture, with batch norm kept or re-estimated."""
    if name == "random":
        start = Start(name, random_weights(target.spec, seed), f"seed {seed}")
        return start if zoo is None else _with_batch_norm(start, target.spec, data)
    if zoo is None:
        return Start(name, None, "the zoo was not found")
    if name == "weight_selection":
        start = _weight_selection(zoo, smallest_larger(zoo, target.spec), target.spec, closest)
        return _with_batch_norm(start, target.spec, data)
    record = best_on_closest(zoo, target.source, closest)
    if record is None:
        return Start(name, None, f"the zoo has no {target.source}")
    flat, source = zoo.matrix([record])[0], zoo.spec(target.source)
    if name == "tile":
        flat = tile(source, target.spec, flat)
    elif target.transplant is not None:
        flat = target.transplant(flat[None])[0]
    return _with_batch_norm(Start(name, flat, record.id), target.spec, data)


def _candidates(name: str, given: RivalInputs) -> Iterator[Tensor]:
    """A start as a rival's only candidate."""
    assert given.target is not None, "starts are rivals of untrained architectures"
    start = make_start(name, given.target, given.zoo, given.data, list(given.closest), given.seed)
    if start.flat is not None:
        yield start.flat


UNTRAINED = tuple(f"start_{name}" for name in STARTS)  # the rivals of an architecture that no network of the zoo has
for _name in STARTS:
    rival(f"start_{_name}", row=_name)(partial(_candidates, _name))


def best_on_closest(zoo: Zoo, arch: str, closest: list[str]) -> Checkpoint | None:
    """The best network of an architecture, by validation score, on the closest data set that has one."""
    for name in closest:
        records = zoo.select(arch=arch, data=name, held_out=False)
        if records:
            return max(records, key=lambda record: record.goodness("val"))
    return None


def smallest_larger(zoo: Zoo, target: ArchSpec) -> str | None:
    """The zoo's smallest architecture that the target can be cut from: at least as deep and as wide everywhere, and larger."""
    found = []
    for name in zoo.archs:
        source = zoo.spec(name)
        matched, _ = match_blocks(blocks_of(source), blocks_of(target))
        pairs = list(zip(blocks_of(target), matched, strict=True))
        if source.config.builder != target.config.builder or any(old is None for _, old in pairs):
            continue
        shapes = [
            (t.shape, old.roles[r].shape) for b, old in pairs if old for r, t in b.roles.items() if r in old.roles
        ]
        fits = all(len(a) == len(b) and all(x <= y for x, y in zip(a, b, strict=True)) for a, b in shapes)
        if fits and source.size > target.size:
            found.append((source.size, name))
    return min(found)[1] if found else None


def _weight_selection(zoo: Zoo, larger: str | None, target: ArchSpec, closest: list[str]) -> Start:
    record = None if larger is None else best_on_closest(zoo, larger, closest)
    if larger is None or record is None:
        return Start("weight_selection", None, "the zoo has no network that is larger everywhere")
    flat = plan_transplant(zoo.spec(larger), target)(zoo.matrix([record]))[0]
    return Start("weight_selection", flat, record.id)


def tile(source: ArchSpec, target: ArchSpec, flat: Tensor) -> Tensor:
    """Weights (q,) of the target: each tensor repeated along its axes and cropped.

    Where the source has no such tensor, the last tensor before it of the same kind and number of axes is taken.

    >>> small, large = ArchSpec.from_config("mlp-s"), ArchSpec.from_config("mlp-s/hidden:96")
    >>> tile(small, large, torch.ones(small.size)).equal(torch.ones(large.size))
    True
    """
    state, parts = source.to_state(flat), []
    last: dict[tuple[str, int], Tensor] = {}
    matched, _ = match_blocks(blocks_of(source), blocks_of(target))
    for block, old in zip(blocks_of(target), matched, strict=True):
        for role, tensor in block.roles.items():
            key = (tensor.kind, len(tensor.shape))
            if old is not None and role in old.roles:
                last[key] = state[old.roles[role].name]
            elif key not in last:
                last[key] = next(
                    (state[t.name] for t in source.tensors if (t.kind, len(t.shape)) == key), torch.zeros(1)
                )
            parts.append((tensor.name, _repeated(last[key], tensor.shape)))
    return target.to_flat(dict(parts))


def _repeated(values: Tensor, shape: tuple[int, ...]) -> Tensor:
    values = values.view(*values.shape, *[1] * (len(shape) - values.dim()))
    for axis, size in enumerate(shape):
        values = values.index_select(axis, torch.arange(size) % values.shape[axis])
    return values


def _with_batch_norm(start: Start, spec: ArchSpec, data: DataSet) -> Start:
    if start.flat is None:
        return start
    return Start(start.name, repaired(spec, start.flat[None], data)[0], start.origin)


def repaired(spec: ArchSpec, weights: Flat, data: DataSet) -> Flat:
    """The weights (n, p), each with batch norm re-estimated on training images where that lowers the validation loss.

    Neither treatment is always right: re-estimation repairs sliced networks, and costs generated networks of a trained architecture
    11 points.
    """
    if not spec.has_batch_norm:
        return weights
    inputs = spec.config.inputs.prepare(data.train.inputs)
    both = [(flat, reestimate(spec, flat, inputs)) for flat in weights]
    return torch.stack([min(pair, key=lambda flat: _val_loss(spec, flat, data)) for pair in both])


def _val_loss(spec: ArchSpec, flat: Tensor, data: DataSet) -> float:
    outputs = network_outputs(spec, flat, spec.config.inputs.prepare(data.val.inputs))
    return float(torch.nan_to_num(get_task(spec.config.task).loss(outputs, data.val.targets), nan=torch.inf))


def trained_accuracy(spec: ArchSpec, flat: Tensor, data: DataSet, recipe: Recipe, epochs: int, seed: int) -> float:
    """Test score after so many epochs from these weights by the zoo's recipe, with its schedule over these epochs."""
    if epochs == 0:
        return task_score(spec, flat, data, "test")
    recipe, key = recipe.model_copy(update={"epochs": epochs}), score_key(get_task(spec.config.task).unit, "test")
    return train_network(spec, data, recipe, start=spec.to_state(flat), seed=seed)[1][key]
