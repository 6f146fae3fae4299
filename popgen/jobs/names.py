"""Refuses unknown names before torch is imported, which takes longer than everything else that a refusal needs.

The jobs check all that is checked here again, and much more: this is for the command line, where a misspelt name should
be answered at once. What cannot be decided from names alone passes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from popgen.archs.adapters.names import is_adapter
from popgen.archs.names import BUILT_IN, brings_weights, is_outside, not_trained, unknown_arch, unknown_to_generator
from popgen.archs.variants import split_options
from popgen.configs.audit import AuditConfig
from popgen.configs.generator import GeneratorConfig
from popgen.configs.merge import MergeConfig
from popgen.configs.search import EXPERT_SPACES, SearchConfig
from popgen.configs.spec import ZooSpec
from popgen.configs.sweep import SweepConfig
from popgen.data.names import check_source
from popgen.errors import NotFound, near_matches, unknown_name
from popgen.fitness.names import check_measure_name
from popgen.generator import names as generators
from popgen.hub.kinds import kind_of
from popgen.hub.names import check_repository, check_revision
from popgen.merging.names import check_method
from popgen.zoo import names as zoos
from search import SPACES, check_optimizer

BUILT_IN_GENERATOR = "digits"
# A file that every folder of a kind has, and the kind.
REPORTED = {"config.yaml": "search", "sweep.yaml": "sweep", "bench.yaml": "bench", "audit.yaml": "audit"}


def check_search_names(config: SearchConfig) -> None:
    """Refuse a search that names an unknown data set, space, generator, zoo, architecture, optimizer or objective.

    Raises:
        NotFound, SearchError: the name and what is known instead.
    """
    check_source(config.data)
    check_space(config.space)
    _check_archs(config)
    if ":" not in config.optimizer:  # a user's own may import anything
        check_optimizer(config.optimizer)
    for name in config.objectives:
        check_measure_name(name)
    for name in config.merges or ():
        check_method(name)


def check_generate_names(generator: str, archs: Iterable[str], data: str | None) -> None:
    """Refuse unknown names of a generator, of architectures to generate, and of a data set.

    Raises:
        NotFound: the name and what is known instead.
    """
    trained = generators.archs_of(generator)
    for arch in archs:
        if trained is not None and not _is_known(arch, trained):
            raise unknown_to_generator(arch, trained)
    if data is not None:
        check_source(data)


def check_adapt_names(generator: str, arch: str, data: str) -> None:
    """Refuse unknown names of a generator, of an architecture that it was not trained on, and of a data set.

    Raises:
        NotFound: the name and what is known instead.
    """
    trained = generators.archs_of(generator)
    if trained is not None and arch not in trained:
        raise not_trained(arch, trained)
    check_source(data)


def check_rank_names(zoo: str, archs: Iterable[str], data: str) -> None:
    """Refuse unknown names of a zoo, of architectures that it does not have, and of a data set.

    Raises:
        NotFound: the name and what is known instead.
    """
    known = zoos.archs_of(zoo)
    for arch in archs:
        if known is not None and arch not in known:
            raise unknown_name("architecture", arch, known, f"These are the ones in the zoo {zoo}.")
    check_source(data)


def check_merge_names(config: MergeConfig) -> None:
    """Refuse unknown names of a merging method, of a zoo, and of data sets.

    Raises:
        NotFound: the name and what is known instead.
    """
    if config.method != "all":
        check_method(config.method)
    zoos.zoo_folder(config.zoo)
    for name in config.data:
        if name != "own":
            check_source(name)


def check_audit_names(config: AuditConfig) -> None:
    """Refuse unknown names of a generator, zoo, architecture or data set to audit.

    Raises:
        NotFound: the name and what is known instead.
    """
    for zoo in (config.zoo, config.reference_zoo):
        if zoo is not None:
            zoos.zoo_folder(zoo)
    trained = None if config.generator is None else generators.archs_of(config.generator)
    for arch in config.archs:
        if trained is not None and arch not in trained:
            raise not_trained(arch, trained)
    for name in config.data:
        check_source(name)


def check_retrieve_names(generator: str, arch: str, data: str) -> None:
    """Refuse unknown names of a generator, and of an architecture or data set of whose checkpoints it has no codes.

    Raises:
        NotFound: the name and what is known instead.
    """
    trained, stored = generators.archs_of(generator), generators.stored_in(generator)
    if trained is not None and arch not in trained:
        raise not_trained(arch, trained)
    if stored is not None and (arch, data) not in stored:
        raise generators.no_checkpoint(arch, data, {of for name, of in stored if name == arch})


def check_zoo_checkpoint_names(zoo: str, arch: str) -> None:
    """Refuse unknown names of a zoo, and of an architecture of which it has no checkpoint.

    Raises:
        NotFound: the name and what is known instead.
    """
    known = zoos.archs_of(zoo)
    if known is not None and arch not in known:
        raise unknown_name("architecture", arch, known, f"These are the ones in the zoo {zoo}.")


def check_encode_names(generator: str, zoo: str | None) -> None:
    """Refuse unknown names of a generator and of a zoo whose checkpoints it shall encode.

    Raises:
        NotFound: the name and what is known instead.
    """
    if zoo is not None:
        zoos.zoo_folder(zoo)
    generators.generator_folder(generator)


def check_training_names(spec: ZooSpec, config: GeneratorConfig, zoo: str | None) -> None:
    """Refuse a training on an unknown zoo, or with an unknown architecture or data set in its spec.

    Raises:
        NotFound: the name and what is known instead.
    """
    if zoo is not None:
        zoos.zoo_folder(zoo)
    check_zoo_names(spec)
    for grid in config.tune.tasks:
        for name in grid.names:
            check_source(name)


def check_layers_names(base: str) -> None:
    """Refuse weights to rank that are neither a file nor a folder here nor a checkpoint in a known zoo.

    Raises:
        NotFound: the name and what is known instead.
    """
    zoo, is_reference, _ = base.partition("#")
    if Path(base).exists() or brings_weights(base):
        return
    if not is_reference:
        todo = "Name a .safetensors file, a folder with one, or a checkpoint as ZOO#ID."
        raise NotFound(f"there is no file or folder {base!r}", "", todo)
    zoos.zoo_folder(zoo)


def reported_kind(folder: str) -> str:
    """The kind of a folder that `popgen report` reads, one of REPORTED's.

    Raises:
        NotFound: the folder is of no such kind.
    """
    kind = next((kind for marker, kind in REPORTED.items() if (Path(folder) / marker).is_file()), None)
    if kind is None:
        raise NotFound(
            f"there is nothing to report on in {folder!r}",
            f"the folder of a search, sweep, bench or audit has one of {', '.join(REPORTED)}",
            "`popgen search`, `sweep`, `bench` and `audit` print the folder that they write.",
        )
    return kind


def check_push_names(name: str, folder: str, revision: str | None) -> None:
    """Refuse the name of a repository or branch that the hub does not take, and a folder that popgen did not write.

    Raises:
        BadInput, NotFound: what is wrong with the name or the folder.
    """
    check_repository(name)
    check_revision(revision)
    kind_of(Path(folder))


def check_import_names(arch: str, zoo: Path, evaluated_on: str | None) -> None:
    """Refuse an import of checkpoints of an unknown architecture, or one that is checked on an unknown data set.

    Args:
        arch: empty where an index names the architectures.
        zoo: the folder that they are imported into, which may be new.

    Raises:
        NotFound: the name and what is known instead.
    """
    own = zoos.archs_of(zoo) if (zoo / "zoo.json").exists() else []
    if arch and own is not None:
        _check_arch(arch, own)
    if evaluated_on is not None:
        check_source(evaluated_on)


def check_zoo_names(spec: ZooSpec) -> None:
    """Refuse a spec that names an unknown architecture or data set.

    Raises:
        NotFound: the name and what is known instead.
    """
    for entry in spec.archs:
        _check_arch(entry.like or entry.name, ())
    own = [entry.name for entry in spec.archs]
    for one in spec.checkpoints:
        if one.arch is not None:
            _check_arch(one.arch.like or one.arch.name, own)
    for name in spec.data_names:
        check_source(name)


def check_sweep_names(config: SweepConfig) -> None:
    """Refuse a sweep one of whose searches has an unknown name; see `check_search_names`.

    Raises:
        NotFound, SearchError: the name and what is known instead.
    """
    for one in config.searches():
        check_search_names(one)


def check_space(space: str | None) -> None:
    """Refuse an unknown space.

    Raises:
        NotFound: there is no such space.
    """
    if space is not None and space not in (*SPACES, *EXPERT_SPACES):
        near = near_matches(space, [*SPACES, *EXPERT_SPACES])
        raise NotFound(
            f"unknown space {space!r}",
            "known are identity, std and pca (coordinates of a generator's latent), mix, principal and low-rank (weights around experts), auto",
            f"did you mean: {near}?",
        )


def _check_arch(name: str, known: Sequence[str]) -> None:
    if not _is_known(name, known):
        raise unknown_arch(split_options(name)[0], [*BUILT_IN, *known])


def _check_archs(config: SearchConfig) -> None:
    """Refuse an architecture that is neither built in nor from outside, and that no generator or zoo here knows."""
    named = None if config.generator is None else generators.archs_of(config.generator)
    of_zoo = None if config.zoo is None else zoos.archs_of(config.zoo)
    for arch in config.archs:
        if _is_known(arch, ()) or any(known is None or _is_known(arch, known) for known in _known_here(config)):
            continue
        if config.generator is not None and named is not None and of_zoo is None and not split_options(arch)[1]:
            raise unknown_to_generator(arch, named)
        raise unknown_arch(split_options(arch)[0], BUILT_IN)


def _known_here(config: SearchConfig) -> Iterator[list[str] | None]:
    """The architectures of each generator and zoo that the search may use; None for one that cannot be read."""
    if config.generator is not None:
        yield generators.archs_of(config.generator)
    else:
        yield generators.archs_of(BUILT_IN_GENERATOR)
        yield from (generators.archs_of(path.parent) for path in Path("generators").glob("*/config.json"))
    if config.zoo is not None:
        yield zoos.archs_of(config.zoo)
    elif config.generator is None or config.space in EXPERT_SPACES:
        yield from (zoos.archs_of(path.parent) for path in Path("zoos").glob("*/zoo.json"))


def _is_known(arch: str, known: Iterable[str]) -> bool:
    """Whether a name, or what stands in front of its options, is built in, from outside, or among `known`."""
    table = {*BUILT_IN, *known}
    return is_outside(arch) or is_adapter(arch) or arch in table or split_options(arch)[0] in table
