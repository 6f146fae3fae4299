"""The loop that all stages share: optimizer, schedule, gradients in parts and over workers, progress, and what is kept of it.

The random numbers of a step depend on the seed, the stage and the step alone. A training that goes on from a saved step is therefore
the training that was not interrupted.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from popgen.generator.training.log import Log
from popgen.generator.training.resume import Unfinished
from popgen.generator.training.workers import Workers

Report = Callable[[str, int, int, dict[str, float]], None]  # stage, step, steps, smoothed losses
_CLIP = 1.0  # largest norm of a gradient
_SMOOTH = 0.98
_LOG_EVERY = 50  # steps
_WATCHED = 20  # times a stage that held-out checkpoints are looked at


class Followed(Protocol):
    """Statistics that training follows. What the parts of a step saw is applied after it, in order and on every worker."""

    def take_seen(self) -> list[Tensor]:
        """What was seen since the last call, forgotten here."""

    def follow(self, seen: Tensor) -> None:
        """Apply it, in this order (n, ...)."""


@dataclass(frozen=True)
class Stage:
    """One stage of training: `losses(step)` is minimised by AdamW under a one-cycle schedule.

    Attributes:
        extra: modules of this stage alone, whose state is kept with the model's.
        followed: see Followed.
        ema: decay of the averaged parameters that are kept at the end; None: the last ones are.
        watched: whether the decoder changes, so that held-out checkpoints are looked at.
    """

    steps: int
    learning_rate: float
    parameters: Sequence[nn.Parameter]
    losses: Callable[[int], dict[str, Tensor]]
    extra: nn.Module = field(default_factory=nn.Module)
    followed: Sequence[Followed] = ()
    ema: float | None = None
    watched: bool = False


@dataclass(frozen=True)
class Loop:
    """Trains stages. `watch` gives figures on held-out checkpoints; it draws nothing that training would miss."""

    seed: int
    accumulate: int
    save_every: float  # seconds
    workers: Workers
    unfinished: Unfinished
    log: Log
    report: Report
    watch: Callable[[], dict[str, float]]

    def run(self, name: str, make: Callable[[], Stage]) -> dict[str, float]:
        """Train a stage, or go on where it was interrupted, or load what it left; returns the smoothed losses at its end."""
        done = self.unfinished.load_finished(name)
        if done is not None:
            return done
        torch.manual_seed(seed_of(self.seed, name))
        work = _Work(make())
        try:
            seconds = self._train(name, work)
        finally:
            self.log.close()
        if self.workers.is_first:
            self.unfinished.finish(name, work.smooth, seconds)
        return work.smooth

    def _train(self, name: str, work: _Work) -> float:
        """All steps that are still to be done; returns the seconds of the stage, those before an interruption included."""
        stage, first, before = work.stage, 0, 0.0
        began = saved = time.monotonic()
        found = self.unfinished.load_step(name)
        if found is not None:
            first, before = found["step"], found["seconds"]
            work.load(found)
        if self.workers.is_first:
            self.log.go_on(name, first)
        watched: dict[str, float] = {}
        for step in range(first, stage.steps):
            self._step(name, work, step)
            done = step + 1
            if not self.workers.is_first:
                continue
            if stage.watched and (done % max(1, stage.steps // _WATCHED) == 0 or done == stage.steps):
                watched = self.watch()
            now = time.monotonic()
            if done % _LOG_EVERY == 0 or done == stage.steps:
                rate = float(work.schedule.get_last_lr()[0])
                self.log.write(name, done, stage.steps, work.smooth | watched, rate, before + now - began)
            if now - saved >= self.save_every and done < stage.steps:
                saved = now
                self.unfinished.save_step(name, work.tensors(), work.facts(done, before + now - began))
            self.report(name, done, stage.steps, work.smooth | watched)
        if work.average is not None:
            work.average.copy_to(stage.parameters)
        return before + time.monotonic() - began

    def _step(self, stage_name: str, work: _Work, step: int) -> None:
        """One step of the optimizer: the gradients of all parts, summed over this worker's and then over workers."""
        stage = work.stage
        work.optimizer.zero_grad(set_to_none=True)
        seen: list[list[Tensor]] = [[] for _ in stage.followed]
        values, names = [], list[str]()
        for part in self.workers.parts(self.accumulate):
            torch.manual_seed(seed_of(self.seed, stage_name, step, part))
            with self.workers.autocast():
                losses = stage.losses(step)
            (torch.stack([x.float() for x in losses.values()]).sum() / self.accumulate).backward()
            names = list(losses)
            values.append(torch.stack([x.detach().float() for x in losses.values()]))
            for rows, followed in zip(seen, stage.followed, strict=True):
                rows += followed.take_seen()
        self.workers.add_gradients(stage.parameters)
        torch.nn.utils.clip_grad_norm_(stage.parameters, _CLIP)
        work.optimizer.step()
        work.schedule.step()
        if work.average is not None:
            work.average.step(stage.parameters)
        for rows, followed in zip(seen, stage.followed, strict=True):
            if rows:
                followed.follow(self.workers.gather(torch.stack(rows)))
        mean = self.workers.gather(torch.stack(values)).mean(0).tolist()
        for name, value in zip(names, mean, strict=True):
            work.smooth[name] = _SMOOTH * work.smooth.get(name, value) + (1 - _SMOOTH) * value


class _Work:
    """What a stage changes besides the model, as tensors and as facts for JSON."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.optimizer = torch.optim.AdamW(stage.parameters, lr=stage.learning_rate, weight_decay=1e-4)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, stage.learning_rate, total_steps=stage.steps + 1, pct_start=0.1
        )
        self.average = (
            None if stage.ema is None else EMAModel(stage.parameters, stage.ema, use_ema_warmup=True, power=0.75)
        )
        self.smooth: dict[str, float] = {}

    def tensors(self) -> dict[str, Tensor]:
        """The optimizer's moments, the averaged parameters, the stage's own modules."""
        found = {f"extra.{name}": tensor for name, tensor in self.stage.extra.state_dict().items()}
        for i, moments in self.optimizer.state_dict()["state"].items():
            found |= {f"optimizer.{i}.{name}": tensor for name, tensor in moments.items()}
        if self.average is not None:
            found |= {f"average.{i}": tensor for i, tensor in enumerate(self.average.shadow_params)}
        return found

    def facts(self, step: int, seconds: float) -> dict[str, Any]:
        """Steps done, and the numbers of optimizer, schedule and average."""
        return {
            "step": step,
            "seconds": seconds,
            "losses": self.smooth,
            "groups": self.optimizer.state_dict()["param_groups"],
            "schedule": self.schedule.state_dict(),
            "averaged": 0 if self.average is None else self.average.optimization_step,
        }

    def load(self, found: dict[str, Any]) -> None:
        """The inverse of both: facts, and the tensors under "tensors"."""
        tensors: dict[str, Tensor] = found["tensors"]
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            kind, _, rest = name.partition(".")
            if kind == "optimizer":
                i, _, leaf = rest.partition(".")
                moments.setdefault(int(i), {})[leaf] = tensor
        self.optimizer.load_state_dict({"state": moments, "param_groups": found["groups"]})
        self.schedule.load_state_dict(found["schedule"])
        self.smooth = dict(found["losses"])
        self.stage.extra.load_state_dict(
            {k.removeprefix("extra."): v for k, v in tensors.items() if k.startswith("extra.")}
        )
        if self.average is not None:
            self.average.optimization_step = found["averaged"]
            for place, shadow in enumerate(self.average.shadow_params):
                shadow.copy_(tensors[f"average.{place}"])


def seed_of(*parts: object) -> int:
    """A seed of 32 bits for the draws of, say, a run's seed, a stage, a step and a part of it."""
    return zlib.crc32(" ".join(map(str, parts)).encode())
