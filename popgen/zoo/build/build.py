"""Builds the zoo of a spec: trains every network that is missing, one a CPU core, on Ray or in this process; or imports it.

Workers change the time and nothing else: a network depends on its architecture, data set, seed and recipe alone.
Finished networks are written every few seconds; a build that was cut off goes on where it stopped, and trains anew
what is damaged.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from popgen.configs.spec import ZooSpec
from popgen.data.folder import data_folder
from popgen.errors import BadInput, CannotResume
from popgen.zoo.build.trainer import Done, Job, Trainer
from popgen.zoo.build.workers import train_on_ray
from popgen.zoo.imports.checkpoint import Foreign
from popgen.zoo.imports.spec import import_all, list_imports
from popgen.zoo.store import Zoo
from popgen.zoo.verify import find_damaged

_FLUSH_SECONDS, _FLUSH_NETWORKS = 5.0, 32  # what a killed build loses at most


@dataclass(frozen=True)
class Plan:
    """What a build would do."""

    total: int
    jobs: list[Job]  # networks to train that are missing or damaged
    imports: list[Foreign]  # and those to import
    sizes: dict[str, int]  # parameters of each architecture


def build_zoo(
    spec: ZooSpec, out: Path, *, workers: int | None = None, progress: bool = True, data_dir: str | None = None
) -> Zoo:
    """Train or import what the zoo in `out` lacks of its spec, and finish it.

    Args:
        workers: processes; 0 trains in this one; None takes the spec's number, or one a CPU core.
        data_dir: the folder of named data sets; None: POPGEN_DATA, else ./data.

    Raises:
        NotFound, BadInput: the spec names something that does not exist or fit; refused before anything is trained.
        PopgenError: checkpoints to import that cannot be had or do not fit, when the others are in the zoo.
        CannotResume: the folder holds a zoo of another spec, or a worker died.

    >>> import tempfile
    >>> spec = ZooSpec(name="two", archs=["mlp-s"], data=["digits"], seeds=[0, 1], recipe={"epochs": 1})
    >>> len(build_zoo(spec, Path(tempfile.mkdtemp()), workers=0, progress=False))
    2
    """
    todo = plan(spec, out, data_dir)
    if spec.checkpoints:
        return _import(spec, out, todo.imports, progress)
    jobs = todo.jobs
    workers = min(_worker_count(spec, workers), len(jobs))
    zoo = _open_or_create(spec, out)
    zoo.drop(find_damaged(zoo))
    folder = str(data_folder(data_dir))
    trainer = Trainer(spec, data_dir=folder)
    stored = {name: flat for name in trainer.specs if (flat := zoo.start(name)) is not None}
    if stored:
        trainer = Trainer(spec, stored, folder)  # another version of torch could draw other ones
    elif trainer.starts:
        zoo.set_starts(trainer.starts)
    if jobs:
        results = train_on_ray(spec, trainer.starts, jobs, workers, folder) if workers else _train_here(trainer, jobs)
        with closing(results):
            _collect(zoo, trainer, results, len(jobs), progress)
    if not zoo.is_final:
        zoo.finalize()
    return zoo


def plan(spec: ZooSpec, out: Path, data_dir: str | None = None) -> Plan:
    """Check a spec and the folder of its zoo, and list what is missing; nothing is written.

    Raises:
        NotFound, BadInput: the spec names something that does not exist or fit.
        CannotResume: the folder holds a zoo of another spec.
    """
    there: set[str] = set()
    if spec.checkpoints:
        imports = list_imports(spec)
        specs = {foreign.spec.name: foreign.spec for foreign in imports}
        jobs = []
    else:
        trainer = Trainer(spec, data_dir=data_dir)
        trainer.check()
        imports, specs, jobs = [], trainer.specs, trainer.jobs()
    if (out / "zoo.json").exists():
        zoo = _open_or_create(spec, out)
        there = {r.id for r in zoo.records} - set(find_damaged(zoo))
    sizes = {name: arch.size for name, arch in specs.items()}
    missing = [job for job in jobs if job.id not in there], [f for f in imports if f.id not in there]
    return Plan(len(jobs) + len(imports), *missing, sizes)


def _import(spec: ZooSpec, out: Path, files: list[Foreign], progress: bool) -> Zoo:
    zoo = _open_or_create(spec, out)
    zoo.drop(find_damaged(zoo))
    try:
        with _progress_bar(progress) as bar:
            task = bar.add_task("importing", total=len(files))
            say = partial(bar.console.print, markup=False, highlight=False, soft_wrap=True)
            import_all(zoo, files, say if progress else lambda line: None, lambda: bar.advance(task))
    finally:
        if not zoo.is_final:
            zoo.finalize()
    return zoo


def _open_or_create(spec: ZooSpec, out: Path) -> Zoo:
    content = spec.content()
    if not (out / "zoo.json").exists():
        return Zoo.create(out, spec.name, licence=spec.licence, spec=content)
    zoo = Zoo.open(out)
    changed = _changes(_recorded(zoo), content)
    if changed:
        raise CannotResume(
            f"{out} holds a zoo of another spec ({len(zoo)} networks)",
            f"changed: {'; '.join(changed[:5])}",
            "Build into another folder with --out, or restore the spec.",
        )
    return zoo


def _recorded(zoo: Zoo) -> dict[str, Any]:
    """The spec that a zoo was built from, with what later versions have added to specs."""
    recorded = zoo.info.get("spec") or {}
    try:
        return ZooSpec.model_validate(recorded).content()
    except ValidationError:
        return recorded


def _train_here(trainer: Trainer, jobs: list[Job]) -> Generator[Done, None, None]:
    for job in jobs:
        yield trainer.train(job)


def _collect(zoo: Zoo, trainer: Trainer, results: Iterator[Done], total: int, progress: bool) -> None:
    """Write results as they come, also those at hand when the build is interrupted."""
    kept: list[Done] = []
    last = time.monotonic()

    def flush() -> None:
        batch = kept.copy()
        kept.clear()  # first: a batch whose writing is interrupted is not written a second time
        zoo.add([(trainer.record(done), done.weights) for done in batch])

    with _progress_bar(progress) as bar:
        task = bar.add_task("training", total=total)
        try:
            for done in results:
                kept.append(done)
                bar.advance(task)
                if len(kept) >= _FLUSH_NETWORKS or time.monotonic() - last > _FLUSH_SECONDS:
                    flush()
                    last = time.monotonic()
        finally:
            if kept:
                flush()


def _progress_bar(visible: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    left = (TextColumn("left"), TimeRemainingColumn())
    return Progress(*columns, *left, console=Console(stderr=True), disable=not visible)


def _worker_count(spec: ZooSpec, workers: int | None) -> int:
    chosen = spec.workers if workers is None else workers
    if chosen is None:
        return os.cpu_count() or 1
    if chosen < 0:
        raise BadInput(f"{chosen} workers", "0 trains in this process, n in n others", "Give a number from 0 up.")
    return chosen


def _changes(before: Any, now: Any, where: str = "") -> list[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        places = {key: f"{where}.{key}" if where else key for key in sorted({*before, *now})}
        return [line for key, place in places.items() for line in _changes(before.get(key), now.get(key), place)]
    return [] if before == now else [f"{where} was {before!r}, is {now!r}"]
