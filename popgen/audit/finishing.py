"""The same batch-norm and head treatment for every network that is compared: generated, training checkpoint or control.

A published trap is a baseline without the batch-norm step that the generated networks get. Statistics and heads come from training images,
and where `auto` chooses the treatment, validation images decide for each network; test images have no part in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.data import DataSet
from popgen.fitness.finish import Unfinished, refitted_head
from popgen.networks.batchnorm import reestimate
from popgen.networks.passes import Passes
from popgen.tasks import get_task
from popgen.types import Flat

BatchNormChoice = Literal["auto", "keep", "reestimate"]
HeadChoice = Literal["keep", "ridge"]


@dataclass(frozen=True)
class Finishing:
    """One treatment for all networks of an architecture on a data set.

    Args:
        batch_norm: `auto` re-estimates the statistics where that lowers a network's validation loss.
        head: `ridge` fits the head in closed form to the training images.
    """

    spec: ArchSpec
    data: DataSet
    batch_norm: BatchNormChoice = "auto"
    head: HeadChoice = "keep"

    def finish(self, weights: Flat) -> Flat:
        """The weights (n, p) as they are evaluated."""
        rows = [self._one(flat) for flat in weights]
        return torch.stack(rows) if rows else weights

    @cached_property
    def _train(self) -> Tensor:
        return self.spec.config.inputs.prepare(self.data.train.inputs)

    @cached_property
    def _val(self) -> Passes:
        return Passes(self.spec, self.spec.config.inputs.prepare(self.data.val.inputs))

    @cached_property
    def _features(self) -> Passes:
        return Passes(self.spec, self._train)

    def _one(self, flat: Tensor) -> Tensor:
        if not flat.isfinite().all():
            return flat  # it is counted as wrong everywhere
        if self.spec.has_batch_norm and self.batch_norm != "keep":
            anew = reestimate(self.spec, flat, self._train)
            flat = anew if self.batch_norm == "reestimate" else min(flat, anew, key=self._val_loss)
        return self._with_ridge_head(flat) if self.head == "ridge" else flat

    def _val_loss(self, flat: Tensor) -> float:
        loss = get_task(self.spec.config.task).loss(self._val.outputs(flat), self.data.val.targets)
        return float(torch.nan_to_num(loss, nan=torch.inf))

    def _with_ridge_head(self, flat: Tensor) -> Tensor:
        features = self._features.features(flat)
        if not features.isfinite().all():
            return flat
        return refitted_head(self.spec, self.spec, self.data.train.targets, lambda _: features)(Unfinished(flat)).flat
