"""Import of all checkpoints that a zoo's spec lists.

First all are checked as far as is possible without reading weights, then they are imported one by one. A checkpoint
that cannot be read, does not fit or cannot be downloaded is named and left out. The others are imported, and the build
ends with an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from popgen.archs.hub import parse_hub
from popgen.configs.spec import ArchEntry, CheckpointEntry, ZooSpec
from popgen.errors import BadInput, NotFound, Offline, PopgenError, near_matches
from popgen.refs import inside
from popgen.zoo.imports.checkpoint import ForeignCheckpoint, import_checkpoint, list_files
from popgen.zoo.imports.fetch import file_name, is_cached
from popgen.zoo.store import Zoo

_SHOWN = 6  # names in a message, at most


def list_imports(spec: ZooSpec) -> list[ForeignCheckpoint]:
    """List all checkpoints of the spec, in its order; no weights are read, and only architectures are downloaded.

    Raises:
        NotFound: a file, an architecture or a held-out lineage does not exist.
        BadInput: an architecture does not run, the number of class names is not that of its outputs, or an id occurs
            twice.
    """
    archs = {entry.name: entry for entry in spec.archs}
    found = [_completed(f, archs, spec) for entry in spec.checkpoints for f in _files(entry, spec)]
    missing = [f.where for f in found if not (f.hub or f.url or f.path.is_file())]
    if missing:
        more = ", ..." if missing[_SHOWN:] else ""
        what = f"{len(missing)} of the {len(found)} checkpoints of {spec.name} are not there"
        raise NotFound(
            what, ", ".join(missing[:_SHOWN]) + more, "Correct zoo.root (--set zoo.root=FOLDER) or the names."
        )
    ids, configs = set[str](), {f.spec.name: f.spec.config for f in found}
    for foreign in found:
        foreign.check()
        if foreign.id in ids:
            raise BadInput(f"{spec.name} has {foreign.id!r} twice", f"at {foreign.where}", "Give one another name.")
        if configs[foreign.spec.name] != foreign.spec.config:
            name = foreign.spec.name
            raise BadInput(f"{spec.name} has two architectures called {name!r}", f"at {foreign.where}", "Rename one.")
        ids.add(foreign.id)
    _check_held_out(spec, found)
    return found


def import_all(
    zoo: Zoo, files: Sequence[ForeignCheckpoint], on_problem: Callable[[str], None], on_checkpoint: Callable[[], None]
) -> None:
    """Add checkpoints to a zoo, each as soon as it is read.

    Args:
        on_problem: called with one line for each checkpoint that is left out.
        on_checkpoint: called after each checkpoint.

    Raises:
        PopgenError: the error of the first checkpoint that is left out; raised after all others are in the zoo.
    """
    problems: list[tuple[str, PopgenError]] = []
    unreachable: set[str] = set()  # hosts that did not answer, which are not asked again
    for foreign in files:
        try:
            if _host(foreign) in unreachable and not is_cached(foreign.url):
                raise Offline(f"{foreign.where} could not be fetched", "its host did not answer before", "")
            zoo.add([import_checkpoint(foreign)])
        except PopgenError as error:
            problems.append((foreign.id, error))
            on_problem(f"{foreign.id} is left out: {error.what}: {error.why}")
            if isinstance(error, Offline):
                unreachable.add(_host(foreign))
        on_checkpoint()
    if problems:
        first_id, first = problems[0]
        raise type(first)(
            f"{len(problems)} of {len(files)} checkpoints did not come into {zoo.folder}; the first is {first_id}",
            f"{first.what}: {first.why}",
            f"{first.todo} Then run this again; it goes on with those that are missing.",
        )


def _host(foreign: ForeignCheckpoint) -> str:
    """Return the host of a download. Each torch.hub entry counts as a host: its repository may be in the cache."""
    return urlsplit(foreign.url).netloc or f"hub {foreign.id}"


def _files(entry: CheckpointEntry, spec: ZooSpec) -> Iterator[ForeignCheckpoint]:
    default = ForeignCheckpoint(
        Path(entry.name or "-"),
        data=entry.data,
        lineage=entry.lineage,
        parent=entry.parent,
        source=entry.source or (entry.url or entry.hub or ""),
        licence=entry.licence or spec.licence,
        key=entry.key,
        metrics=entry.metrics,
        name=entry.name or "",
        class_names=tuple(entry.class_names),
        changes=entry.arch,
        sha256=entry.digest,
    )
    if entry.file is not None:
        yield replace(default, path=inside(spec.root_folder, entry.file))
    elif entry.index is not None:
        path = inside(spec.root_folder, entry.index)
        if not path.is_file():
            raise NotFound(f"{path} does not exist", f"it is an index of {spec.name}", "Correct zoo.root or the name.")
        yield from list_files(path, default)
    elif entry.url is not None:
        yield replace(default, path=Path(file_name(entry.url)), url=entry.url)
    else:
        name = f"hub:{(entry.hub or '').removeprefix('hub:')}"
        yield replace(default, path=Path(parse_hub(name)[0].entry), hub=name)


def _completed(foreign: ForeignCheckpoint, archs: dict[str, ArchEntry], spec: ZooSpec) -> ForeignCheckpoint:
    """Return the checkpoint with the architecture that the spec defines, and with whether it is held out."""
    given = ArchEntry(name=foreign.arch) if foreign.arch else foreign.changes
    if given is None or not foreign.data:
        raise BadInput(
            f"{foreign.where}: its {'data set' if given else 'architecture'} is not given",
            "neither its row of the index nor the spec says it",
            "Add it to the entry in the spec.",
        )
    entry = archs.get(given.name, given) if not given.replaced.keys() - {"name"} and not given.like else given
    held = spec.is_held_out(foreign.data, lineage=foreign.lineage or foreign.stem)
    return replace(foreign, arch=entry.like or entry.name, changes=entry, held_out=held)


def _check_held_out(spec: ZooSpec, found: Sequence[ForeignCheckpoint]) -> None:
    for kind, asked, known in (
        ("lineages", spec.held_out.lineages, {f.lineage or f.stem for f in found}),
        ("data", spec.held_out.data, {f.data for f in found}),
    ):
        for name in asked:
            if name not in known:
                what = f"held_out.{kind} of {spec.name} has {name!r}, which no checkpoint is of"
                raise NotFound(what, f"nearest known: {near_matches(name, known)}", "Correct the spec.")
