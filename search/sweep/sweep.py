"""Many searches as Ray Tune trials, each one whole search with resources of its own.

Candidates are not trials: a trial costs Tune a tenth of a second, a candidate often less. What Tune keeps is who has
finished. A trial must be able to go on from its own files, as `run_search` does from its history: then nothing is lost
when Tune's own record is old or gone, because the trial is simply started again.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray
from ray import tune

from ..errors import SearchError
from ..pools.ray_map import put_function
from ..pools.ray_session import RaySession
from ..pools.shared_folder import check_shared
from ._tune import Outcome, SweepProgress, Trainable, Trial, Watch, aloud, loads, quiet

DEATHS = 3  # of a trial's process or node, after which the trial itself is taken to be the cause
_TUNE = "tune"  # Tune's own folder
_SETTINGS = "settings.json"  # beside Tune's files


def run_trials(
    trial: Trial,
    trials: Mapping[str, dict[str, Any]],
    folder: str | Path,
    *,
    workers: int = 0,
    gpus: float = 0.0,
    parallel: int | None = None,
    address: str | None = None,
    resume: bool = False,
    report: Callable[[SweepProgress], None] | None = None,
) -> dict[str, Outcome]:
    """Run `trial` on the parameters of every name in `trials`, as many at a time as there is room for.

    A trial has one CPU for itself, and one for each of `workers` Ray actors that it starts. A trial whose process or
    node dies is run again elsewhere; one that raises is not, and does not stop the others.

    Args:
        folder: where Tune's record is kept; on a cluster of several nodes it must be storage that all of them share.
        gpus: the share of a GPU of each worker, or of the trial itself where it has none.
        parallel: how many trials may run at once.
        address: of a Ray cluster to join.
        resume: go on with what is in `folder`. Trials that gave a result are not run again; all others are, from the
            start, because each has its own files to go on from.
        report: called when one of its numbers has changed.

    Raises:
        SearchError: the trial cannot be sent, the cluster is too small for one, or does not share `folder`.
    """
    folder = Path(folder).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    heard = None if report is None else aloud(report, sys.stdout)
    with RaySession() as session, quiet():
        session.start(1 + workers, address)
        _check_room(workers, gpus)
        check_shared(folder)
        run = _Run(trial, trials, folder, _bundles(workers, gpus), parallel, heard)
        outcomes = run.restored() if resume else {}
        missing = [name for name in trials if name not in outcomes]
        outcomes |= run.fresh(missing, outcomes) if missing else {}
        return {name: outcomes[name] for name in trials}


class _Run:
    """One call of `run_trials`."""

    def __init__(
        self,
        trial: Trial,
        trials: Mapping[str, dict[str, Any]],
        folder: Path,
        bundles: list[dict[str, float]],
        parallel: int | None,
        report: Callable[[SweepProgress], None] | None,
    ) -> None:
        self._folder, self._parallel, self._report, self._total = folder, parallel, report, len(trials)
        self._session = uuid.uuid4().hex
        self._held = put_function(trial)  # kept as long as it is needed
        started = tune.with_parameters(
            Trainable,
            held=self._held,
            trials=dict(trials),
            session=self._session,
            cwd=os.getcwd(),
            paths=list(sys.path),
        )
        # A record keeps these, so it cannot be gone on with under others.
        self._settings = json.dumps({"bundles": bundles, "parallel": parallel})
        self._trainable = tune.with_resources(started, tune.PlacementGroupFactory(bundles, strategy="PACK"))

    def restored(self) -> dict[str, Outcome]:
        """What Tune's record has to say, once Tune has run what is unfinished in it.

        A trial that raised in an earlier session is left out: its cause may be mended. So is one that the record, which
        is written every ten seconds, is too young to hold.
        """
        path, settings = str(self._folder / _TUNE), self._folder / _TUNE / _SETTINGS
        if not settings.exists() or settings.read_text() != self._settings or not tune.Tuner.can_restore(path):
            return {}
        try:
            # Restarted, not resumed: Tune has no checkpoints here, a trial goes on from files of its own.
            tuner = tune.Tuner.restore(path, self._trainable, resume_unfinished=True, restart_errored=True)
            return self._fit(tuner, {})
        except Exception:  # noqa: BLE001 - a record torn by a crash; it only saves time, all trials are run again instead
            return {}

    def fresh(self, names: list[str], before: dict[str, Outcome]) -> dict[str, Outcome]:
        """Run the trials of these names under a new record."""
        shutil.rmtree(self._folder / _TUNE, ignore_errors=True)
        (self._folder / _TUNE).mkdir()
        (self._folder / _TUNE / _SETTINGS).write_text(self._settings)
        tuner = tune.Tuner(
            self._trainable,
            param_space={"name": tune.grid_search(names)},
            tune_config=tune.TuneConfig(
                max_concurrent_trials=self._parallel,
                reuse_actors=True,  # a new process imports for seconds
                trial_dirname_creator=_dirname,
            ),
            run_config=tune.RunConfig(
                name=_TUNE,
                storage_path=str(self._folder),
                failure_config=tune.FailureConfig(max_failures=DEATHS),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # a trial has files of its own
                callbacks=[Watch()],
                verbose=0,
            ),
        )
        return self._fit(tuner, before)

    def _fit(self, tuner: Any, before: dict[str, Outcome]) -> dict[str, Outcome]:
        Watch.begin(self._report, self._total, before)
        outcomes = {}
        for one in tuner.fit():
            said = one.metrics or {}
            name = one.config["name"]
            if one.error is not None:
                outcomes[name] = Outcome(None, _death(name, one.error))
            elif "outcome" in said and (not said["failed"] or said["session"] == self._session):
                outcomes[name] = loads(said["outcome"])
        return outcomes


def _check_room(workers: int, gpus: float) -> None:
    has: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    cpus, shares = 1 + workers, max(1, workers) * gpus
    if has.get("CPU", 0) < cpus or has.get("GPU", 0) < shares:
        raise SearchError(
            f"a trial of {cpus} CPUs and {shares:g} GPUs does not fit into the Ray cluster\n"
            f"it has {has.get('CPU', 0):g} CPUs and {has.get('GPU', 0):g} GPUs in all\n"
            "ask for fewer workers, or a smaller share of a GPU"
        )


def _bundles(workers: int, gpus: float) -> list[dict[str, float]]:
    """The trial's own bundle first, then one for each of its workers: Ray puts what a trial starts into these."""
    share = {"GPU": gpus} if gpus else {}
    return [{"CPU": 1.0} | (share if workers == 0 else {}), *({"CPU": 1.0} | share for _ in range(workers))]


def _dirname(trial: Any) -> str:
    return str(trial.trial_id)


def _death(name: str, error: BaseException) -> str:
    reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return (
        f"the process of {name} died {DEATHS + 1} times\n"
        f"{type(error).__name__}: {reason.strip()}\n"
        "the machine may be short of memory: resume with fewer trials at once"
    )
