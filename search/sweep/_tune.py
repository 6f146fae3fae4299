"""The parts of a sweep that Ray Tune runs: the trial's actor, a callback that counts trials, and silence."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from typing import Any, TextIO

import ray
from ray import tune

from ..errors import RunLocked

# Longest wait of a trial for its history: its former process, on a node that is being lost, may still have it locked.
LOCKED_SECONDS = 60.0
_QUIET = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # no CSV, JSON and TensorBoard files for every trial
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the sweep at once, without waiting for the running trials
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths mean the same in trials as in the calling process
    "RAY_AIR_NEW_OUTPUT": "0",  # the new output prints tables even with verbose=0
}

Trial = Callable[[dict[str, Any]], dict[str, Any]]  # picklable; takes parameters and returns a result, both JSON


@dataclass(frozen=True)
class TrialResult:
    """The result of a trial, or if it failed the text of its error, whose first line says what happened."""

    result: dict[str, Any] | None
    error: str | None


@dataclass(frozen=True)
class SweepProgress:
    """Numbers of trials: finished ones (`done`, which includes `failed`), all of them, and those that run now."""

    done: int
    total: int
    failed: int
    running: int


class Trainable(tune.Trainable):
    """The actor of a trial, which may run several trials one after another. One step is a whole trial."""

    def setup(
        self,
        config: dict[str, Any],
        *,
        trial_ref: list[Any],
        trials: dict[str, dict[str, Any]],
        session: str,
        cwd: str,
        paths: list[str],
    ) -> None:
        """Prepare this process like the calling one: its path of imports, and its working directory if it exists here.

        Args:
            config: of Tune; holds the name of the trial.
            trial_ref: reference of the function in Ray's object store, in a list.
            trials: parameters of each trial, by name.
            session: identifier of the call of `run_trials`.
            cwd: working directory of the calling process.
            paths: `sys.path` of the calling process.
        """
        self._trials, self._session, self._name = trials, session, config["name"]
        sys.path.extend(path for path in paths if path not in sys.path)
        if os.path.isdir(cwd):
            os.chdir(cwd)
        self._trial: Trial = ray.get(trial_ref[0])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take over another trial; return True, because this always succeeds."""
        self._name = new_config["name"]
        return True

    def step(self) -> dict[str, Any]:
        """Run the trial and return its report for Tune's record."""
        trial_result = _run_trial(self._trial, self._trials[self._name])
        return {
            "outcome": json.dumps(asdict(trial_result), allow_nan=False),
            "failed": trial_result.error is not None,
            "session": self._session,
            "done": True,
        }


def _run_trial(trial: Trial, parameters: dict[str, Any]) -> TrialResult:
    """Run a trial; an exception becomes its result.

    If the exception were raised, Tune would run the trial again, as it does when the trial's process has died.
    """
    give_up = time.monotonic() + LOCKED_SECONDS
    while True:
        try:
            result = trial(parameters)
            json.dumps(result, allow_nan=False)  # a result that is not JSON is a failure of the trial
            return TrialResult(result, None)
        except RunLocked as error:
            if time.monotonic() > give_up:
                return TrialResult(None, str(error))
            time.sleep(1.0)
        except Exception as error:  # noqa: BLE001 - whatever a trial raises, the others go on
            if hasattr(error, "exit_code"):  # an error raised on purpose, whose message says what to do
                return TrialResult(None, str(error))
            return TrialResult(None, f"{type(error).__name__}: {error}\n{traceback.format_exc()}")


def read_report(report: dict[str, Any]) -> TrialResult:
    """Return the result of a trial from its report in Tune's record."""
    return TrialResult(**json.loads(report["outcome"]))


class TrialCounter:
    """Counts the trials of a sweep, and calls `on_progress` when one of the numbers has changed.

    `earlier` has the results of trials that are not run again, by name; they count as finished.
    """

    def __init__(
        self, on_progress: Callable[[SweepProgress], None] | None, total: int, earlier: Mapping[str, TrialResult]
    ) -> None:
        self._on_progress, self._total, self._done_earlier = on_progress, total, len(earlier)
        self._failed_earlier = sum(one.error is not None for one in earlier.values())
        self._last: SweepProgress | None = None
        # Names of the trials by Tune's identifier. Tune's results lack the name of a trial whose processes died at their start.
        self.names: dict[str, str] = {}

    def count(self, trials: list[Any]) -> None:
        """Count Tune's trials by their status."""
        self.names = {trial.trial_id: trial.config["name"] for trial in trials}
        ended = [trial for trial in trials if trial.status in ("TERMINATED", "ERROR")]
        failed = sum(trial.status == "ERROR" or bool((trial.last_result or {}).get("failed")) for trial in ended)
        running = sum(trial.status == "RUNNING" for trial in trials)
        now = SweepProgress(self._done_earlier + len(ended), self._total, self._failed_earlier + failed, running)
        if self._on_progress is not None and now != self._last:
            self._last = now
            self._on_progress(now)


# Tune pickles its callbacks into its record, and a restored sweep unpickles them from there. A function of the caller
# cannot be stored in this way. So the callback holds nothing, and finds the counter of the running sweep in this variable:
# `counting` sets it while Tune runs.
_counter: ContextVar[TrialCounter | None] = ContextVar("_counter", default=None)


@contextmanager
def counting(counter: TrialCounter) -> Iterator[None]:
    """Let `CountTrials` use this counter within the `with` block."""
    token = _counter.set(counter)
    try:
        yield
    finally:
        _counter.reset(token)


class CountTrials(tune.Callback):
    """Callback of Tune that counts trials with the counter of the running sweep."""

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Count after each step of Tune's loop."""
        _count(trials)

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """Count after the last step."""
        _count(trials)


def _count(trials: list[Any]) -> None:
    counter = _counter.get()
    if counter is not None:
        counter.count(trials)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Tune and Ray from printing: standard output is for data, and errors of trials are in their results."""
    before, logger = {name: os.environ.get(name) for name in _QUIET}, logging.getLogger("ray.tune")
    level = logger.level
    os.environ.update(_QUIET)
    logger.setLevel(logging.CRITICAL)
    try:
        with open(os.devnull, "w") as nothing, redirect_stdout(nothing):
            yield
    finally:
        logger.setLevel(level)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def with_stdout(on_progress: Callable[[SweepProgress], None], stdout: TextIO) -> Callable[[SweepProgress], None]:
    """Return `on_progress` with standard output restored, so that it can print although `quiet` is active."""

    def call(progress: SweepProgress) -> None:
        with redirect_stdout(stdout):
            on_progress(progress)

    return call
