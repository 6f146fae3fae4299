"""The loop that all stages share: optimizer, schedule, gradient clipping, progress and the record of losses."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Report = Callable[[str, int, int, dict[str, float]], None]  # stage, step, steps, smoothed losses
_CLIP = 1.0  # largest norm of a gradient
_SMOOTH = 0.98


@dataclass(frozen=True)
class Stage:
    """One stage of training: its name, its number of steps, its highest learning rate."""

    name: str
    steps: int
    learning_rate: float

    def run(
        self,
        parameters: Iterable[nn.Parameter],
        losses: Callable[[int], dict[str, Tensor]],
        report: Report,
        after_step: Callable[[], None] | None = None,
    ) -> dict[str, float]:
        """Minimise the sum of `losses(step)` by AdamW under a one-cycle schedule; returns the smoothed losses at the end."""
        parameters = list(parameters)
        optimizer = torch.optim.AdamW(parameters, lr=self.learning_rate, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.learning_rate, total_steps=self.steps + 1, pct_start=0.1
        )
        smooth: dict[str, float] = {}
        for step in range(self.steps):
            parts = losses(step)
            total = torch.stack(list(parts.values())).sum()
            optimizer.zero_grad(set_to_none=True)
            total.backward()
            torch.nn.utils.clip_grad_norm_(parameters, _CLIP)
            optimizer.step()
            schedule.step()
            if after_step is not None:
                after_step()
            for name, part in parts.items():
                value = part.item()
                smooth[name] = _SMOOTH * smooth.get(name, value) + (1 - _SMOOTH) * value
            report(self.name, step + 1, self.steps, smooth)
        return smooth
