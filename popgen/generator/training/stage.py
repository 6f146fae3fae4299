"""A stage of training, and the state of its optimizer, which is saved and loaded with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from popgen.configs.generator import FlatConfig


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
        watch: returns figures on what is not trained on, the first of which says when the stage is flat, without drawing from
            torch's global random numbers. It is called 20 times; None: the stage has no such figures.
    """

    steps: int
    learning_rate: float
    parameters: Sequence[nn.Parameter]
    losses: Callable[[int], dict[str, Tensor]]
    extra: nn.Module = field(default_factory=nn.Module)
    statistics: Sequence[RunningStatistics] = ()
    ema: float | None = None
    watch: Callable[[], dict[str, float]] | None = None


class StageState:
    """Optimizer, schedule, averaged parameters and smoothed losses of a stage that runs.

    Attributes:
        position: steps of the schedule that are passed.
        done: steps of the optimizer that are done; fewer, once the stage is flat.
        measures: the held-out measures so far; a higher one is better.
    """

    def __init__(self, stage: Stage, flat: FlatConfig | None = None) -> None:
        self.stage, self._flat = stage, flat
        self.position, self.done, self.measures = 0, 0, list[float]()
        self.optimizer = torch.optim.AdamW(stage.parameters, lr=stage.learning_rate, weight_decay=1e-4, fused=True)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, stage.learning_rate, total_steps=stage.steps + 1, pct_start=0.1
        )
        self.average = (
            None
            if stage.ema is None
            else EMAModel(stage.parameters, stage.ema, use_ema_warmup=True, power=0.75, foreach=True)
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

    @property
    def is_flat(self) -> bool:
        """Whether at any time `patience` measures in a row were no more than `tolerance` above the last one that was."""
        best, waited = -math.inf, 0
        for measure in self.measures:
            gains = measure > best + (self._flat.tolerance if self._flat else 0)
            best, waited = (measure, 0) if gains else (best, waited + 1)
            if self._flat and waited >= self._flat.patience:
                return True
        return False

    def advance(self) -> None:
        """Pass one step of the schedule, or several once the stage is flat."""
        pace = self._flat.pace if self._flat is not None and self.is_flat else 1
        for _ in range(min(pace, self.stage.steps - self.position)):
            self.schedule.step()
            self.position += 1
        self.done += 1

    def facts(self, seconds: float) -> dict[str, Any]:
        """Return the steps so far, and all state that is no tensor, for JSON."""
        return {
            "step": self.position,
            "done": self.done,
            "measures": self.measures,
            "seconds": seconds,
            "losses": self.smoothed,
            "groups": self.optimizer.state_dict()["param_groups"],
            "schedule": self.schedule.state_dict(),
            "averaged": 0 if self.average is None else self.average.optimization_step,
        }

    def load(self, found: dict[str, Any]) -> None:
        """Load what `facts` returned, with what `tensors` returned under the key "tensors"."""
        tensors: dict[str, Tensor] = found["tensors"]
        self.position, self.done, self.measures = found["step"], found["done"], found["measures"]
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
