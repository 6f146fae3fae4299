"""Makes the Fitness of an architecture on a data set: checks that they go together, chooses the head, prepares the examples."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from popgen.archs import ArchSpec, build, with_classes
from popgen.data import DataSet, Part
from popgen.data.classes import match_classes
from popgen.errors import BadInput, near_matches, unknown_name
from popgen.fitness.batch_norm import BatchNorm, checked
from popgen.fitness.candidate import Fitness
from popgen.fitness.sgd import SgdSteps
from popgen.networks.forward import network_features, network_outputs
from popgen.networks.train import check_task
from popgen.tasks import CLASSIFICATION
from popgen.types import Labels

HEADS = ("auto", "keep", "remap", "refit")


def make_fitness(
    spec: ArchSpec,
    data: DataSet,
    classes: tuple[str, ...],
    head: str = "auto",
    batch_norm: BatchNorm = "keep",
    split: str = "val",
    sgd: SgdSteps | None = None,
    groups: Labels | None = None,
) -> Fitness:
    """Check that the network and the data set go together, and prepare their examples.

    Args:
        classes: names of the network's outputs, () when unknown.
        head: `keep`; `remap` rows by class name; `refit` in closed form on the training split; `auto`: keep where the
            names are the same, remap where the network knows them all, refit otherwise.
        batch_norm: `keep`, `reestimate` or a share from 0 to 1 (see `Fitness.prefer_batch_norm` for `auto`).
        split: the split that candidates are scored on, `val` or `train`.
        sgd: steps of SGD before a candidate is scored; its weights are those after them.
        groups: the group, from 0, of each example of the split, for the measures of groups.

    Raises:
        BadInput: the test split, another task, more classes than outputs, class names that the network does not know, no head to
            refit.
    """
    batch_norm = checked(batch_norm)
    _check_choices(head, split)
    check_task(spec, data)
    spec = spec.for_classes(data.label_phrases)
    head = _choose_head(spec, data, classes) if head == "auto" else head
    _check_head(spec, data, head)
    rows = _rows_by_name(data, classes) if head == "remap" else ()
    other = head != "keep" and len(data.classes) != spec.config.classes
    finished = _other_classes(spec, len(data.classes)) if other else spec.with_own_head() if head == "refit" else spec
    parts: list[Part] = [data.train, getattr(data, split)]
    train, val = ((spec.config.inputs.prepare(part.inputs), part.targets) for part in parts)
    kept = "keep" if batch_norm == "auto" else batch_norm
    return Fitness(spec, finished, head, kept, rows, train, val, sgd, groups, left_out=data.is_left_out)


def _check_choices(head: str, split: str) -> None:
    if head not in HEADS:
        raise unknown_name("head", head, HEADS)
    if split not in ("val", "train", "test"):
        raise unknown_name("split", split, ("val", "train"))
    if split == "test":
        raise BadInput(
            f"candidates cannot be scored on the split {split!r}",
            "test data is used once, for the final table",
            "Use val.",
        )


def _check_head(spec: ArchSpec, data: DataSet, head: str) -> None:
    """Refuse a head that does not go with the network and the data set."""
    outputs, wanted = spec.config.classes, len(data.classes)
    if head == "keep" and wanted > outputs:
        raise BadInput(
            f"{data.name!r} has {wanted} classes, the head of {spec.name!r} has {outputs} outputs",
            "it cannot be kept",
            "Use --head refit.",
        )
    if head != "keep" and spec.config.task != CLASSIFICATION:
        raise BadInput(
            f"--head {head} is for classification, {spec.name!r} does {spec.config.task}",
            f"the classes of {data.name!r} are not those of the network, or another head was asked for",
            "Use --head keep, and data with the network's classes.",
        )
    if head != "keep" and not head_is_output(spec.with_own_head()):
        raise BadInput(
            f"the outputs of {spec.name!r} are not those of its last linear layer ({spec.head or 'it has none'})",
            f"--head {head} works on that layer",
            "Use --head keep.",
        )


@torch.no_grad()
def head_is_output(spec: ArchSpec) -> bool:
    """Whether the network's outputs are its head applied to what enters it; tried on random weights."""
    if not spec.head:
        return False
    flat = spec.to_flat(build(spec.config, seed=0).state_dict())
    inputs, state = spec.config.inputs.example(2), spec.to_state(flat)
    try:
        features = network_features(spec, flat, inputs)
    except BadInput:
        return False
    weight, bias = state[f"{spec.head}.weight"], state.get(f"{spec.head}.bias")
    outputs = network_outputs(spec, flat, inputs)
    return (
        features.shape == (2, weight.shape[1])
        and outputs.shape == (2, len(weight))
        and torch.allclose(outputs, F.linear(features, weight, bias), atol=1e-4)
    )


def _choose_head(spec: ArchSpec, data: DataSet, classes: tuple[str, ...]) -> str:
    if spec.with_own_head() is not spec:
        return "refit"
    rows = match_classes(data.classes, classes)
    if data.classes == classes or rows == list(range(len(classes))):
        return "keep"
    return "refit" if None in rows else "remap"


def _rows_by_name(data: DataSet, classes: tuple[str, ...]) -> tuple[int, ...]:
    rows = match_classes(data.classes, classes)
    missing = [name for name, row in zip(data.classes, rows, strict=True) if row is None]
    if missing:
        raise BadInput(
            f"{len(missing)} classes of {data.name!r} are unknown to the network: {', '.join(missing[:5])}",
            f"nearest known to {missing[0]!r}: {near_matches(missing[0], classes)}",
            "Use --head refit.",
        )
    return tuple(row for row in rows if row is not None)


def _other_classes(spec: ArchSpec, classes: int) -> ArchSpec:
    finished = ArchSpec.from_config(with_classes(spec.config, classes))
    shapes = {t.name: t.shape for t in finished.tensors}
    if shapes.get(f"{spec.head}.weight", (0,))[0] != classes:
        raise BadInput(
            f"the builder of {spec.name!r} has a fixed number of outputs ({spec.config.classes})",
            f"the data set has {classes} classes",
            "Give a builder whose options set the number of classes.",
        )
    return finished
