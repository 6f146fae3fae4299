"""Run many searches as Ray Tune trials: each is one whole search with resources of its own.

Candidates are not trials: a trial costs Tune a tenth of a second, and a candidate often takes less. Tune only records
which trials have finished. A trial must be able to go on from its own files, as `run_search` does from its history. Then
nothing is lost when Tune's record is old or gone, because the trial is simply started again.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune

from ..errors import SearchError
from ..pools.ray_map import put_function
from ..pools.ray_session import RaySession
from ..pools.shared_folder import check_shared
from ._tune import (
    CountTrials,
    SweepProgress,
    Trainable,
    Trial,
    TrialCounter,
    TrialResult,
    counting,
    quiet,
    read_report,
    with_stdout,
)

# After this many deaths of its process or node a trial is run once more; if that dies, too, the trial has failed.
DEATHS = 3
_TUNE = "tune"  # name of Tune's own folder
_SETTINGS = "settings.json"  # in Tune's folder


@dataclass(frozen=True)
class TrialResources:
    """Resources of one trial: one CPU for itself, and one for each of the `workers` Ray actors that it starts.

    `gpus` is the share of a GPU for each worker, or for the trial itself if it has no workers.
    """

    workers: int = 0
    gpus: float = 0.0


def run_trials(
    trial: Trial,
    trials: Mapping[str, dict[str, Any]],
    folder: str | Path,
    *,
    resources: TrialResources = TrialResources(),
    parallel: int | None = None,
    address: str | None = None,
    resume: bool = False,
    on_progress: Callable[[SweepProgress], None] | None = None,
) -> dict[str, TrialResult]:
    """Run `trial` with the parameters of every name in `trials`; return the results by name, in the same order.

    As many trials run at a time as the cluster has room for. A trial whose process or node dies is run again elsewhere.
    One that raises an exception is not run again, and does not stop the others.

    Args:
        folder: where Tune's record is kept; on a cluster of several nodes it must be on storage that all of them share.
        resources: that each trial takes.
        parallel: most trials at a time; None means no limit but the room in the cluster.
        address: of a Ray cluster to join.
        resume: continue the sweep in `folder`. Trials that have a result are not run again; all others are started again
            and go on from their own files.
        on_progress: called whenever one of the numbers of trials has changed.

    Raises:
        SearchError: the trial cannot be sent, the cluster is too small for one trial, or does not share `folder`.
    """
    folder = Path(folder).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    printing = None if on_progress is None else with_stdout(on_progress, sys.stdout)
    with RaySession() as session, quiet():
        session.start(1 + resources.workers, address)
        _check_room(resources)
        check_shared(folder)
        sweep = _Sweep(trial, trials, folder, _bundles(resources), parallel, printing)
        results = sweep.restore() if resume else {}
        missing = [name for name in trials if name not in results]
        results |= sweep.run(missing, results) if missing else {}
        return {name: results[name] for name in trials}


class _Sweep:
    """The state of one call of `run_trials`."""

    def __init__(
        self,
        trial: Trial,
        trials: Mapping[str, dict[str, Any]],
        folder: Path,
        bundles: list[dict[str, float]],
        parallel: int | None,
        on_progress: Callable[[SweepProgress], None] | None,
    ) -> None:
        self._folder, self._parallel, self._on_progress, self._total = folder, parallel, on_progress, len(trials)
        self._session = uuid.uuid4().hex
        self._trial_ref = put_function(trial)  # Ray deletes the function when nothing refers to it any more
        with_trials = tune.with_parameters(
            Trainable,
            trial_ref=self._trial_ref,
            trials=dict(trials),
            session=self._session,
            cwd=os.getcwd(),
            paths=list(sys.path),
        )
        # Tune's record contains these settings, so that it can only be continued with the same ones.
        self._settings = json.dumps({"bundles": bundles, "parallel": parallel})
        self._trainable = tune.with_resources(with_trials, tune.PlacementGroupFactory(bundles, strategy="PACK"))

    def restore(self) -> dict[str, TrialResult]:
        """Let Tune run the unfinished trials of its record, and return the results that the record then has.

        Two kinds of trials are left out: those that failed in an earlier session, because the cause may have been
        removed, and those that the record does not hold because Tune writes it only every ten seconds.
        """
        path, settings = str(self._folder / _TUNE), self._folder / _TUNE / _SETTINGS
        if not settings.exists() or settings.read_text() != self._settings or not tune.Tuner.can_restore(path):
            return {}
        try:
            # Restarted, not resumed: there are no checkpoints of Tune, because a trial goes on from its own files.
            tuner = tune.Tuner.restore(path, self._trainable, resume_unfinished=True, restart_errored=True)
            return self._fit(tuner, {})
        except Exception:  # noqa: BLE001 - the record is damaged; it only saves time, so all trials are run again
            return {}

    def run(self, names: list[str], earlier: dict[str, TrialResult]) -> dict[str, TrialResult]:
        """Run the named trials under a new record; `earlier` has the results of the others."""
        shutil.rmtree(self._folder / _TUNE, ignore_errors=True)
        (self._folder / _TUNE).mkdir()
        (self._folder / _TUNE / _SETTINGS).write_text(self._settings)
        tuner = tune.Tuner(
            self._trainable,
            param_space={"name": tune.grid_search(names)},
            tune_config=tune.TuneConfig(
                max_concurrent_trials=self._parallel,
                reuse_actors=True,  # a new process spends seconds on imports
                trial_dirname_creator=_dirname,
            ),
            run_config=tune.RunConfig(
                name=_TUNE,
                storage_path=str(self._folder),
                failure_config=tune.FailureConfig(max_failures=DEATHS),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # a trial has files of its own
                callbacks=[CountTrials()],
                verbose=0,
            ),
        )
        return self._fit(tuner, earlier)

    def _fit(self, tuner: Any, earlier: dict[str, TrialResult]) -> dict[str, TrialResult]:
        """Run Tune, and return the results of its trials except those that failed in an earlier session."""
        counter = TrialCounter(self._on_progress, self._total, earlier)
        with counting(counter):
            fitted = tuner.fit()
        results = {}
        for one in fitted:
            report = one.metrics or {}
            name = counter.names[report["trial_id"]]
            if one.error is not None:
                results[name] = TrialResult(None, _death_message(name, one.error))
            elif "outcome" in report and (not report["failed"] or report["session"] == self._session):
                results[name] = read_report(report)
        return results


def _check_room(resources: TrialResources) -> None:
    """Refuse a trial that does not fit into the cluster.

    Raises:
        SearchError: the cluster has too few CPUs or GPUs for one trial.
    """
    cluster: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    cpus, gpus = 1 + resources.workers, max(1, resources.workers) * resources.gpus
    if cluster.get("CPU", 0) < cpus or cluster.get("GPU", 0) < gpus:
        raise SearchError(
            f"a trial of {cpus} CPUs and {gpus:g} GPUs does not fit into the Ray cluster\n"
            f"it has {cluster.get('CPU', 0):g} CPUs and {cluster.get('GPU', 0):g} GPUs in all\n"
            "ask for fewer workers, or a smaller share of a GPU"
        )


def _bundles(resources: TrialResources) -> list[dict[str, float]]:
    """Bundles of a trial's placement group: that of the trial, then one for each of its workers.

    Ray places the actors that a trial starts into these bundles.
    """
    gpu = {"GPU": resources.gpus} if resources.gpus else {}
    own = {"CPU": 1.0} | (gpu if resources.workers == 0 else {})
    return [own, *({"CPU": 1.0} | gpu for _ in range(resources.workers))]


def _dirname(trial: Any) -> str:
    return str(trial.trial_id)


def _death_message(name: str, error: BaseException) -> str:
    reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return (
        f"the process of {name} died {DEATHS + 1} times\n"
        f"{type(error).__name__}: {reason.strip()}\n"
        "the machine may be short of memory: resume with fewer trials at once"
    )
