"""The loop that all stages share: gradients over micro-batches and workers, progress, logging, saving.

The random numbers of a step depend only on the seed, the stage and the step. A training that resumes at a saved step
therefore gives the same result as one that was not interrupted.
"""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from popgen.configs.generator import FlatConfig
from popgen.generator.training.log import Log
from popgen.generator.training.saved_progress import SavedProgress
from popgen.generator.training.stage import Stage, StageState
from popgen.generator.training.workers import Workers
from popgen.tasks import goodness

# Called with the stage, the step, the number of steps, and the smoothed losses.
OnStep = Callable[[str, int, int, dict[str, float]], None]
_CLIP = 1.0  # largest norm of a gradient
_SMOOTHING = 0.98  # decay of the running means of the losses
_LOG_EVERY = 50  # steps
_WATCHED = 20  # how often in a stage held-out checkpoints are reconstructed


@dataclass(frozen=True)
class Loop:
    """Runs stages.

    Attributes:
        accumulate: number of micro-batches in a step.
        save_every: seconds between two savings of an unfinished stage.
        flat: the rule by which a stage is cut short; None: each does all its steps.
    """

    seed: int
    accumulate: int
    save_every: float
    workers: Workers
    saved: SavedProgress
    log: Log
    on_step: OnStep
    flat: FlatConfig | None = None

    def run(self, name: str, make: Callable[[], Stage]) -> dict[str, float]:
        """Train a stage, resume it where it was interrupted, or load it if it is finished.

        Returns the smoothed losses at its end.
        """
        losses = self.saved.load_finished(name)
        if losses is not None:
            return losses
        torch.manual_seed(seed_of(self.seed, name))
        state = StageState(make(), self.flat)
        try:
            seconds = self._train(name, state)
        finally:
            self.log.close()
        if self.workers.is_first:
            self.saved.finish(name, state.smoothed, seconds, state.done)
        return state.smoothed

    def _train(self, name: str, state: StageState) -> float:
        """Do all remaining steps; returns the seconds of the stage, including those before an interruption."""
        stage, before = state.stage, 0.0
        began = saved = time.monotonic()
        found = self.saved.load_step(name)
        if found is not None:
            before = found["seconds"]
            state.load(found)
        if self.workers.is_first:
            self.log.go_on(name, state.position)
        watched: dict[str, float] = {}
        while (at := state.position) < stage.steps:
            self._step(name, state)
            done = state.position
            if _passes(at, done, max(1, stage.steps // _WATCHED)) or done == stage.steps:
                watched = self._watch(state)
            if not self.workers.is_first:
                continue
            now = time.monotonic()
            if _passes(at, done, _LOG_EVERY) or done == stage.steps:
                rate = float(state.schedule.get_last_lr()[0])
                figures = state.smoothed | watched | ({} if done == state.done else {"done": state.done})
                self.log.write(name, done, stage.steps, figures, rate, before + now - began)
            if now - saved >= self.save_every and done < stage.steps:
                saved = now
                self.saved.save_step(name, state.tensors(), state.facts(before + now - began))
            self.on_step(name, done, stage.steps, state.smoothed | watched)
        if state.average is not None:
            state.average.copy_to(stage.parameters)
        return before + time.monotonic() - began

    def _watch(self, state: StageState) -> dict[str, float]:
        """Return the figures of the stage's watch; every worker notes the first one's measure, by which all go on alike."""
        if state.stage.watch is None:
            return {}
        figures = state.stage.watch() if self.workers.is_first else {}
        if self.flat is not None:
            [[name, value]] = [*figures.items()][:1] or [("", math.nan)]
            own = torch.tensor([goodness(name.rpartition(" ")[2], value)], dtype=torch.float64)
            measure = float(self.workers.gather(own)[0])
            state.measures += [] if math.isnan(measure) else [measure]
        return figures

    def _step(self, stage_name: str, state: StageState) -> None:
        """Do one step of the optimizer: sum the gradients of this worker's micro-batches, then those of all workers."""
        stage = state.stage
        state.optimizer.zero_grad(set_to_none=True)
        seen: list[list[Tensor]] = [[] for _ in stage.statistics]
        values, names = [], list[str]()
        for micro_batch in self.workers.micro_batches(self.accumulate):
            torch.manual_seed(seed_of(self.seed, stage_name, state.done, micro_batch))
            with self.workers.autocast():
                losses = stage.losses(state.done)
            (torch.stack([x.float() for x in losses.values()]).sum() / self.accumulate).backward()
            names = list(losses)
            values.append(torch.stack([x.detach().float() for x in losses.values()]))
            for batches, statistics in zip(seen, stage.statistics, strict=True):
                batches += statistics.take_seen()
        self.workers.add_gradients(stage.parameters)
        torch.nn.utils.clip_grad_norm_(stage.parameters, _CLIP)
        state.optimizer.step()
        state.advance()
        if state.average is not None:
            state.average.step(stage.parameters)
        for batches, statistics in zip(seen, stage.statistics, strict=True):
            if batches:
                statistics.update(self.workers.gather(torch.stack(batches)))
        mean = self.workers.gather(torch.stack(values)).mean(0).tolist()
        for name, value in zip(names, mean, strict=True):
            state.smoothed[name] = _SMOOTHING * state.smoothed.get(name, value) + (1 - _SMOOTHING) * value


def _passes(before: int, after: int, every: int) -> bool:
    return after // every > before // every


def seed_of(*parts: object) -> int:
    """Return a seed of 32 bits that depends on all arguments, for example a run's seed, a stage and a step."""
    return zlib.crc32(" ".join(map(str, parts)).encode())
