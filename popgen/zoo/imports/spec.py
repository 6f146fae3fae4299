"""Lists the checkpoints of a zoo's spec, and checks all of them without their weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from popgen.archs.hub import parse_hub
from popgen.configs.spec import ArchEntry, CheckpointEntry, ZooSpec
from popgen.errors import BadInput, NotFound, near_matches
from popgen.refs import inside
from popgen.zoo.imports.checkpoint import ForeignCheckpoint
from popgen.zoo.imports.fetch import file_name
from popgen.zoo.imports.listing import list_checkpoints

_NAMED_FILES = 6  # names of missing files in an error message


def list_imports(zoo_spec: ZooSpec) -> list[ForeignCheckpoint]:
    """The checkpoints of a zoo's spec, in its order; no weights are read, and only code of architectures is fetched.

    Raises:
        NotFound: a file, an architecture or a held-out lineage or data set does not exist.
        BadInput: an architecture does not run, the class names are not as many as its outputs, an id occurs twice, or
            two architectures share a name.
    """
    archs = {entry.name: entry for entry in zoo_spec.archs}
    found = [_complete(f, archs, zoo_spec) for entry in zoo_spec.checkpoints for f in _list_entry(entry, zoo_spec)]
    missing = [f.where for f in found if not (f.hub or f.url or f.path.is_file())]
    if missing:
        more = ", ..." if missing[_NAMED_FILES:] else ""
        what = f"{len(missing)} of the {len(found)} checkpoints of {zoo_spec.name} are not there"
        raise NotFound(
            what, ", ".join(missing[:_NAMED_FILES]) + more, "Correct zoo.root (--set zoo.root=FOLDER) or the names."
        )
    ids, configs = set[str](), {f.arch_spec.name: f.arch_spec.config for f in found}
    for foreign in found:
        foreign.check()
        if foreign.id in ids:
            raise BadInput(f"{zoo_spec.name} has {foreign.id!r} twice", f"at {foreign.where}", "Give one another name.")
        arch = foreign.arch_spec.name
        if configs[arch] != foreign.arch_spec.config:
            what = f"{zoo_spec.name} has two architectures called {arch!r}"
            raise BadInput(what, f"at {foreign.where}", "Rename one.")
        ids.add(foreign.id)
    _check_held_out(zoo_spec, found)
    return found


def _list_entry(entry: CheckpointEntry, zoo_spec: ZooSpec) -> Iterator[ForeignCheckpoint]:
    """The checkpoints of one entry of the spec: as many as an index CSV describes, else one."""
    default = ForeignCheckpoint(
        Path(entry.name or "-"),
        data=entry.data,
        lineage=entry.lineage,
        parent=entry.parent,
        source=entry.source or (entry.url or entry.hub or ""),
        licence=entry.licence or zoo_spec.licence,
        key=entry.key,
        use=entry.use or "",
        ignore=tuple(entry.ignore),
        metrics=entry.metrics,
        name=entry.name or "",
        class_names=tuple(entry.class_names),
        changes=entry.arch,
        sha256=entry.digest,
    )
    if entry.file is not None:
        yield replace(default, path=inside(zoo_spec.root_folder, entry.file))
    elif entry.index is not None:
        path = inside(zoo_spec.root_folder, entry.index)
        if not path.is_file():
            why = f"it is an index of {zoo_spec.name}"
            raise NotFound(f"{path} does not exist", why, "Correct zoo.root or the name.")
        yield from list_checkpoints(path, default)
    elif entry.url is not None:
        yield replace(default, path=Path(file_name(entry.url)), url=entry.url)
    else:
        name = f"hub:{(entry.hub or '').removeprefix('hub:')}"
        yield replace(default, path=Path(parse_hub(name)[0].entry), hub=name)


def _complete(foreign: ForeignCheckpoint, archs: dict[str, ArchEntry], zoo_spec: ZooSpec) -> ForeignCheckpoint:
    """The checkpoint with its architecture as the spec's `archs` define it, and marked if it is held out.

    Raises:
        BadInput: its architecture or data set is not given.
    """
    given = ArchEntry(name=foreign.arch) if foreign.arch else foreign.changes
    if given is None or not foreign.data:
        raise BadInput(
            f"{foreign.where}: its {'data set' if given else 'architecture'} is not given",
            "neither its line of the index CSV nor the spec says it",
            "Add it to the entry in the spec.",
        )
    is_name_only = not given.like and not given.replaced.keys() - {"name"}
    entry = archs.get(given.name, given) if is_name_only else given
    held_out = zoo_spec.is_held_out(foreign.data, lineage=foreign.lineage or foreign.stem)
    return replace(foreign, arch=entry.like or entry.name, changes=entry, held_out=held_out)


def _check_held_out(zoo_spec: ZooSpec, found: Sequence[ForeignCheckpoint]) -> None:
    """Refuse a held-out lineage or data set of which there is no checkpoint."""
    for key, held_out, known in (
        ("lineages", zoo_spec.held_out.lineages, {f.lineage or f.stem for f in found}),
        ("data", zoo_spec.held_out.data, {f.data for f in found}),
    ):
        for name in held_out:
            if name not in known:
                what = f"held_out.{key} of {zoo_spec.name} has {name!r}, but no checkpoint has that"
                raise NotFound(what, f"nearest known: {near_matches(name, known)}", "Correct the spec.")
