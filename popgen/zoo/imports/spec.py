"""The zoo of a spec that lists checkpoints: all of them checked as far as can be without their weights, then imported one by one.

A checkpoint that cannot be read, does not fit or is not reachable is named and left out; the others come in, and the build ends with an error.
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
from popgen.zoo.imports.checkpoint import Foreign, import_checkpoint, list_files
from popgen.zoo.imports.fetch import file_name, is_cached
from popgen.zoo.store import Zoo

_SHOWN = 6


def list_imports(spec: ZooSpec) -> list[Foreign]:
    """Every network of the spec, in its order; no weights are read and nothing is fetched but architectures.

    Raises:
        NotFound: a file, an architecture or a held-out lineage that does not exist.
        BadInput: an architecture that does not run, names of classes that are not as many as its outputs, or an id twice.
    """
    archs = {entry.name: entry for entry in spec.archs}
    found = [_placed(f, archs, spec) for entry in spec.checkpoints for f in _files(entry, spec)]
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


def import_all(zoo: Zoo, files: Sequence[Foreign], say: Callable[[str], None], advance: Callable[[], None]) -> None:
    """Add networks to a zoo, each as soon as it is read.

    Args:
        say: called with one line for every network that is left out.
        advance: called after each.

    Raises:
        PopgenError: of the first one left out, when all others are in the zoo.
    """
    problems: list[tuple[str, PopgenError]] = []
    silent: set[str] = set()  # hosts that did not answer are not asked again
    for foreign in files:
        try:
            if _host(foreign) in silent and not is_cached(foreign.url):
                raise Offline(f"{foreign.where} could not be fetched", "its host did not answer before", "")
            zoo.add([import_checkpoint(foreign)])
        except PopgenError as error:
            problems.append((foreign.id, error))
            say(f"{foreign.id} is left out: {error.what}: {error.why}")
            if isinstance(error, Offline):
                silent.add(_host(foreign))
        advance()
    if problems:
        first_id, first = problems[0]
        raise type(first)(
            f"{len(problems)} of {len(files)} checkpoints did not come into {zoo.folder}; the first is {first_id}",
            f"{first.what}: {first.why}",
            f"{first.todo} Then run this again; it goes on with those that are missing.",
        )


def _host(foreign: Foreign) -> str:
    """Where a download comes from; a repository of torch.hub may be in its cache, and is always asked for."""
    return urlsplit(foreign.url).netloc or f"hub {foreign.id}"


def _files(entry: CheckpointEntry, spec: ZooSpec) -> Iterator[Foreign]:
    default = Foreign(
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


def _placed(foreign: Foreign, archs: dict[str, ArchEntry], spec: ZooSpec) -> Foreign:
    """With its architecture as the spec has it, and whether it is held out."""
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


def _check_held_out(spec: ZooSpec, found: Sequence[Foreign]) -> None:
    for kind, asked, known in (
        ("lineages", spec.held_out.lineages, {f.lineage or f.stem for f in found}),
        ("data", spec.held_out.data, {f.data for f in found}),
    ):
        for name in asked:
            if name not in known:
                what = f"held_out.{kind} of {spec.name} has {name!r}, which no checkpoint is of"
                raise NotFound(what, f"nearest known: {near_matches(name, known)}", "Correct the spec.")
