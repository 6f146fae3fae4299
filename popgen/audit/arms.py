"""Measures all arms of an audit on one data set: generated networks, references, held-out checkpoints and controls, on the same axes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.audit.controls import Control
from popgen.audit.finishing import Finishing
from popgen.audit.misclassified import is_own, largest_overlap, misclassified, similarities
from popgen.audit.space import Places
from popgen.audit.training import Training
from popgen.audit.verdict import Evidence, Measured
from popgen.data import DataSet, Part
from popgen.types import Flat

FROM_CHECKPOINTS = (
    "noise",
    "average",
    "aligned average",
)  # kinds of controls whose least amount is a checkpoint itself
_FEW, _MANY = (
    2,
    8,
)  # checkpoints with the most similar errors, whose unit order is tried: more of them for small networks
_MATCHED = 1_000_000  # parameters that are matched for one network, where that allows more than the fewest


@dataclass(frozen=True)
class Arm:
    """Networks of one kind: how accurate and how novel each is. All tuples have one entry a network."""

    name: str
    kind: str
    amount: float | None
    measured: Measured
    accuracy: Tensor  # (n,), test accuracy, 0 to 1
    overlap: Tensor  # (n,), largest similarity of the errors to a training checkpoint of another lineage
    spread: float  # mean scaled distance between two networks of the arm
    error_similarity: float  # mean similarity of the errors of two networks of the arm

    def means(self) -> dict[str, float | int | None]:
        """Mean and standard error over networks for tables and JSON; networks without finite weights have no place."""
        n, places = len(self.measured), self.measured.places
        error = float(self.accuracy.std(unbiased=True) / n**0.5) if n > 1 else None
        kept = places.nearest.isfinite()
        found = {name: _mean(getattr(places, name)[kept]) for name in ("nearest", "span", "anchor", "plain", "l2")}
        return {
            "networks": n,
            "finite": int(kept.sum()),
            "accuracy": float(self.accuracy.mean()),
            "accuracy_error": error,
            "overlap": float(self.overlap.mean()),
            **found,
            "spread": self.spread,
            "error_similarity": self.error_similarity,
        }


class Yardstick:
    """Measures networks of one architecture on one data set against its training checkpoints.

    Args:
        test: the test examples that networks are compared on.
    """

    def __init__(self, spec: ArchSpec, data: DataSet, test: Part, training: Training, finishing: Finishing) -> None:
        self.spec, self.data, self.training, self._finishing = spec, data, training, finishing
        self._inputs, self._targets = spec.config.inputs.prepare(test.inputs), test.targets

    @cached_property
    def training_wrong(self) -> Tensor:
        """Mask (m, images) of the images that each training checkpoint misclassifies."""
        return misclassified(self.spec, self._finished_training, self._inputs, self._targets)

    @cached_property
    def val_accuracy(self) -> Tensor:
        """Accuracy (m,) of each training checkpoint on the validation images."""
        val = self.data.val
        inputs = self.spec.config.inputs.prepare(val.inputs)
        return 1 - misclassified(self.spec, self._finished_training, inputs, val.targets).float().mean(1)

    @cached_property
    def _finished_training(self) -> Flat:
        return self._finishing.finish(self.training.weights)

    def _wrong(self, weights: Flat) -> Tensor:
        return misclassified(self.spec, self._finishing.finish(weights), self._inputs, self._targets)

    def arm(self, control: Control, lineages: Sequence[str | None] | None = None) -> Arm:
        """Measure networks.

        Args:
            lineages: of each network, which it is not compared with; None: outside of all lineages.
        """
        weights = control.draw()
        known = lineages or [None] * len(weights)
        wrong = self._wrong(weights)
        similarity = similarities(wrong, self.training_wrong)
        own = is_own(known, self.training.lineages)
        most = min(max(_MATCHED // self.spec.size, _FEW), _MANY)
        count = 0 if control.in_order else min(most, _fewest_others(own))
        likely = similarity.masked_fill(own, -1.0).topk(count, dim=1).indices
        finite = weights.isfinite().all(1)
        places = self._places(weights, likely, known, finite)
        pairs = similarities(wrong, wrong)
        n = len(weights)
        return Arm(
            control.name,
            control.kind,
            control.amount,
            Measured(wrong, places, tuple(known)),
            1 - wrong.float().mean(1),
            largest_overlap(similarity, own),
            self.training.space.spread(weights[finite]),
            float((pairs.sum() - pairs.diagonal().sum()) / (n * (n - 1))) if n > 1 else 1.0,
        )

    def _places(self, weights: Flat, likely: Tensor, known: Sequence[str | None], finite: Tensor) -> Places:
        rows = finite.nonzero().flatten()
        found = self.training.space.places(weights[rows], likely[rows], [known[i] for i in rows.tolist()])
        filled = []
        for name in ("nearest", "span", "anchor", "plain", "l2"):
            column = torch.full((len(weights),), torch.nan)
            column[rows] = getattr(found, name)
            filled.append(column)
        return Places(*filled)

    def evidence(self, generated: Arm, references: Arm, arms: Iterable[Arm]) -> Evidence:
        """What the rule of the verdict reads."""
        noise = [arm for arm in arms if arm.kind == "noise"]
        noise.sort(key=lambda arm: arm.amount or 0.0)
        return Evidence(
            generated.measured,
            references.measured,
            tuple(arm.measured for arm in noise),
            self.training_wrong,
            self.training.lineages,
            self.spec.config.classes,
            1 if self.training.one_lineage else len(set(references.measured.lineages)),
        )


def _fewest_others(own: Tensor) -> int:
    """The least number of training checkpoints of other lineages that any network has."""
    return int((~own).sum(1).min()) if len(own) else 0


def _mean(values: Tensor) -> float:
    return float(values.mean()) if len(values) else float("nan")


def at_equal(generated: Arm, references: Arm, arms: Sequence[Arm]) -> dict[str, dict[str, float | None]]:
    """What controls have at the accuracy and at the overlap of the generated networks.

    The amounts of a control, from the least, are points of a curve that is read where it first comes to the value; None: it
    never does. Noise of strength 0 and an average of one are checkpoints themselves: the references' accuracy, overlap 1.

    Returns:
        For each kind of control with several amounts: `overlap` at equal accuracy, and `accuracy` at equal overlap.
    """
    accuracy, overlap = _mean(generated.accuracy), _mean(generated.overlap)
    found = {}
    for kind in dict.fromkeys(arm.kind for arm in arms if arm.amount is not None):
        of_kind = sorted((arm for arm in arms if arm.kind == kind), key=lambda arm: arm.amount or 0.0)
        points = [(_mean(arm.accuracy), _mean(arm.overlap)) for arm in of_kind]
        if kind in FROM_CHECKPOINTS:
            points.insert(0, (_mean(references.accuracy), 1.0))
        swapped = [(y, x) for x, y in points]
        found[kind] = {"overlap": first_at(points, accuracy), "accuracy": first_at(swapped, overlap)}
    return found


def first_at(points: Sequence[tuple[float, float]], at: float) -> float | None:
    """Value y where the polygon through points (x, y), in their order, first has x = `at`; None if it never does.

    >>> first_at([(1.0, 0.0), (0.0, 1.0), (2.0, 5.0)], 0.25)
    0.75
    """
    for (x, y), (next_x, next_y) in pairwise(points):
        if min(x, next_x) <= at <= max(x, next_x):
            return y if x == next_x else y + (at - x) / (next_x - x) * (next_y - y)
    return None
