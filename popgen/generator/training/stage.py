"""A stage of training, and the state of its optimizer, which is saved and loaded with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn


class RunningStatistics(Protocol):
    """Statistics of the batches, such as running means, that are updated once after each step.

    The micro-batches of a step are computed on several workers. What they saw is gathered first, and every worker then
    applies all of it in the same order, so that all keep the same statistics.
    """

    def take_seen(self) -> list[Tensor]:
        """Return what was seen since the last call, one tensor for each batch, and forget it."""

    def update(self, seen: Tensor) -> None:
        """Update the statistics with the batches `seen` (n, ...), in their order."""


@dataclass(frozen=True)
class Stage:
    """One stage of training: `losses(step)` is minimised by AdamW under a one-cycle schedule.

    Attributes:
        extra: modules that only this stage uses; their state is saved with the model's.
        statistics: running statistics that are updated after each step.
        ema: decay of the averaged parameters (EMA) that are kept at the end; None: the last parameters are kept.
        watched: whether held-out checkpoints are reconstructed in between, because the decoder changes.
    """

    steps: int
    learning_rate: float
    parameters: Sequence[nn.Parameter]
    losses: Callable[[int], dict[str, Tensor]]
    extra: nn.Module = field(default_factory=nn.Module)
    statistics: Sequence[RunningStatistics] = ()
    ema: float | None = None
    watched: bool = False


class StageState:
    """Optimizer, schedule, averaged parameters and smoothed losses of a stage that runs."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.optimizer = torch.optim.AdamW(stage.parameters, lr=stage.learning_rate, weight_decay=1e-4, fused=True)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, stage.learning_rate, total_steps=stage.steps + 1, pct_start=0.1
        )
        self.average = (
            None if stage.ema is None else EMAModel(stage.parameters, stage.ema, use_ema_warmup=True, power=0.75, foreach=True)
        )
        self.smoothed: dict[str, float] = {}

    def tensors(self) -> dict[str, Tensor]:
        """Return the optimizer's moments, the averaged parameters, and the state of the stage's own modules."""
        found = {f"extra.{name}": tensor for name, tensor in self.stage.extra.state_dict().items()}
        for i, moments in self.optimizer.state_dict()["state"].items():
            found |= {f"optimizer.{i}.{name}": tensor for name, tensor in moments.items()}
        if self.average is not None:
            found |= {f"average.{i}": tensor for i, tensor in enumerate(self.average.shadow_params)}
        return found

    def facts(self, step: int, seconds: float) -> dict[str, Any]:
        """Return the number of finished steps, and all state that is no tensor, for JSON."""
        return {
            "step": step,
            "seconds": seconds,
            "losses": self.smoothed,
            "groups": self.optimizer.state_dict()["param_groups"],
            "schedule": self.schedule.state_dict(),
            "averaged": 0 if self.average is None else self.average.optimization_step,
        }

    def load(self, found: dict[str, Any]) -> None:
        """Load what `facts` returned, with what `tensors` returned under the key "tensors"."""
        tensors: dict[str, Tensor] = found["tensors"]
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            kind, _, rest = name.partition(".")
            if kind == "optimizer":
                i, _, leaf = rest.partition(".")
                moments.setdefault(int(i), {})[leaf] = tensor
        self.optimizer.load_state_dict({"state": moments, "param_groups": found["groups"]})
        self.schedule.load_state_dict(found["schedule"])
        self.smoothed = {name: math.nan if value is None else value for name, value in found["losses"].items()}
        self.stage.extra.load_state_dict(
            {k.removeprefix("extra."): v for k, v in tensors.items() if k.startswith("extra.")}
        )
        if self.average is not None:
            self.average.optimization_step = found["averaged"]
            for index, shadow in enumerate(self.average.shadow_params):
                shadow.copy_(tensors[f"average.{index}"])
