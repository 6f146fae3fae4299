"""From a vector of weights to a finished network and its loss: batch norm, the head, steps of SGD, the validation split.

A Fitness holds training and validation images only; test images never enter it. It is picklable, so that workers hold one.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from popgen.archs import ArchSpec, build
from popgen.archs.builders import with_classes
from popgen.data import DataSet, Part
from popgen.data.classes import match_classes
from popgen.errors import BadInput, near_matches, unknown_name
from popgen.fitness.heads import fit_ridge_head
from popgen.fitness.sgd import SgdSteps, take_steps
from popgen.networks.batchnorm import reestimate
from popgen.networks.forward import network_features, network_outputs
from popgen.networks.passes import Passes
from popgen.types import Flat, Images, Labels, StateDict
from popgen.weights.mask import Parts

HEADS = ("auto", "keep", "remap", "refit")
_TEMPERATURES = torch.logspace(-0.7, 0.7, 15)  # factors of the logits, 0.2 to 5
BATCH_NORMS = ("auto", "keep", "reestimate")


@dataclass(frozen=True)
class Score:
    """A finished network (weights of `spec`) with its loss, lower is better, and accuracy 0 to 1 on the validation split.

    `logits` (n, classes) are those of the validation images that were looked at, in the order of `labels`.
    """

    spec: ArchSpec
    flat: Tensor
    loss: float
    accuracy: float
    logits: Tensor
    labels: Labels
    groups: Labels | None = None  # of these images, where the data set has groups

    def state(self) -> StateDict:
        """A plain state dict."""
        return {name: tensor.clone() for name, tensor in self.spec.to_state(self.flat).items()}


@dataclass(frozen=True)
class Fitness:
    """How candidates of one architecture are finished and scored on one data set."""

    spec: ArchSpec  # of the candidates
    finished: ArchSpec  # of the results: another head where the number of classes differs
    head: str  # keep, remap or refit
    batch_norm: str  # keep or reestimate
    rows: tuple[int, ...]  # remap: the head's row for each class of the data set
    train: tuple[Images, Labels]  # prepared inputs
    val: tuple[Images, Labels]
    sgd: SgdSteps | None = None  # steps before a candidate is scored
    groups: Labels | None = None  # of the validation images
    parts: Parts | None = None  # of most candidates: what the others' tensors are, so that layers before need one pass

    def __getstate__(self) -> dict[str, Any]:
        """The fields, without what was computed from them; images as numpy arrays, which Ray's workers read in place."""
        state = {one.name: getattr(self, one.name) for one in fields(self)}
        return state | {name: tuple(one.numpy(force=True) for one in state[name]) for name in ("train", "val")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        arrays = {name: tuple(_in_place(one) for one in state[name]) for name in ("train", "val")}
        self.__dict__.update(state | arrays)

    @property
    def images(self) -> int:
        """How many images a loss is averaged over."""
        return len(self.val[1]) + (len(self.train[1]) if self.head == "refit" and self.sgd is None else 0)

    @property
    def cost(self) -> float:
        """Of one evaluation, in forward passes over the validation images: 1, and what steps of SGD cost.

        What re-estimation and a refitted head read is not counted: it is the same for every row of a table.
        """
        steps = 0 if self.sgd is None else self.sgd.passes(len(self.train[1]))
        return 1 + steps / len(self.val[1])

    @cached_property
    def racing_order(self) -> Tensor:
        """Row numbers of the validation images in an order whose every beginning holds the classes in their shares."""
        labels = self.val[1]
        place = torch.empty(len(labels), dtype=torch.float64)
        for label in labels.unique():
            rows = (labels == label).nonzero()[:, 0]
            place[rows] = (torch.arange(len(rows), dtype=torch.float64) + 0.5) / len(rows)
        return place.argsort(stable=True)

    @torch.no_grad()
    def score(self, flat: Tensor) -> Score:
        """Finish the network with weights `flat` (p,) and score it.

        The loss is that of `classification_loss`. With a refitted head it is taken over validation images and, left out
        one by one, training images, because a head fitted to few examples flatters its own validation score. After steps
        of SGD, of the whole network from the refitted head, nothing is left out any more: validation images alone count.
        """
        flat, loo_loss = self._finish(flat)
        logits = self._on_val.outputs(flat)
        return self._scored(flat, logits, torch.arange(len(logits)), loo_loss)

    @torch.no_grad()
    def score_many(self, weights: Flat) -> list[Score]:
        """`score` of each of the weights (n, p); in one pass where the networks need no finishing of their own."""
        if self.head == "refit" or self.batch_norm == "reestimate" or self.sgd is not None:
            return [self.score(flat) for flat in weights]
        finished = torch.stack([self._finish(flat)[0] for flat in weights])
        logits = self._on_val.outputs_of_many(finished)
        rows = torch.arange(logits.shape[1])
        return [self._scored(flat, one, rows, None) for flat, one in zip(finished, logits, strict=True)]

    def to(self, device: str) -> Fitness:
        """The same on another device."""
        train, val = ((images.to(device), labels.to(device)) for images, labels in (self.train, self.val))
        parts = None if self.parts is None else self.parts.to(device)
        groups = None if self.groups is None else self.groups.to(device)
        return replace(self, train=train, val=val, parts=parts, groups=groups)

    @torch.no_grad()
    def look(self, flat: Tensor, shares: Sequence[float], before: Tensor | None = None) -> Score:
        """Finish and score on the first `shares[-1]` of the validation images in `racing_order`.

        `shares` grow. The outputs are computed share by share, so that they are the same to the last digit whether
        `before`, the logits of an earlier look at fewer images, is there or not.
        """
        flat, loo_loss = self._finish(flat)
        order, parts = self.racing_order, [] if before is None else [before]
        seen = 0 if before is None else len(before)
        for share in shares:
            end = math.ceil(share * len(order))
            if end > seen:
                parts.append(self._on_racing.outputs(flat, seen, end))
                seen = end
        return self._scored(flat, torch.cat(parts), order[:seen], loo_loss)

    @property
    def evaluation(self) -> str:
        """How networks are run (see `popgen.networks.fast`)."""
        return self._on_val.text

    @cached_property
    def _on_train(self) -> Passes:
        return self._passes(self.spec, self.train[0])

    @cached_property
    def _on_val(self) -> Passes:
        return self._passes(self.finished, self.val[0])

    @cached_property
    def _on_racing(self) -> Passes:
        return self._passes(self.finished, self.val[0][self.racing_order])

    def _passes(self, spec: ArchSpec, inputs: Images) -> Passes:
        fixed = None if self.parts is None else self.parts.fixed(self.spec)
        return Passes(spec, inputs, fixed, bfloat16=inputs.is_cuda and torch.cuda.is_bf16_supported())

    def _finish(self, flat: Tensor) -> tuple[Tensor, float | None]:
        """The finished weights, and the leave-one-out loss of a head that is as it was refitted."""
        flat, loo_loss = self._repaired(flat)
        if self.sgd is None:
            return flat, loo_loss
        return take_steps(self.finished, flat, *self.train, self.sgd), None

    def _repaired(self, flat: Tensor) -> tuple[Tensor, float | None]:
        """The weights with their batch norm and their head; a refitted head's leave-one-out loss."""
        if self.batch_norm == "reestimate":
            flat = reestimate(self.spec, flat, self.train[0])
        if self.head == "refit":
            features = self._on_train.features(flat)
            classes, intercept = self.finished.config.classes, _has_bias(self.spec)
            head = fit_ridge_head(features, self.train[1], classes, intercept)
            return self._with_head(flat, head.weight, head.bias), head.loss + 1 - head.accuracy
        if self.head == "remap":
            state = self.spec.to_state(flat)
            rows, bias = list(self.rows), state.get(f"{self.spec.head}.bias", torch.zeros(self.spec.config.classes))
            return self._with_head(flat, state[f"{self.spec.head}.weight"][rows], bias[rows]), None
        return flat, None

    def _scored(self, flat: Tensor, logits: Tensor, rows: Tensor, loo_loss: float | None) -> Score:
        """`rows`: of the validation images that the logits belong to."""
        labels = self.val[1][rows]
        loss = classification_loss(logits, labels)
        if loo_loss is not None:
            n_val, n_train = len(labels), len(self.train[1])
            loss = (n_val * loss + n_train * loo_loss) / (n_val + n_train)
        accuracy = float((logits.argmax(1) == labels).float().mean())
        groups = None if self.groups is None else self.groups[rows]
        return Score(self.finished, flat, loss, accuracy, logits, labels, groups)

    def _with_head(self, flat: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        state = {**self.spec.to_state(flat), f"{self.spec.head}.weight": weight, f"{self.spec.head}.bias": bias}
        return self.finished.to_flat(state)  # which leaves the bias out where the head has none

    def prefer_batch_norm(self, flat: Tensor) -> Fitness:
        """The Fitness with the batch-norm treatment that gives these weights the lower loss; keep where there is none."""
        options = [replace(self, batch_norm=name) for name in ("keep", "reestimate")]
        if not self.spec.has_batch_norm:
            return options[0]
        losses = [option.score(flat).loss for option in options]
        return options[int(np.nan_to_num(losses, nan=np.inf).argmin())]


def _in_place(array: np.ndarray) -> Tensor:
    """A tensor of the same memory, which nobody writes to: read-only where it belongs to Ray's store."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array)


def classification_loss(logits: Tensor, labels: Labels) -> float:
    """Cross-entropy at the best temperature, plus the share of errors; lower is better.

    Generated networks are often right and overconfident. Plain cross-entropy then rewards candidates that are less
    confident, not better: with it a search of the residual net on the held-out rotations of the digits ended at .945
    accuracy (on images that it did not see), with this at .962; over four architectures at .947 and .952.

    >>> classification_loss(torch.tensor([[9.0, 0.0], [9.0, 0.0]]), torch.tensor([0, 0])) < 0.01
    True
    """
    cross_entropy = min(float(F.cross_entropy(logits * factor, labels)) for factor in _TEMPERATURES)
    return cross_entropy + float((logits.argmax(1) != labels).float().mean())


def make_fitness(
    spec: ArchSpec,
    data: DataSet,
    classes: tuple[str, ...],
    head: str = "auto",
    batch_norm: str = "keep",
    split: str = "val",
    sgd: SgdSteps | None = None,
    groups: Labels | None = None,
) -> Fitness:
    """Check that the network and the data set go together, and prepare their images.

    Args:
        classes: names of the network's outputs, () when unknown.
        head: `keep`; `remap` rows by class name; `refit` in closed form on the training split; `auto`: keep where the
            names are the same, remap where the network knows them all, refit otherwise.
        batch_norm: `keep` or `reestimate` (see `Fitness.prefer_batch_norm` for `auto`).
        split: the split that candidates are scored on, `val` or `train`.
        sgd: steps of SGD before a candidate is scored; its weights are those after them.
        groups: the group, from 0, of each image of the split, for `worst_group_error`.

    Raises:
        BadInput: the test split, more classes than outputs, class names that the network does not know, no head to refit.
    """
    for option, value, known in (("head", head, HEADS), ("batch_norm", batch_norm, BATCH_NORMS)):
        if value not in known:
            raise unknown_name(option.replace("_", "-"), value, known)
    if split not in ("val", "train", "test"):
        raise unknown_name("split", split, ("val", "train"))
    if split == "test":
        raise BadInput(
            f"candidates cannot be scored on the split {split!r}",
            "test data is used once, for the final table",
            "Use val.",
        )
    head = _choose_head(data, classes) if head == "auto" else head
    outputs, wanted = spec.config.classes, len(data.classes)
    rows: tuple[int, ...] = ()
    finished = spec
    if head == "keep" and wanted > outputs:
        raise BadInput(
            f"{data.name!r} has {wanted} classes, the head of {spec.name!r} has {outputs} outputs",
            "it cannot be kept",
            "Use --head refit.",
        )
    if head != "keep" and not _head_is_output(spec):
        raise BadInput(
            f"the outputs of {spec.name!r} are not those of its last linear layer ({spec.head or 'it has none'})",
            f"--head {head} works on that layer",
            "Use --head keep.",
        )
    if head == "remap":
        rows = _rows_by_name(data, classes)
    if head != "keep" and wanted != outputs:
        finished = _other_classes(spec, wanted)
    parts: list[Part] = [data.train, getattr(data, split)]
    train, val = ((spec.config.inputs.prepare(part.inputs), part.targets) for part in parts)
    kept = "keep" if batch_norm == "auto" else batch_norm
    return Fitness(spec, finished, head, kept, rows, train, val, sgd, groups)


def _has_bias(spec: ArchSpec) -> bool:
    return any(t.name == f"{spec.head}.bias" for t in spec.tensors)


@torch.no_grad()
def _head_is_output(spec: ArchSpec) -> bool:
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


def _choose_head(data: DataSet, classes: tuple[str, ...]) -> str:
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
