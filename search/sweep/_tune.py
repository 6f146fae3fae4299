"""What `sweep` hands to Ray Tune: the trial's actor, a counter of trials, and silence."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, TextIO

import ray
from ray import tune

from ..errors import RunLocked

LOCKED_SECONDS = 60.0  # the old process of a trial on a node that is half dead may hold its history for so long
_QUIET = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # a CSV, a JSON and a TensorBoard file for every trial
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # else Ctrl-C waits for the running trials
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative names are the driver's
    "RAY_AIR_NEW_OUTPUT": "0",  # the new output prints tables even when it is told to be silent
}

Trial = Callable[[dict[str, Any]], dict[str, Any]]  # picklable; parameters in, result out, both of them JSON


@dataclass(frozen=True)
class Outcome:
    """What became of a trial: its result, or the text of its error, whose first line says what happened."""

    result: dict[str, Any] | None
    error: str | None


@dataclass(frozen=True)
class SweepProgress:
    """How many trials are finished (failed ones included), and how many are at work."""

    done: int
    total: int
    failed: int
    running: int


class Trainable(tune.Trainable):
    """Lives in the trial's actor. One step is the whole trial."""

    def setup(
        self,
        config: dict[str, Any],
        *,
        held: list[Any],
        trials: dict[str, dict[str, Any]],
        session: str,
        cwd: str,
        paths: list[str],
    ) -> None:
        self._trials, self._session, self._name = trials, session, config["name"]
        # What the driver can import and open by a relative name, the trial can, too, where the node has it.
        sys.path.extend(path for path in paths if path not in sys.path)
        if os.path.isdir(cwd):
            os.chdir(cwd)
        self._trial: Trial = ray.get(held[0])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._name = new_config["name"]
        return True

    def step(self) -> dict[str, Any]:
        outcome = _attempt(self._trial, self._trials[self._name])
        return {
            "outcome": json.dumps(asdict(outcome)),
            "failed": outcome.error is not None,
            "session": self._session,
            "done": True,
        }


def _attempt(trial: Trial, parameters: dict[str, Any]) -> Outcome:
    """Run a trial. What it raises is its result: Tune would run it again, as if its node had died."""
    give_up = time.monotonic() + LOCKED_SECONDS
    while True:
        try:
            result = trial(parameters)
            json.dumps(result)  # if this fails, it is the trial's failure
            return Outcome(result, None)
        except RunLocked as error:
            if time.monotonic() > give_up:
                return Outcome(None, str(error))
            time.sleep(1.0)
        except Exception as error:  # noqa: BLE001 - whatever it is, the other trials go on
            if hasattr(error, "exit_code"):  # an error raised on purpose, which says what to do
                return Outcome(None, str(error))
            return Outcome(None, f"{type(error).__name__}: {error}\n{traceback.format_exc()}")


def loads(text: str) -> Outcome:
    """The outcome that a trial's last report holds."""
    return Outcome(**json.loads(text))


class Watch(tune.Callback):
    """Counts trials. Tune pickles its callbacks with its record, so what is called stands in the class."""

    _report: ClassVar[Callable[[SweepProgress], None] | None] = None
    _total: ClassVar[int] = 0
    _before: ClassVar[int] = 0
    _failed_before: ClassVar[int] = 0
    _last: ClassVar[SweepProgress | None] = None

    @classmethod
    def begin(cls, report: Callable[[SweepProgress], None] | None, total: int, before: Mapping[str, Outcome]) -> None:
        cls._report, cls._total, cls._before, cls._last = report, total, len(before), None
        cls._failed_before = sum(outcome.error is not None for outcome in before.values())

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._count(trials)

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        self._count(trials)

    def _count(self, trials: list[Any]) -> None:
        ended = [trial for trial in trials if trial.status in ("TERMINATED", "ERROR")]
        failed = sum(trial.status == "ERROR" or bool((trial.last_result or {}).get("failed")) for trial in ended)
        running = sum(trial.status == "RUNNING" for trial in trials)
        now = SweepProgress(self._before + len(ended), self._total, self._failed_before + failed, running)
        report = Watch._report
        if report is not None and now != Watch._last:
            Watch._last = now
            report(now)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Tune and Ray from printing: what is to be said of a trial stands in its outcome, and stdout is for data."""
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


def aloud(report: Callable[[SweepProgress], None], stdout: TextIO) -> Callable[[SweepProgress], None]:
    """What the caller prints is heard, though Tune is not."""

    def call(progress: SweepProgress) -> None:
        with redirect_stdout(stdout):
            report(progress)

    return call
