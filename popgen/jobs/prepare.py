"""What `popgen search` checks before anything long starts: names, shapes, settings that do not go together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from popgen.data import DataSet, load_data
from popgen.data.datasets import check_data_name
from popgen.errors import BadInput, NotFound, near_matches, unknown_name
from popgen.fitness import Fitness, make_fitness
from popgen.fitness.measures import MEASURES
from popgen.generator import Generator
from popgen.generator.unseen import Target
from popgen.jobs.origin import Origin, find_origin, open_zoo
from popgen.jobs.run_folder import RunFolder
from popgen.search_config import EXPERT_SPACES, SearchConfig
from popgen.weights.parts import Parts, check_parts, read_parts
from popgen.zoo import Checkpoint, Zoo
from search import SPACES, Budget, SearchSettings, check_optimizer

__all__ = ["Job", "expert_records", "open_zoo", "prepare", "settings"]


@dataclass(frozen=True)
class Job:
    """One architecture, checked."""

    arch: str
    data: DataSet
    fitness: Fitness
    target: Target  # the trained architecture that is searched for it: itself, or the nearest
    parts: Parts | None = None  # of the candidates, where not all tensors are generated


def prepare(
    config: SearchConfig, say: Callable[[str], None] = lambda _: None
) -> tuple[list[Job], Generator | None, Zoo | None]:
    """All checks, and what was loaded for them. Without a generator the zoo's experts are what is searched around.

    Raises:
        PopgenError: as `search`.
    """
    check_data_name(config.data)
    _check_space(config)
    origin = find_origin(config)
    generator, zoo, targets = origin.generator, origin.zoo, origin.targets
    if len(set(config.archs)) < len(config.archs):
        raise BadInput(f"--arch names one architecture twice: {', '.join(config.archs)}", "", "Name each once.")
    check_parts(config.archs, config.parts, config.base)
    parts = None if config.base is None else read_parts(targets[config.archs[0]].spec, config.parts, config.base)
    check_optimizer(config.optimizer)
    _check_objectives(config)
    settings(config)
    if config.workers == 0 and (config.timeout is not None or config.gpus):
        raise BadInput(
            f"--{'gpus' if config.gpus else 'timeout'} needs workers",
            "this process cannot stop its own evaluation, nor choose a GPU",
            "Leave --workers out, or give the number of Ray actors.",
        )
    if config.warm_start is not None and generator is not None:
        _check_warm(config.warm_start, config, generator)
    data = load_data(config.data)
    if generator is not None:
        generator.check_data(data)
        generator.load_encoders()
    jobs = []
    for arch, target in targets.items():
        classes = _classes(origin, arch)
        fitness = make_fitness(target.spec, data, classes, config.head, config.batch_norm, config.split)
        jobs.append(Job(arch, data, fitness, target, parts))
    if parts is not None:
        _check_head_is_searched(jobs[0], parts)
    if config.rungs and jobs[0].fitness.head == "refit":
        raise BadInput(
            f"a race over {config.rungs} of the validation images does not pay with a refitted head",
            "each look would fit the head to all training images again",
            "Leave --rungs out, or use --head keep.",
        )
    for remark in origin.remarks:
        say(remark)
    return jobs, generator, zoo


def _classes(origin: Origin, arch: str) -> tuple[str, ...]:
    """Names of the outputs of what is generated, or of the zoo's experts."""
    if origin.generator is not None:
        return tuple(origin.generator.provenance.classes)
    assert origin.zoo is not None
    return expert_records(origin.zoo, arch)[0].classes


def expert_records(zoo: Zoo, arch: str) -> list[Checkpoint]:
    """The checkpoints of an architecture whose outputs mean the same: those of the most frequent class names.

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


def _check_space(config: SearchConfig) -> None:
    if config.space is not None and config.space not in (*SPACES, *EXPERT_SPACES):
        near = near_matches(config.space, [*SPACES, *EXPERT_SPACES])
        raise NotFound(
            f"unknown space {config.space!r}",
            "known are identity, std and pca (coordinates of a generator's latent), mix and low-rank (weights around experts), auto",
            f"did you mean: {near}?",
        )


def _check_head_is_searched(job: Job, parts: Parts) -> None:
    """A refitted head replaces the candidate's: something else must differ between candidates."""
    spec = job.fitness.spec
    others = [t.name for t in spec.tensors if not t.name.startswith(f"{spec.head}.")]
    searched = zip((t.name for t in spec.tensors), parts.mask.split([t.size for t in spec.tensors]), strict=True)
    if job.fitness.head == "refit" and not any(bool(part.any()) for name, part in searched if name in others):
        raise BadInput(
            f"--parts name only the head of {spec.name!r}, and the head is refitted for {job.data.name!r}",
            "all candidates would be the same network",
            "Add other parts, or use --head keep or remap where the classes' names are known.",
        )


def _check_objectives(config: SearchConfig) -> None:
    for name in config.objectives:
        if name != "loss" and name not in MEASURES:
            raise unknown_name("objective", name, ("loss", *MEASURES))


def _check_warm(path: str, config: SearchConfig, generator: Generator) -> None:
    """Latents are comparable within one generator only."""
    folder = RunFolder.open(path)
    _, then = folder.config()
    if then.get("generator_sha256") != generator.sha256:
        raise BadInput(
            f"the run in {path} searched the latents of another generator",
            "they mean nothing to this one",
            "Warm-start from a run of the same --generator.",
        )
    for arch in config.archs:
        if not folder.population(arch).exists():
            raise BadInput(
                f"the run in {path} has no search for {arch!r}", "", "Name an architecture that it searched."
            )


def settings(config: SearchConfig, coordinates: str = "identity", spent: int = 0) -> SearchSettings:
    """The engine's settings; `spent` evaluations of the budget are gone already."""
    budget = Budget(
        evaluations=max(config.evaluations - spent, 1),
        seconds=config.seconds,
        target=config.target,
        patience=config.patience,
    )
    return SearchSettings(
        optimizer=config.optimizer,
        space=coordinates,
        batch=config.batch,
        seed=config.seed,
        sigma=config.sigma,
        budget=budget,
        mode=config.mode,
        rungs=tuple(config.rungs),
        objectives=tuple(config.objectives),
        weights=None if config.weights is None else tuple(config.weights),
    )
