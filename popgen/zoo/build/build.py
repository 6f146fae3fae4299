"""Builds the zoo of a spec: trains or imports every network that is missing.

Networks are trained in this process, or on Ray with one worker for each CPU core. The number of workers changes only
the time: a network depends only on its architecture, data set, seed and recipe. Finished networks are written every few
seconds, so an interrupted build continues where it stopped. Damaged networks are trained again.
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
from popgen.zoo.build.trainer import TrainedNetwork, Trainer, TrainingRun
from popgen.zoo.build.workers import train_on_ray
from popgen.zoo.imports.checkpoint import ForeignCheckpoint
from popgen.zoo.imports.spec import import_all, list_imports
from popgen.zoo.store import Zoo
from popgen.zoo.verify import find_damaged

_FLUSH_SECONDS, _FLUSH_NETWORKS = 5.0, 32  # A killed build loses at most this.


@dataclass(frozen=True)
class Plan:
    """The work of a build.

    Attributes:
        total: number of networks in the finished zoo.
        to_train: networks to train, because they are missing or damaged.
        to_import: checkpoints to import, because they are missing or damaged.
        sizes: number of parameters of each architecture.
    """

    total: int
    to_train: list[TrainingRun]
    to_import: list[ForeignCheckpoint]
    sizes: dict[str, int]


def build_zoo(
    spec: ZooSpec, out: Path, *, workers: int | None = None, progress: bool = True, data_dir: str | None = None
) -> Zoo:
    """Train or import the networks of the spec that the zoo in `out` lacks, and finalize the zoo.

    Args:
        workers: number of processes; 0: this process; None: the spec's number, or one for each CPU core.
        data_dir: the folder of named data sets; None: POPGEN_DATA, else ./data.

    Raises:
        NotFound, BadInput: the spec names something that does not exist or does not fit; raised before any training.
        PopgenError: some checkpoints could not be read or do not fit; raised after all others have been imported.
        CannotResume: the folder holds a zoo of another spec, or a worker died.

    >>> import tempfile
    >>> spec = ZooSpec(name="two", archs=["mlp-s"], data=["digits"], seeds=[0, 1], recipe={"epochs": 1})
    >>> len(build_zoo(spec, Path(tempfile.mkdtemp()), workers=0, progress=False))
    2
    """
    todo = plan(spec, out, data_dir)
    if spec.checkpoints:
        return _import(spec, out, todo.to_import, progress)
    runs = todo.to_train
    workers = min(_worker_count(spec, workers), len(runs))
    zoo = _open_or_create(spec, out)
    zoo.drop(find_damaged(zoo))
    folder = str(data_folder(data_dir))
    trainer = Trainer(spec, data_dir=folder)
    stored = {name: flat for name in trainer.specs if (flat := zoo.start(name)) is not None}
    if stored:
        trainer = Trainer(spec, stored, folder)  # Another version of torch could draw other starts from the same seed.
    elif trainer.starts:
        zoo.set_starts(trainer.starts)
    if runs:
        trained = train_on_ray(spec, trainer.starts, runs, workers, folder) if workers else _train_here(trainer, runs)
        with closing(trained):
            _collect(zoo, trainer, trained, len(runs), progress)
    if not zoo.is_final:
        zoo.finalize()
    return zoo


def plan(spec: ZooSpec, out: Path, data_dir: str | None = None) -> Plan:
    """Check a spec and the folder of its zoo, and list the networks that are missing; nothing is written.

    Raises:
        NotFound, BadInput: the spec names something that does not exist or does not fit.
        CannotResume: the folder holds a zoo of another spec.
    """
    done: set[str] = set()
    if spec.checkpoints:
        imports = list_imports(spec)
        specs = {foreign.spec.name: foreign.spec for foreign in imports}
        runs = []
    else:
        trainer = Trainer(spec, data_dir=data_dir)
        trainer.check()
        imports, specs, runs = [], trainer.specs, trainer.runs()
    if (out / "zoo.json").exists():
        zoo = _open_or_create(spec, out)
        done = {r.id for r in zoo.records} - set(find_damaged(zoo))
    sizes = {name: arch.size for name, arch in specs.items()}
    to_train = [run for run in runs if run.id not in done]
    to_import = [foreign for foreign in imports if foreign.id not in done]
    return Plan(len(runs) + len(imports), to_train, to_import, sizes)


def _import(spec: ZooSpec, out: Path, files: list[ForeignCheckpoint], progress: bool) -> Zoo:
    zoo = _open_or_create(spec, out)
    zoo.drop(find_damaged(zoo))
    try:
        with _progress_bar(progress) as bar:
            task = bar.add_task("importing", total=len(files))
            show = partial(bar.console.print, markup=False, highlight=False, soft_wrap=True)
            import_all(zoo, files, show if progress else lambda line: None, lambda: bar.advance(task))
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
    """Return the spec that a zoo was built from, completed with the defaults of keys that later versions added."""
    recorded = zoo.info.get("spec") or {}
    try:
        return ZooSpec.model_validate(recorded).content()
    except ValidationError:
        return recorded


def _train_here(trainer: Trainer, runs: list[TrainingRun]) -> Generator[TrainedNetwork, None, None]:
    for run in runs:
        yield trainer.train(run)


def _collect(zoo: Zoo, trainer: Trainer, trained: Iterator[TrainedNetwork], total: int, progress: bool) -> None:
    """Write networks as they are finished; when the build is interrupted, those still in memory are written, too."""
    kept: list[TrainedNetwork] = []
    last = time.monotonic()

    def flush() -> None:
        batch = kept.copy()
        kept.clear()  # This comes first, so that a batch whose writing is interrupted is not written a second time.
        zoo.add([(trainer.record(network), network.weights) for network in batch])

    with _progress_bar(progress) as bar:
        task = bar.add_task("training", total=total)
        try:
            for network in trained:
                kept.append(network)
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
    """Return one line for each value that differs between two nested mappings."""
    if isinstance(before, dict) and isinstance(now, dict):
        paths = {key: f"{where}.{key}" if where else key for key in sorted({*before, *now})}
        return [line for key, path in paths.items() for line in _changes(before.get(key), now.get(key), path)]
    return [] if before == now else [f"{where} was {before!r}, is {now!r}"]
