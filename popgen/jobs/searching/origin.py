"""Finds the generator or zoo that a search takes its candidates from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from popgen.archs import arch_config
from popgen.configs.search import EXPERT_SPACES, SearchConfig
from popgen.errors import BadInput, BrokenFile, NotFound, PopgenError
from popgen.generator import Generator
from popgen.generator.unseen import Target, find_target
from popgen.jobs.names import BUILT_IN_GENERATOR
from popgen.refs import asset
from popgen.zoo import Checkpoint, Zoo


@dataclass(frozen=True)
class Origin:
    """A generator with its target for each architecture, or a zoo without a generator; `remarks` say how it was found."""

    generator: Generator | None
    zoo: Zoo | None
    targets: dict[str, Target]
    remarks: tuple[str, ...] = ()


def find_origin(config: SearchConfig) -> Origin:
    """The named generator or zoo; else the built-in generator, one under ./generators, or a zoo under ./zoos.

    Raises:
        NotFound: no generator or zoo of that name, or none here that knows the architectures.
        BadInput: settings that need a generator where there is none.
    """
    if config.space in EXPERT_SPACES:
        return _experts(config, _zoo_of_experts(config), ())
    if config.generator is not None:
        return _generated(config, Generator.from_pretrained(config.generator), ())
    named = None if config.zoo is None else Zoo.open(config.zoo)
    skipped: list[str] = []
    remarks: list[str] = []
    for name in _generators():
        try:
            generator = Generator.from_pretrained(name)
            if named is not None and _has_all(named, config) and named.sha256 != generator.provenance.zoo_sha256:
                continue  # the user's own zoo has these architectures, and this generator was trained on another one
            origin = _generated(config, generator, ())
        except PopgenError as error:
            if isinstance(error, BrokenFile) and name == BUILT_IN_GENERATOR:
                raise
            (remarks if isinstance(error, BrokenFile) else skipped).append(f"generator {name}: {error.what}")
            continue
        if name != BUILT_IN_GENERATOR:
            remarks.append(f"generator: {name}, which knows {', '.join(config.archs)}")
        return replace(origin, remarks=tuple(remarks))
    for zoo in [named] if named is not None else _zoos():
        if _has_all(zoo, config):
            said = f"no generator knows {', '.join(config.archs)}: its weights are searched around the experts of {zoo.folder}"
            return _experts(config, zoo, (*remarks, said))
        skipped.append(f"zoo {zoo.folder}: it has {', '.join(zoo.archs)}")
    raise _nothing(config, skipped + remarks)


def open_zoo(name: str | None, generator: Generator) -> Zoo | None:
    """The named zoo, or the one that the generator was trained on where it can be found under its name.

    Raises:
        NotFound: the named zoo does not exist.
    """
    if name is not None:
        return Zoo.open(name)
    own = generator.provenance.zoo
    for folder in (Path("zoos") / own, asset("zoos", own)):
        if folder is not None and (folder / "index.jsonl").exists():
            zoo = Zoo.open(folder)
            if zoo.sha256 == generator.provenance.zoo_sha256:
                return zoo
    return None


def expert_records(zoo: Zoo, arch: str) -> list[Checkpoint]:
    """The checkpoints of an architecture with the most frequent class names, so that their outputs mean the same.

    Raises:
        BadInput: all of them are held out.
    """
    records = zoo.select(arch=arch, held_out=False)
    if not records:
        raise BadInput(
            f"the zoo {zoo.folder} holds out all networks of {arch!r}", "no search may use them", "Name another zoo."
        )
    [(classes, _)] = Counter(r.classes for r in records).most_common(1)
    return [r for r in records if r.classes == classes]


def _generated(config: SearchConfig, generator: Generator, remarks: tuple[str, ...]) -> Origin:
    targets = {arch: find_target(generator, arch) for arch in config.archs}
    return Origin(generator, open_zoo(config.zoo, generator), targets, remarks)


def _experts(config: SearchConfig, zoo: Zoo, remarks: tuple[str, ...]) -> Origin:
    targets = {arch: Target(zoo.spec(arch), arch) for arch in config.archs}
    given = [name for name in ("describe", "warm_start") if getattr(config, name) is not None]
    given += ["sample_steps" if name == "steps" else name for name in config.sampling.model_dump(exclude_none=True)]
    if given or config.space in ("identity", "std", "pca"):
        option = f"--{given[0].replace('_', '-')}" if given else f"--space {config.space}"
        raise BadInput(
            f"{option} needs a generator",
            f"the candidates are weights around the experts of the zoo {zoo.folder}, which have no latent and no condition",
            "Leave it out, or name a generator that knows the architecture with --generator.",
        )
    return Origin(None, zoo, targets, remarks)


def _zoo_of_experts(config: SearchConfig) -> Zoo:
    """The named zoo, the generator's own, or one under ./zoos."""
    if config.zoo is not None:
        return Zoo.open(config.zoo)
    for name in [config.generator] if config.generator is not None else _generators():
        generator = Generator.from_pretrained(name)
        zoo = open_zoo(None, generator)
        if zoo is not None and _has_all(zoo, config):
            return zoo
    for zoo in _zoos():
        if _has_all(zoo, config):
            return zoo
    raise _nothing(config, [])


def _has_all(zoo: Zoo, config: SearchConfig) -> bool:
    return all(arch in zoo.archs for arch in config.archs)


def _generators() -> Iterator[str]:
    yield BUILT_IN_GENERATOR
    yield from sorted(str(path.parent) for path in Path("generators").glob("*/config.json"))


def _zoos() -> Iterator[Zoo]:
    for path in sorted(Path("zoos").glob("*/zoo.json")):
        yield Zoo.open(path.parent)


def _nothing(config: SearchConfig, skipped: list[str]) -> PopgenError:
    for arch in config.archs:
        try:
            arch_config(arch)
        except PopgenError as error:  # the name is not that of an architecture, or its options do not fit
            return error
    return NotFound(
        f"no generator and no zoo here knows {', '.join(config.archs)}",
        "; ".join(skipped) or "looked in the built-in generator, ./generators and ./zoos",
        "Make a zoo of its checkpoints: popgen zoo import FILES --zoo zoos/NAME --arch ...; or a generator: popgen train SPEC.yaml.",
    )


def has_directions(generator: Generator | None, target: Target) -> bool:
    """Whether a generator has directions from the base of an architecture."""
    return generator is not None and bool(generator.directions) and target.is_trained
