"""Builds the zoo of a spec: every missing network is trained, on Ray or in this process, or is imported.

The number of workers changes the time and nothing else: a network depends on its architecture, data set, seed, recipe
and start alone. Trained networks are written every few seconds. An interrupted build continues where it stopped, and
damaged networks are made again.
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

from popgen.archs import remember_builders
from popgen.configs.spec import ZooSpec
from popgen.data.folder import data_folder
from popgen.data.names import trust_sources
from popgen.errors import BadInput, CannotResume
from popgen.progress import Bars
from popgen.zoo.build.trainer import TrainedNetwork, Trainer, TrainingRun
from popgen.zoo.imports.add import import_checkpoints
from popgen.zoo.imports.checkpoint import ForeignCheckpoint
from popgen.zoo.imports.spec import list_imports
from popgen.zoo.record import Checkpoint
from popgen.zoo.store import Zoo
from popgen.zoo.unfinished import is_empty, remove_empty, removed_if_empty
from popgen.zoo.verify import find_damaged

# Trained networks are written when this many wait or this much time has passed, so a killed build loses no more.
_WRITE_SECONDS, _WRITE_NETWORKS = 5.0, 32


@dataclass(frozen=True)
class Plan:
    """The networks that a build would train or import."""

    total: int  # number of networks in the finished zoo
    to_train: list[TrainingRun]  # runs whose networks are missing or damaged
    to_import: list[ForeignCheckpoint]  # checkpoints that are missing or damaged
    sizes: dict[str, int]  # number of parameters of each architecture, by its name
    remarks: tuple[str, ...] = ()  # what was read of the data sets and what was passed over


def build_zoo(
    spec: ZooSpec, out: Path, *, workers: int | None = None, progress: bool = True, data_dir: str | None = None
) -> Zoo:
    """Train or import the networks of a spec that the zoo in `out` lacks, finalise the zoo and return it.

    Code from outside that the spec names is trusted on this machine from then on.

    Args:
        workers: number of worker processes; 0 trains in this process; None takes the spec's number, or if that is null
            one worker for each CPU core.
        data_dir: folder of named data sets; None takes POPGEN_DATA, or if that is not set ./data.

    Raises:
        NotFound, BadInput: the spec names something that does not exist or fit; raised before anything is trained.
        PopgenError: a checkpoint cannot be fetched or does not fit; raised after all others have been imported.
        CannotResume: the folder holds a zoo of another spec, or a worker died.

    >>> import tempfile
    >>> spec = ZooSpec(name="two", archs=["mlp-s"], data=["digits"], seeds=[0, 1], recipe={"epochs": 1})
    >>> len(build_zoo(spec, Path(tempfile.mkdtemp()), workers=0, progress=False))
    2
    """
    planned = plan(spec, out, data_dir)
    with removed_if_empty(out):
        for text in planned.remarks:
            Bars(progress).print(text)
        if spec.checkpoints:
            zoo = _import(spec, out, planned.to_import, progress)
        else:
            count = min(_worker_count(spec, workers), len(planned.to_train))
            zoo = _train(spec, out, planned.to_train, count, progress, data_dir)
    remember_builders(zoo.spec(arch).config for arch in zoo.archs)
    return zoo


def plan(spec: ZooSpec, out: Path, data_dir: str | None = None) -> Plan:
    """Check a spec and the folder of its zoo, and return the networks that are missing; nothing is written.

    Raises:
        NotFound, BadInput: the spec names something that does not exist or fit.
        CannotResume: the folder holds a zoo of another spec.
    """
    trust_sources(spec.data_names)
    runs: list[TrainingRun] = []
    imports: list[ForeignCheckpoint] = []
    remarks: tuple[str, ...] = ()
    if spec.checkpoints:
        imports = list_imports(spec)
        arch_specs = {foreign.arch_spec.name: foreign.arch_spec for foreign in imports}
    else:
        trainer = Trainer(spec, data_dir=data_dir)
        remarks = trainer.check()
        runs, arch_specs = trainer.runs(), trainer.arch_specs
    sound_ids: set[str] = set()
    if (out / "zoo.json").exists() and not is_empty(out):
        zoo = _open_or_create(spec, out)
        sound_ids = {r.id for r in zoo.records} - set(find_damaged(zoo))
    return Plan(
        total=len(runs) * spec.recipe.snapshots + len(imports),
        to_train=[run for run in runs if not sound_ids.issuperset(run.ids(spec.recipe))],
        to_import=[foreign for foreign in imports if foreign.id not in sound_ids],
        sizes={name: arch_spec.size for name, arch_spec in arch_specs.items()},
        remarks=remarks,
    )


def _train(
    spec: ZooSpec, out: Path, runs: list[TrainingRun], workers: int, progress: bool, data_dir: str | None
) -> Zoo:
    """Train the networks of `runs` into the zoo in `out` and finalise it."""
    zoo = _open_or_create(spec, out)
    zoo.drop(find_damaged(zoo))
    folder = str(data_folder(data_dir))
    trainer = Trainer(spec, data_dir=folder)
    stored = {name: flat for name in trainer.arch_specs if (flat := zoo.start(name)) is not None}
    if stored:  # The stored starts are used again because another version of torch could draw other values.
        trainer = Trainer(spec, stored, folder)
    elif trainer.starts:
        zoo.set_starts(trainer.starts, trainer.bases)
    if runs:
        from popgen.zoo.build.workers import train_on_ray  # noqa: PLC0415 - it imports Ray

        trained = train_on_ray(spec, trainer.starts, runs, workers, folder) if workers else _train_here(trainer, runs)
        with closing(trained):
            _collect(zoo, trainer, trained, len(runs), progress)
    if not zoo.is_final:
        zoo.finalize()
    return zoo


def _import(spec: ZooSpec, out: Path, to_import: list[ForeignCheckpoint], progress: bool) -> Zoo:
    zoo = _open_or_create(spec, out)
    zoo.drop(find_damaged(zoo))
    done = 0

    with Bars(progress) as bars:

        def show(record: Checkpoint, is_new: bool) -> None:
            if is_new and "matched by order" in record.note:
                bars.print(f"{record.id}: {record.note}")

        def advance() -> None:
            nonlocal done
            done += 1
            bars.update("importing", done, len(to_import))

        # A spec names each of its checkpoints, so twins are kept.
        import_checkpoints(zoo, to_import, keep_twins=True, on_import=show, on_remark=bars.print, on_done=advance)
    return zoo


def _open_or_create(spec: ZooSpec, out: Path) -> Zoo:
    """Open the zoo in `out`, or create it; a zoo of another spec is refused if it has checkpoints."""
    content = spec.content()
    create = partial(Zoo.create, out, spec.name, licence=spec.licence, spec=content)
    if not (out / "zoo.json").exists():
        return create()
    zoo = Zoo.open(out)
    changes = _changes(_recorded_spec(zoo), content)
    if changes and is_empty(out):  # as a build leaves it that is killed before its first network
        remove_empty(out)
        return create()
    if changes:
        raise CannotResume(
            f"{out} holds a zoo of another spec ({len(zoo)} networks)",
            f"changed: {'; '.join(changes[:5])}",
            "Build into another folder with --out, or restore the spec.",
        )
    return zoo


def _recorded_spec(zoo: Zoo) -> dict[str, Any]:
    """Content of the spec that a zoo was built from; fields that it does not have yet get their defaults."""
    recorded = zoo.info.get("spec") or {}
    try:
        return ZooSpec.model_validate(recorded).content()
    except ValidationError:
        return recorded


def _train_here(trainer: Trainer, runs: list[TrainingRun]) -> Generator[list[TrainedNetwork], None, None]:
    for run in runs:
        yield trainer.train(run)


def _collect(zoo: Zoo, trainer: Trainer, trained: Iterator[list[TrainedNetwork]], total: int, progress: bool) -> None:
    """Write the networks of runs to the zoo as they arrive, and those that wait when the build is interrupted."""
    waiting: list[TrainedNetwork] = []
    last_write = time.monotonic()

    def write() -> None:
        batch = waiting.copy()
        waiting.clear()  # Cleared before the write, so that a batch whose write is interrupted is not written twice.
        zoo.add([(trainer.record(network), network.weights) for network in batch])

    with Bars(progress) as bars:
        bars.update("training", 0, total)
        try:
            for done, networks in enumerate(trained, start=1):
                waiting += [network for network in networks if network.id not in zoo]
                bars.update("training", done, total)
                if len(waiting) >= _WRITE_NETWORKS or time.monotonic() - last_write > _WRITE_SECONDS:
                    write()
                    last_write = time.monotonic()
        finally:
            if waiting:
                write()


def _worker_count(spec: ZooSpec, workers: int | None) -> int:
    count = spec.workers if workers is None else workers
    if count is None:
        return os.cpu_count() or 1
    if count < 0:
        raise BadInput(f"{count} workers", "0 trains in this process, n in n others", "Give a number from 0 up.")
    return count


def _changes(before: Any, now: Any, path: str = "") -> list[str]:
    """One line for each value that differs between two JSON values, with its dotted path of keys."""
    if isinstance(before, dict) and isinstance(now, dict):
        paths = {key: f"{path}.{key}" if path else key for key in sorted({*before, *now})}
        return [line for key, inner in paths.items() for line in _changes(before.get(key), now.get(key), inner)]
    return [] if before == now else [f"{path} was {before!r}, is {now!r}"]
