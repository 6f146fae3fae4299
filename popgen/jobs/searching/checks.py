"""What `popgen search` checks before anything long starts: names, shapes, settings that do not go together."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from popgen.archs import build, trust_named
from popgen.configs.search import EXPERT_SPACES, SearchConfig
from popgen.data import DataSet, load_data
from popgen.data.folder import data_folder
from popgen.data.groups import Groups, load_groups
from popgen.data.load import check_data_name
from popgen.errors import BadInput, NotFound, near_matches
from popgen.fitness import Fitness, SgdSteps, make_fitness
from popgen.fitness.measures import OF_GROUPS, check_measure, check_on_outputs
from popgen.generator import Generator
from popgen.generator.unseen import Target
from popgen.jobs.searching.folder import RunFolder
from popgen.jobs.searching.origin import Origin, find_origin
from popgen.refs import is_module_attr
from popgen.weights.mask import Parts, check_parts, read_parts
from popgen.zoo import Checkpoint, Zoo
from search import SPACES, Budget, SearchSettings, check_optimizer


@dataclass(frozen=True)
class Job:
    """One architecture, checked."""

    arch: str
    data: DataSet
    fitness: Fitness
    target: Target  # the trained architecture that is searched for it: itself, or the nearest
    parts: Parts | None = None  # of the candidates, where not all tensors are generated
    groups: Groups | None = None  # of the validation images


def prepare(
    config: SearchConfig, say: Callable[[str], None] = lambda _: None
) -> tuple[list[Job], Generator | None, Zoo | None]:
    """All checks, and what was loaded for them. Without a generator the zoo's experts are what is searched around.

    Raises:
        PopgenError: as `search`.
    """
    check_data_name(config.data)
    trust_named(config.archs)
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
    if config.compute.workers == 0 and (config.compute.timeout is not None or config.compute.gpus):
        raise BadInput(
            f"--{'gpus' if config.compute.gpus else 'timeout'} needs workers",
            "this process cannot stop its own evaluation, nor choose a GPU",
            "Leave --workers out, or give the number of Ray actors.",
        )
    if config.warm_start is not None and generator is not None:
        _check_warm(config.warm_start, config, generator)
    data = load_data(config.data, config.data_dir)
    if generator is not None:
        generator.check_data(data)
        generator.load_encoders()
    groups = load_groups(data, config.groups) if OF_GROUPS in config.objectives else None
    how = {"head": config.head, "batch_norm": config.batch_norm, "split": config.split, **_worth(config, groups)}
    jobs = [
        Job(arch, data, make_fitness(target.spec, data, _classes(origin, arch), **how), target, parts, groups)
        for arch, target in targets.items()
    ]
    _check_worth(config, jobs)
    if parts is not None:
        _check_head_is_searched(jobs[0], parts)
    for remark in origin.remarks:
        say(remark)
    return jobs, generator, zoo


def with_data_folder(config: SearchConfig, data_dir: str | None = None) -> SearchConfig:
    """The settings with the folder of named data sets as an absolute path, for other processes and later days.

    Args:
        data_dir: the folder where the settings name none; None: POPGEN_DATA, else ./data.
    """
    return config.model_copy(update={"data_dir": str(data_folder(config.data_dir or data_dir))})


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
        if name != "loss":
            check_measure(name)
    if config.groups is not None and OF_GROUPS not in config.objectives:
        raise BadInput(
            f"--groups {config.groups} is given, and no objective uses groups",
            f"the objectives are {', '.join(config.objectives)}",
            f"Add --objective {OF_GROUPS}, or leave --groups out.",
        )
    if OF_GROUPS in config.objectives and config.split != "val":
        raise BadInput(
            f"{OF_GROUPS} is that of the validation split, candidates are scored on {config.split!r}", "", "Use val."
        )


def _worth(config: SearchConfig, groups: Groups | None) -> dict[str, Any]:
    """What a candidate is worth beside its head and batch norm: arguments of `make_fitness`."""
    steps = SgdSteps(config.sgd.steps, config.sgd.lr, config.sgd.batch, seed=config.seed) if config.sgd.steps else None
    return {"sgd": steps, "groups": None if groups is None else groups.of}


def _check_worth(config: SearchConfig, jobs: list[Job]) -> None:
    """What can be refused once data and heads are known: steps, races, a user's own measure on real outputs.

    Raises:
        BadInput: these do not go together, or the measure does not work.
    """
    fitness = jobs[0].fitness
    if config.rungs and (fitness.head == "refit" or config.sgd.steps):
        raise BadInput(
            f"a race over {config.rungs} of the validation images does not pay "
            f"with {'steps of SGD' if config.sgd.steps else 'a refitted head'}",
            f"each look would {'train the network' if config.sgd.steps else 'fit the head to all training images'} again",
            f"Leave --rungs out, or use --{'sgd-steps 0' if config.sgd.steps else 'head keep'}.",
        )
    if config.sgd.steps and jobs[0].parts is not None:
        raise BadInput(
            f"--sgd-steps {config.sgd.steps} trains all tensors, --parts keeps those of --base",
            "the result would hold neither the parts that were searched nor the base's",
            "Leave one of them out; --finetune-epochs trains the result.",
        )
    if config.evaluations < fitness.cost:
        raise BadInput(
            f"--evaluations {config.evaluations} is less than one evaluation costs",
            f"{config.sgd.steps} steps of SGD make it {fitness.cost:.2f} passes over the validation images",
            f"Give --evaluations {math.ceil(fitness.cost)} or more, or fewer steps.",
        )
    for name in config.objectives:
        if is_module_attr(name):
            for job in jobs:
                fresh = job.fitness.spec.to_flat(build(job.fitness.spec.config, seed=config.seed).state_dict())
                score = replace(job.fitness, sgd=None).score(fresh)
                check_on_outputs(name, score.logits, score.labels)


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


def settings(config: SearchConfig, coordinates: str = "identity", spent: int = 0, cost: float = 1.0) -> SearchSettings:
    """The engine's settings; `spent` of the budget is gone already, and an evaluation takes `cost` of it. One there always is."""
    budget = Budget(
        evaluations=max(config.evaluations - spent, math.ceil(cost)),
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
        cost=cost,
    )
