"""The objective of a search: the loss of a latent's network, plus a penalty for latents that are far from the population.

An objective is picklable, so that workers hold one; with its first candidate it moves to the worker's device.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from popgen.errors import BadInput
from popgen.fitness.candidate import Fitness, Scored
from popgen.fitness.measures import measure
from popgen.generator.decoder import WeightDecoder
from popgen.networks.precision import has_bfloat16


@dataclass(frozen=True)
class LatentObjective:
    """Maps a flat latent to its loss; score and unpenalised loss come with it as metrics.

    A few hundred validation images do not determine the latent: a search that trusts them alone ends, for the residual
    net on the digits' held-out rotations, below the population that it started from. The loss is therefore that of a maximum a
    posteriori estimate: the prior of the best latent is normal around `centre` with standard deviation
    `width` in each coordinate, which adds |z - centre|^2 / (2 width^2 n) to a loss averaged over n images.
    """

    decoder: WeightDecoder
    fitness: Fitness
    centre: np.ndarray | None = None  # (k * d,); None leaves the penalty out
    width: float = 0.5  # standard deviation of the prior, in latent units
    measures: tuple[str, ...] = ()  # names of popgen.fitness.measures, returned beside the loss
    rungs: tuple[float, ...] = ()  # shares of the validation examples, below 1, at which a race calls `look`
    device: str = "cpu"
    bfloat16: bool = False  # candidates are run in bfloat16; `fitness` itself stays in float32, for whatever decides

    def prepare(self) -> None:
        """Refuse a worker whose processor is not made for the precision of the run; the engine calls it on each worker.

        Raises:
            BadInput: it would compute in bfloat16 by emulation, which is slow and may round in another way.
        """
        if self.bfloat16 and not has_bfloat16(self.device):
            raise BadInput(
                f"the run is in bfloat16, which this worker's {'CPU' if self.device == 'cpu' else 'GPU'} can only emulate: "
                "leave its node out, or start a run with --precision float32"
            )

    def __call__(self, vector: np.ndarray) -> tuple[float, dict[str, float]]:
        """The loss and the metrics of a latent (k * d,)."""
        decoder, fitness = self._on_device
        return self._result(vector, fitness.score(decoder.weights(vector)))

    def many(self, vectors: np.ndarray) -> list[tuple[float, dict[str, float]]]:
        """The loss and metrics of each of the latents (n, k * d), computed together."""
        decoder, fitness = self._on_device
        scores = fitness.score_many(decoder.weights_of_many(vectors))
        return [self._result(vector, score) for vector, score in zip(vectors, scores, strict=True)]

    def look(
        self, vector: np.ndarray, share: float, carry: np.ndarray | None
    ) -> tuple[float, dict[str, float], np.ndarray]:
        """The loss on a share of the validation examples, and their outputs for the next look."""
        shares = [rung for rung in (*self.rungs, 1.0) if rung <= share]
        decoder, fitness = self._on_device
        before = None if carry is None else torch.tensor(carry, device=self.device)
        scored = fitness.look(decoder.weights(vector), shares, before)
        return *self._result(vector, scored), scored.outputs.cpu().numpy()

    @cached_property
    def _on_device(self) -> tuple[WeightDecoder, Fitness]:
        """Decoder and fitness on the device, which only the worker has; they are moved when they are first needed."""
        fitness = replace(self.fitness, mask=getattr(self.decoder, "mask", None), bfloat16=self.bfloat16)
        if self.device == "cpu":
            return self.decoder, fitness
        return self.decoder.to(self.device), fitness.to(self.device)

    @property
    def evaluation(self) -> str:
        """The way networks are run, in words for people and records."""
        if self.device == "cpu":
            return self._on_device[1].evaluation
        return f"{replace(self.fitness, bfloat16=self.bfloat16).evaluation}; on a GPU in larger batches"

    def __getstate__(self) -> dict[str, Any]:
        """The fields, without what was computed from them."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    def penalty(self, vector: np.ndarray) -> float:
        """What is added to the loss of a latent (k * d,) for its distance from the centre."""
        if self.centre is None:
            return 0.0
        return float(np.square(vector - self.centre).sum()) / (2 * self.width**2 * self.fitness.examples)

    def _result(self, vector: np.ndarray, scored: Scored) -> tuple[float, dict[str, float]]:
        named = {name: measure(name, scored.outputs, scored.targets, scored.groups) for name in self.measures}
        key = "accuracy" if self.fitness.task.unit == "accuracy" else "score"
        return scored.loss + self.penalty(vector), {key: scored.score, "unpenalised_loss": scored.loss, **named}
