"""`popgen sweep`: a search for every architecture, data set and seed, each one a Ray Tune trial, and one table.

Every trial writes an ordinary run folder, from whose history it goes on when it is started again. So nothing that was
evaluated is lost with a driver, a node, or Tune's own record.
"""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml

from popgen import __version__
from popgen.configs.load import parse
from popgen.configs.search import SearchConfig
from popgen.configs.sweep import SweepConfig, load_sweep
from popgen.errors import BadInput, CannotResume, NotFound, PopgenError
from popgen.files import new_folder, safe_name, write_text
from popgen.jobs.parents import with_commits
from popgen.jobs.search import prepare, search_in
from popgen.jobs.searching.checks import with_data_folder
from popgen.jobs.searching.folder import RunFolder
from popgen.json_text import json_text, parse_json
from popgen.trust import own_code, take_own_code
from search.sweep.sweep import SweepProgress, TrialResources, TrialResult, run_trials

OnProgress = Callable[[SweepProgress], None]


class SearchesFailed(PopgenError):
    """Some searches of a sweep failed; the others are done."""

    exit_code = 1


@dataclass(frozen=True)
class SweepRow:
    """An architecture on a data set: test accuracies (0 to 1), means over the seeds that are done.

    `search_std` is the standard deviation over seeds, None below two of them; `best_zoo` and `generated_best` are None
    where the baselines were left out or the zoo was not found. `searches` has an entry a seed: `seed`, `run`, and
    `error` or `weights`, `val_accuracy`, `test_accuracy` (of another task than classification `val_score`, `test_score`).
    """

    arch: str
    data: str
    search: float | None
    search_std: float | None
    best_zoo: float | None
    generated_best: float | None
    done: int
    failed: int
    searches: list[dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """The keys of results.json and --json; they are stable."""
        return asdict(self)


def sweep(
    config: SweepConfig,
    out: str | None = None,
    resume: str | None = None,
    *,
    address: str | None = None,
    parallel: int | None = None,
    data_dir: str | None = None,
    on_progress: OnProgress | None = None,
    say: Callable[[str], None] = print,
) -> list[SweepRow]:
    """Run every search of `config`, and write a sweep folder; a search that fails does not stop the others.

    Args:
        out: the folder to write, which all nodes of a cluster must share; None: ./sweeps/NAME, or NAME-2, ...
        resume: the folder of a sweep to continue; `config` is what `resumed` read from it.
        address: of a Ray cluster; None: this machine.
        parallel: how many searches may run at once; None: as many as there is room for.
        data_dir: the folder of named data sets, where `search` does not name it; None: POPGEN_DATA, else ./data.
        on_progress: called when a search has begun or ended.
        say: called with one line for everything that a user should know of.

    Raises:
        PopgenError: a name or value that does not fit any search, before Ray starts.
        SearchError: the cluster cannot be reached, is too small, or does not share the folder.
    """
    trials = plan(config, say, data_dir)
    folder = _open_folder(config, out, resume)
    say(f"sweep folder: {folder}")
    first = trials[0]
    try:
        results = run_trials(
            partial(_run_search, str((folder / "runs").absolute()), own_code()),
            {_name(one): one.model_dump(mode="json") for one in trials},
            folder,
            resources=TrialResources(int(first.compute.workers), first.compute.gpus),
            parallel=parallel,
            address=address,
            resume=resume is not None,
            on_progress=on_progress,
        )
    except KeyboardInterrupt:
        say(f"what was evaluated is kept; continue with: popgen sweep --resume {folder}")
        raise
    rows = _rows(config, trials, results, folder)
    content = {"popgen": __version__, "sweep": config.name, "rows": [row.to_json() for row in rows]}
    write_text(folder / "results.json", json_text(content, indent=1) + "\n")
    return rows


def _open_folder(config: SweepConfig, out: str | None, resume: str | None) -> Path:
    """Make the sweep's folder, or open the one to resume, and write the settings there."""
    folder = new_folder(out, Path("sweeps") / config.name, "sweep", "sweep.yaml") if resume is None else Path(resume)
    if resume is not None:
        before = read(resume)
        _check_same(before, config, folder)
        if before != config:  # Tune's record calls every search finished, but these settings ask for more evaluations.
            shutil.rmtree(folder / "tune", ignore_errors=True)
    write_text(folder / "sweep.yaml", yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    return folder


def plan(config: SweepConfig, say: Callable[[str], None] = print, data_dir: str | None = None) -> list[SearchConfig]:
    """The settings of every search, all of them checked: names, shapes, heads, the generator, the optimizer.

    Raises:
        PopgenError: what `popgen search` would refuse.
    """
    trials = [with_commits(with_data_folder(one, data_dir)) for one in config.searches()]
    each = {(one.archs[0], one.data): one for one in trials}.values()  # one seed of each: no check depends on the seed
    lacking = list(dict.fromkeys(one.archs[0] for one in each if prepare(one).zoo is None))
    if lacking and trials[0].baselines != "none":
        whose = "" if len(lacking) == len(config.archs) else f" of {', '.join(lacking)}"
        say(f"the generator's zoo{whose} was not found, so its column is empty; name its folder as search.zoo")
    names = [_name(one) for one in trials]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadInput(
            f"{config.name}: two data sets give the run folder {twice[0]}",
            "their names differ only in characters that a folder's name cannot have",
            "Rename a file, or make two sweeps.",
        )
    return trials


def read(folder: str) -> SweepConfig:
    """The settings of the sweep in `folder`.

    Raises:
        NotFound: no sweep there.
    """
    file = Path(folder) / "sweep.yaml"
    if not file.is_file():
        raise NotFound(
            f"there is no sweep in {folder!r}",
            "a sweep's folder has a sweep.yaml",
            "`popgen sweep` prints the folder that it writes.",
        )
    return load_sweep(file)


def resumed(folder: str, evaluations: int | None = None) -> SweepConfig:
    """The settings of the sweep in `folder`, with more evaluations for each of its searches.

    Raises:
        NotFound: no sweep there.
        CannotResume: fewer evaluations than before.
    """
    config = read(folder)
    if evaluations is None:
        return config
    before = config.searches()[0].evaluations
    if evaluations < before:
        raise CannotResume(
            f"the sweep in {folder} cannot go on with {evaluations} evaluations a search",
            f"it was begun with {before}, and what is evaluated is not taken back",
            f"Give {before} or more, or start another sweep.",
        )
    return parse({**config.model_dump(), "search": {**config.search, "evaluations": evaluations}}, SweepConfig, folder)


def _run_search(runs: str, code: dict[str, list[str]], settings: dict[str, Any]) -> dict[str, Any]:
    """One trial, in a process of Ray's: begins its run, goes on with it, or gives back its result."""
    torch.set_num_threads(1)  # it has one CPU; and sums over several threads differ in their last bits
    take_own_code(code)
    config = parse(settings, SearchConfig, "a search of the sweep")
    path = Path(runs) / _name(config)
    result = path / "result.json"
    if result.exists() and RunFolder.open(str(path)).config()[0].budget() == config.budget():
        found: dict[str, Any] = parse_json(result.read_text())["results"][0]
        return found
    return search_in(config, path).to_json()


def _rows(
    config: SweepConfig, trials: list[SearchConfig], trial_results: dict[str, TrialResult], folder: Path
) -> list[SweepRow]:
    rows = []
    for arch in config.archs:
        for data in config.data:
            mine = [one for one in trials if one.archs == [arch] and one.data == data]
            results = [found for one in mine if (found := trial_results[_name(one)].result) is not None]
            reached = _tests(results, "search")
            rows.append(
                SweepRow(
                    arch,
                    data,
                    _mean(reached),
                    statistics.stdev(reached) if len(reached) > 1 else None,
                    _mean(_tests(results, "best_zoo")),
                    _mean(_tests(results, "generated_best")),
                    done=len(results),
                    failed=len(mine) - len(results),
                    searches=[_entry(one, trial_results[_name(one)], folder) for one in mine],
                )
            )
    return rows


def _entry(config: SearchConfig, trial: TrialResult, folder: Path) -> dict[str, Any]:
    entry: dict[str, Any] = {"seed": config.seed, "run": str(folder / "runs" / _name(config))}
    if trial.result is None:
        return entry | {"error": trial.error}
    row = next(row for row in trial.result["rows"] if row["name"] == "search")
    weights = Path(entry["run"]) / Path(trial.result["weights"]).name
    return entry | {
        "weights": str(weights),
        **{key: row[key] for key in row if key.startswith(("val_", "test_")) and key != "val_loss"},
    }


def check_done(rows: Sequence[SweepRow]) -> None:
    """Raise if a search failed.

    Raises:
        SearchesFailed: says how many, and the first one's error.
    """
    failed = [(row, one) for row in rows for one in row.searches if "error" in one]
    if failed:
        row, one = failed[0]
        raise SearchesFailed(
            f"{len(failed)} of {sum(len(row.searches) for row in rows)} searches failed",
            f"{row.arch} on {row.data}, seed {one['seed']}: {one['error'].splitlines()[0]}",
            f"popgen sweep --resume {Path(one['run']).parents[1]} runs them again; results.json there has all errors.",
        )


def _tests(results: list[dict[str, Any]], name: str) -> list[float]:
    """Test accuracies of a row of the searches' tables."""
    return [
        row.get("test_accuracy", row.get("test_score"))
        for result in results
        for row in result["rows"]
        if row["name"] == name
    ]


def _mean(values: list[float]) -> float | None:
    return statistics.fmean(values) if values else None


def _check_same(before: SweepConfig, now: SweepConfig, folder: Path) -> None:
    was, is_now = before.model_dump(), now.model_dump()
    for content in (was, is_now):
        content["search"] = {key: value for key, value in content["search"].items() if key != "evaluations"}
    changed = [f"{key} was {was[key]}, is {is_now[key]}" for key in was if was[key] != is_now[key]]
    if changed:
        raise CannotResume(
            f"the sweep in {folder} cannot go on", "; ".join(changed), "Restore what changed, or start a new sweep."
        )


def _name(config: SearchConfig) -> str:
    """The run folder of a search: ARCH-DATA-sSEED."""
    return safe_name(f"{config.archs[0]}-{config.data}-s{config.seed}")
