"""Adds foreign checkpoints to a zoo, each as soon as it is read.

A checkpoint that cannot be read or fetched, or does not fit, is named and left out; the others are added, and the
import then ends with an error. A second run takes up what is missing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import torch

from popgen.data import DataSet, Part
from popgen.data.classes import match_classes
from popgen.errors import BadInput, CannotResume, Offline, PopgenError
from popgen.networks.train import evaluate
from popgen.tasks import get_task, score_key
from popgen.types import StateDict
from popgen.zoo.imports.causes import write_cause
from popgen.zoo.imports.checkpoint import ForeignCheckpoint, import_checkpoint
from popgen.zoo.imports.fetch import is_cached
from popgen.zoo.record import Checkpoint, weights_sha256
from popgen.zoo.store import Zoo

_ERRORS = 3.0  # a stated and a measured accuracy that differ by more standard errors than this are not the same


def import_checkpoints(
    zoo: Zoo,
    foreign_checkpoints: Sequence[ForeignCheckpoint],
    *,
    evaluate_on: DataSet | None = None,
    keep_twins: bool = False,
    on_import: Callable[[Checkpoint, bool], None] = lambda _record, _is_new: None,
    on_remark: Callable[[str], None] = lambda _: None,
    on_done: Callable[[], None] = lambda: None,
) -> list[Checkpoint]:
    """Add foreign checkpoints to a zoo, finalise it and return the new records; those that it already has are skipped.

    Args:
        evaluate_on: a data set on whose test split each new checkpoint is evaluated; the score and loss are recorded as
            test_accuracy (or the unit of the architecture's task) and test_loss.
        keep_twins: whether a checkpoint is added whose weights and data set are those of another one.
        on_import: called after each checkpoint with its record and whether it is new.
        on_remark: called with one line of text for every checkpoint that is left out, and on what the user should know.
        on_done: called after every checkpoint, whether it was added or left out.

    Raises:
        NotFound, BadInput: an architecture does not exist or run, or a description is incomplete; nothing is read then.
        PopgenError: a checkpoint was left out; the class is that of the first error. All others have been added.
        CannotResume: the zoo cannot be written, or another process has added checkpoints to it.
    """
    foreign_checkpoints = _checked(foreign_checkpoints, evaluate_on)
    problems: list[tuple[str, PopgenError]] = []
    added: list[str] = []
    unreachable: set[str] = set()  # Hosts that did not answer once are not asked again.
    tell = on_remark if len(foreign_checkpoints) > 1 else lambda _: None  # The error itself tells of a single one.
    with _writing(zoo):
        for foreign in foreign_checkpoints:
            is_new = foreign.id not in zoo
            try:
                _check_reachable(foreign, unreachable)
                if (record := _add(zoo, foreign, evaluate_on, keep_twins, on_remark)) is not None:
                    added += [record.id] if is_new else []
                    on_import(record, is_new)
            except PopgenError as error:
                if isinstance(error, CannotResume):  # The zoo itself cannot go on.
                    raise
                problems.append((foreign.id, error))
                unreachable |= {_host(foreign)} if isinstance(error, Offline) else set()
                tell(f"{foreign.id} is left out: {error.what}: {error.why}")
            on_done()
    if problems:
        raise _summary(problems, len(foreign_checkpoints), zoo.folder)
    return [zoo.record(checkpoint_id) for checkpoint_id in added]


@contextmanager
def _writing(zoo: Zoo) -> Iterator[None]:
    """Finalise the zoo at the end, also where an import is interrupted.

    Raises:
        CannotResume: the operating system does not let its folder be written.
    """
    try:
        try:
            yield
        finally:
            if not zoo.is_final:
                zoo.finalize()
    except OSError as error:
        raise write_cause(f"the zoo {zoo.folder}", error) from error


def _checked(foreign_checkpoints: Sequence[ForeignCheckpoint], data: DataSet | None) -> list[ForeignCheckpoint]:
    """The checkpoints, with the class names of `data` where they have none, after a check of their descriptions."""
    names = data.classes if data is not None else ()
    named = [f if f.class_names or f.labels else replace(f, class_names=names) for f in foreign_checkpoints]
    for foreign in named:
        foreign.check()
    return named


def _add(
    zoo: Zoo,
    foreign: ForeignCheckpoint,
    evaluate_on: DataSet | None,
    keep_twins: bool,
    on_remark: Callable[[str], None],
) -> Checkpoint | None:
    """Read a checkpoint and add it to the zoo.

    Returns:
        The zoo's record, which may have been there before, or None if the checkpoint is a twin that was left out.

    Raises:
        BadInput: the zoo has other weights under its id.
        PopgenError: as `import_checkpoint` and `Zoo.add`.
    """
    record, state = import_checkpoint(foreign, on_remark)
    sha256 = weights_sha256(foreign.arch_spec.to_flat(state))
    if record.id in zoo:
        if zoo.record(record.id).sha256 != sha256:
            raise BadInput(
                f"{foreign.where}: the zoo has {record.id!r} with other weights",
                "ids are unique",
                "Give it another name: popgen zoo import --name, or `name` in the spec or the index.",
            )
        return zoo.record(record.id)
    twin = next((r for r in zoo.records if r.sha256 == sha256 and r.arch_config == record.arch_config), None)
    if twin is not None:
        is_left_out = twin.data == record.data and not keep_twins
        on_remark(f"{record.id} has the same weights as {twin.id}{': it is left out' if is_left_out else ''}")
        if is_left_out:
            return None
    if evaluate_on is not None:
        record = _evaluated(record, state, foreign, evaluate_on, on_remark)
    zoo.add([(record, state)])
    return zoo.record(record.id)


def _evaluated(
    record: Checkpoint,
    state: StateDict,
    foreign: ForeignCheckpoint,
    data: DataSet,
    on_remark: Callable[[str], None],
) -> Checkpoint:
    """The record with score and loss on the test split; a stated accuracy that differs from the score gets a remark."""
    test = _in_order_of(record.classes, data)
    loss, score = evaluate(foreign.arch_spec.for_classes(data.label_phrases), state, test)
    unit = get_task(record.arch_config.task).unit
    stated = next(((k, v) for k, v in record.metrics.items() if k.startswith("accuracy")), None)
    if unit == "accuracy" and stated is not None and (remark := _difference(stated[1], score, len(data.test))):
        on_remark(f"{record.id}: {stated[0]} is {stated[1]:.3f}, {remark}")
    metrics = {**record.metrics, "test_loss": loss, score_key(unit, "test"): score}
    return record.model_copy(update={"metrics": metrics})


def _in_order_of(classes: Sequence[str], data: DataSet) -> Part:
    """The test split with targets that number the classes as a network does, where it knows all of the data set's by name."""
    rows = [row for row in match_classes(data.classes, classes) if row is not None]
    if len(rows) < len(data.classes):
        return data.test
    return Part(data.test.inputs, torch.tensor(rows)[data.test.targets])


def _difference(stated: float, measured: float, images: int) -> str:
    """The remark on a measured accuracy that is further from the stated one than chance explains, or "".

    >>> _difference(0.9, 0.85, 1000)
    'and .850 was measured on 1000 test images, 5.3 standard errors below'
    >>> _difference(0.9, 0.89, 1000)
    ''
    """
    expected = (stated * images + 1) / (images + 2)  # one hit and one miss more, so that no error is zero
    error = math.sqrt(expected * (1 - expected) / images) if images else math.inf
    distance = (measured - stated) / error
    if abs(distance) <= _ERRORS:
        return ""
    side = "above" if distance > 0 else "below"
    shown = f"{measured:.3f}".removeprefix("0")
    return f"and {shown} was measured on {images} test images, {abs(distance):.1f} standard errors {side}"


def _check_reachable(foreign: ForeignCheckpoint, unreachable: set[str]) -> None:
    """Refuse a download from a host that did not answer before.

    Raises:
        Offline: the host did not answer, and the file is not in the cache.
    """
    if _host(foreign) in unreachable and not is_cached(foreign.url):
        raise Offline(f"{foreign.where} could not be fetched", "its host did not answer before", "")


def _host(foreign: ForeignCheckpoint) -> str:
    """Host of a download; hub entries get a host each, since torch.hub may have their repositories in its cache."""
    return urlsplit(foreign.url).netloc or f"hub {foreign.id}"


def _summary(problems: list[tuple[str, PopgenError]], total: int, folder: Path) -> PopgenError:
    """The error at the end of an import: the only one itself, or the first one with the number of all."""
    first_id, first = problems[0]
    if total == 1:
        return first
    return type(first)(
        f"{len(problems)} of {total} checkpoints were not imported into {folder}; the first is {first_id}",
        f"{first.what}: {first.why}",
        f"{first.todo} Then run this again; only missing checkpoints are imported.",
    )
