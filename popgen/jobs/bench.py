"""`popgen bench`: the search beside its rivals at equal image passes, over a grid of architectures, data sets and seeds.

Every cell is a Ray Tune trial (benching/cell.py). What they found is summarised with intervals over data sets and seeds
(popgen/bench), and written as results.json, results.csv and results.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import load_file

from popgen import __version__
from popgen.bench.summary import BenchRow, Cell, Entry, summarise
from popgen.bench.tables import as_csv, markdown
from popgen.configs.bench import SEARCH, BenchConfig, load_bench
from popgen.configs.search import EXPERT_SPACES, SearchConfig
from popgen.data import describe, load_data
from popgen.data.names import trust_sources
from popgen.errors import BadInput, CannotResume, NotFound, PopgenError
from popgen.files import new_folder, safe_name, write_text
from popgen.jobs.benching.cell import OUTCOMES, CellJob
from popgen.jobs.search import prepare
from popgen.jobs.searching.checks import Prepared, with_data_folder
from popgen.json_text import json_text
from popgen.tasks import LOWER_IS_BETTER
from popgen.trust import own_code
from search.sweep.sweep import SweepProgress, TrialResources, TrialResult, run_trials

_SPEC = "bench.yaml"


class CellsFailed(PopgenError):
    """Some cells of a bench failed; the others are done."""

    exit_code = 1


@dataclass(frozen=True)
class Benched:
    """The summary of a bench; `errors` are those of failed cells by name, `remarks` what cells said of their rivals."""

    name: str
    folder: str
    subject: str
    facts: str
    rows: list[BenchRow]
    errors: dict[str, str]
    remarks: list[str]

    def to_json(self) -> dict[str, Any]:
        """The keys of results.json and --json; they are stable."""
        rows = [row.to_json() for row in self.rows]
        return {"popgen": __version__, **vars(self), "rows": rows}

    def markdown(self) -> str:
        """The tables."""
        return markdown(self.name, self.facts, self.rows, self.subject)


def bench(
    config: BenchConfig,
    out: str | None = None,
    resume: str | None = None,
    *,
    address: str | None = None,
    parallel: int | None = None,
    data_dir: str | None = None,
    on_progress: Callable[[SweepProgress], None] | None = None,
    say: Callable[[str], None] = print,
) -> Benched:
    """Run every cell of `config`, and write a bench folder; a cell that fails does not stop the others.

    Args:
        out: the folder to write, which all nodes of a cluster must share; None: ./benches/NAME, or NAME-2, ...
        resume: the folder of a bench to continue; `config` is what `read` found there.
        address: of a Ray cluster; None: this machine.
        parallel: how many cells may run at once; None: as many as there is room for.
        data_dir: the folder of named data sets, where `search` does not name it; None: POPGEN_DATA, else ./data.
        on_progress: called when a cell has begun or ended.
        say: called with one line for everything that a user should know of.

    Raises:
        PopgenError: a name or value that does not fit any search, before Ray starts.
        SearchError: the cluster cannot be reached, is too small, or does not share the folder.
    """
    cells = plan(config, data_dir, say)
    folder = Path(resume) if resume is not None else new_folder(out, Path("benches") / config.name, "bench", _SPEC)
    write_text(folder / _SPEC, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    say(f"bench folder: {folder}")
    compute = next(iter(cells.values()))[SEARCH].compute
    try:
        results = run_trials(
            _job(config, folder),
            {name: _settings(name, searches) for name, searches in cells.items()},
            folder,
            resources=TrialResources(int(compute.workers), compute.gpus),
            parallel=parallel,
            address=address,
            resume=resume is not None,
            on_progress=on_progress,
        )
    except KeyboardInterrupt:
        say(f"the cells that are done are kept; continue with: popgen bench --resume {folder}")
        raise
    found = _summary(config, results, folder)
    write_text(folder / "results.json", json_text(found.to_json(), indent=1) + "\n")
    write_text(folder / "results.md", found.markdown())
    return found


def _job(config: BenchConfig, folder: Path) -> CellJob:
    recipe = config.recipe.model_dump(mode="json")
    return CellJob(str((folder / "cells").absolute()), own_code(), tuple(config.rivals), recipe)


def plan(
    config: BenchConfig, data_dir: str | None = None, say: Callable[[str], None] = print
) -> dict[str, dict[str, SearchConfig]]:
    """The searches of every cell by the cell's name, all of them checked.

    Raises:
        PopgenError: what `popgen search` would refuse.
    """
    cells: dict[str, dict[str, SearchConfig]] = {}
    checked = set()
    for searches in config.cells():
        placed = {name: _placed(one, config, data_dir) for name, one in searches.items()}
        first = placed[SEARCH]
        name = safe_name(f"{first.archs[0]}-{first.data}-s{first.seed}")
        if name in cells:
            raise BadInput(
                f"{config.name}: two data sets give the folder {name}",
                "their names differ only in characters that a folder's name cannot have",
                "Rename a file, or make two benches.",
            )
        cells[name] = placed
        if (first.archs[0], first.data) not in checked:  # no check depends on the seed
            checked.add((first.archs[0], first.data))
            prepared = {row: prepare(one) for row, one in placed.items()}
            _check_unit(prepared[SEARCH])
            lacks = [row for row, one in prepared.items() if one.zoo is None]
            if lacks and len(checked) == 1:
                say(
                    "the generator's zoo was not found, so rivals of the zoo have no row; name its folder as search.zoo"
                )
    return cells


def _check_unit(prepared: Prepared) -> None:
    """Refuse a task whose scores are better when they are lower: means and wins count higher ones.

    Raises:
        BadInput: it is such a task.
    """
    unit = prepared.searches[0].fitness.task.unit
    if unit in LOWER_IS_BETTER:
        raise BadInput(
            f"a bench compares scores of which a higher one is better, and these are {unit}",
            "",
            "popgen search --baselines all shows the rivals of one search; see examples/bench/language_layers.py.",
        )


def _placed(one: SearchConfig, config: BenchConfig, data_dir: str | None) -> SearchConfig:
    """The settings of a search with the folder of data sets, and under a description if that is the condition."""
    placed = with_data_folder(one, data_dir)
    if not config.describe or one.space in EXPERT_SPACES:
        return placed
    trust_sources([one.data])
    described = describe(one.data, load_data(one.data, placed.data_dir).description)
    return placed.model_copy(update={"describe": described})


def read(folder: str) -> BenchConfig:
    """The settings of the bench in `folder`.

    Raises:
        NotFound: no bench there.
    """
    file = Path(folder) / _SPEC
    if not file.is_file():
        raise NotFound(
            f"there is no bench in {folder!r}",
            f"a bench's folder has a {_SPEC}",
            "`popgen bench` prints the folder that it writes.",
        )
    return load_bench(file)


def check_done(found: Benched) -> None:
    """Raise if a cell failed.

    Raises:
        CellsFailed: says how many, and the first one's error.
    """
    if found.errors:
        name, error = next(iter(found.errors.items()))
        raise CellsFailed(
            f"{len(found.errors)} cells of the bench failed",
            f"{name}: {error.splitlines()[0]}",
            f"popgen bench --resume {found.folder} runs them again; results.json there has all errors.",
        )


def _settings(name: str, searches: dict[str, SearchConfig]) -> dict[str, Any]:
    return {"name": name, "searches": {row: one.model_dump(mode="json") for row, one in searches.items()}}


def _summary(config: BenchConfig, results: dict[str, TrialResult], folder: Path) -> Benched:
    done = {name: one.result for name, one in results.items() if one.result is not None}
    cells = [_cell(content, folder / "cells" / name) for name, content in done.items()]
    write_text(folder / "results.csv", as_csv(cells))
    return Benched(
        config.name,
        str(folder),
        config.subject,
        _facts(config, list(done.values())),
        summarise(cells, config.rows, config.subject),
        {name: one.error for name, one in results.items() if one.error is not None},
        _remarks(list(done.values())),
    )


def _facts(config: BenchConfig, done: Sequence[dict[str, Any]]) -> str:
    """What the tables are over, in words."""
    passes = sorted({content["image_passes"] for content in done})
    budget = f"{passes[0]:,}" if len(passes) == 1 else f"{passes[0]:,} to {passes[-1]:,}" if passes else "no"
    return (
        f"{len(config.data)} data sets, seeds {', '.join(map(str, config.seeds))}. Every row may take {budget} image passes; a backward pass "
        f"counts as two. Behind a mean stands its 95% interval by a bootstrap over data sets and seeds. A win or a loss is a difference of "
        f"more than two standard errors on one data set."
    )


def _remarks(done: Sequence[dict[str, Any]]) -> list[str]:
    """What a reader of the tables should know: rows that are missing, and cells whose splits disagree."""
    said = {f"{content['arch']}: {text}" for content in done for text in content["remarks"]}
    found = sorted(text for text in said if "has no candidates" in text or "cannot be scored" in text)
    rows = Counter(text.partition(":")[0] for content in done for text in content["disagreements"])
    if rows:
        cells = sum(bool(content["disagreements"]) for content in done)
        (most, count), *_ = rows.most_common(1)
        found.append(
            f"in {cells} of {len(done)} cells the test accuracy of a row differs from its validation accuracy, less the optimism, beyond "
            f"chance; most often that of {most}, in {count}"
        )
    return found


def _cell(content: dict[str, Any], path: Path) -> Cell:
    right = load_file(path / OUTCOMES)
    entries = {}
    for row in content["rows"]:
        scores = {
            f"{split}_score": row.get(f"{split}_accuracy", row.get(f"{split}_score")) for split in ("val", "test")
        }
        costs = {name: row[name] for name in ("evaluations", "image_passes", "seconds")}
        outcomes = right[row["name"]].numpy() if row["name"] in right else None
        entries[row["name"]] = Entry(row["name"], **costs, **scores, val_optimism=row["val_optimism"], right=outcomes)
    return Cell(content["arch"], content["data"], content["seed"], entries)


def resumed(folder: str, config: BenchConfig) -> BenchConfig:
    """The settings of the bench in `folder`, which a spec given with --resume must equal but for what may change.

    Data sets, architectures and seeds may be added, and the subject may be another row.

    Raises:
        NotFound: no bench there.
        CannotResume: another setting has changed.
    """
    before, now = read(folder).model_dump(), config.model_dump()
    grown, free = ("seeds", "data", "archs"), ("subject",)
    changed = [key for key in before if key not in (*grown, *free) and before[key] != now[key]]
    changed += [key for key in grown if not set(before[key]) <= set(now[key])]
    if changed:
        raise CannotResume(
            f"the bench in {folder} cannot go on",
            "; ".join(f"{key} was {before[key]}, is {now[key]}" for key in changed),
            "Restore what changed (data sets, architectures and seeds may be added, the subject may be another), or start a new bench.",
        )
    return config
