"""Checks names, shapes and combinations of settings before `popgen search` starts anything long."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from popgen.archs import build, trust_named
from popgen.configs.search import SearchConfig
from popgen.data import DataSet, load_data
from popgen.data.folder import data_folder
from popgen.data.groups import Groups, load_groups
from popgen.data.load import check_data_name
from popgen.data.names import trust_sources
from popgen.data.remarks import thin_remarks
from popgen.errors import BadInput
from popgen.fitness import Fitness, SgdSteps, make_fitness
from popgen.fitness.choose_head import named_or_fitted
from popgen.fitness.measures import check_measure, check_on_groups, check_on_outputs, sign_remark
from popgen.fitness.names import LABEL_FREE, OF_GROUPS, needs_groups
from popgen.generator import Generator
from popgen.generator.unseen import Target
from popgen.jobs.names import check_space
from popgen.jobs.searching.folder import RunFolder
from popgen.jobs.searching.origin import Origin, expert_records, find_origin, has_directions
from popgen.jobs.searching.precision import check_precision
from popgen.jobs.searching.side_by_side import check_ensemble
from popgen.jobs.searching.tuning.training import check_finetune
from popgen.refs import is_module_attr
from popgen.tasks import CLASSIFICATION
from popgen.trust import make_importable, trust
from popgen.weights.mask import Mask, check_mask, read_mask
from popgen.zoo import Zoo
from search import Budget, SearchSettings, check_optimizer

_LOOKED_AT = 3  # networks of the zoo that say whether a head's rows go by names or are fitted


@dataclass(frozen=True)
class ArchSearch:
    """One architecture of a search, checked."""

    arch: str
    data: DataSet
    fitness: Fitness
    target: Target  # the trained architecture that is searched for it: itself, or the nearest
    mask: Mask | None = None  # the tensors that are searched, where not all are
    groups: Groups | None = None  # the groups of the validation images, where an objective uses them
    moved: tuple[str, ...] = ()  # names of the tensors that the generator moves, where not all

    def trained_parts(self, config: SearchConfig) -> list[str]:
        """The names of the tensors that fine-tuning trains; none stands for all."""
        if not config.finetune.parts:
            return []
        return list(self.moved) if self.mask is None else self.mask.trained(self.target.spec)


@dataclass(frozen=True)
class Prepared:
    """A checked run. Without a generator the search moves around the experts of the zoo."""

    searches: list[ArchSearch]
    generator: Generator | None
    zoo: Zoo | None

    @property
    def data(self) -> DataSet:
        """The data set, the same for all architectures."""
        return self.searches[0].data

    @property
    def data_remarks(self) -> tuple[str, ...]:
        """What was read of the data set and what was passed over, and whether it is too thin to measure on."""
        return (*self.data.remarks, *thin_remarks(self.data))


def _check_directions(target: Target, head: str) -> None:
    """Refuse what directions from bases cannot give.

    Raises:
        BadInput: an architecture without a base, or a head that is not fitted.
    """
    if not target.is_trained:
        raise BadInput(
            f"this generator has no base of {target.spec.name!r}",
            f"it has directions from its bases alone, and one of {target.source}",
            f"Search for {target.source}.",
        )
    if head != "refit":
        raise BadInput(
            f"--head {head} leaves nothing to search",
            "this generator has directions from its bases alone, which are trained for heads that are fitted",
            "Leave --head out, or use --head refit.",
        )


def _trust(config: SearchConfig) -> None:
    """Trust the user's own functions that a search names."""
    trust_named(config.archs)
    trust_sources([config.data])
    for name in (*config.objectives, config.optimizer):
        if is_module_attr(name):
            trust(name)
            make_importable(name)


def prepare(config: SearchConfig, say: Callable[[str], None] = lambda _: None) -> Prepared:
    """Check everything that can be refused before anything long starts, and load what the search needs.

    Raises:
        PopgenError: a name, shape or combination of settings that does not fit.
    """
    check_data_name(config.data)
    _trust(config)
    check_space(config.space)
    origin = find_origin(config)
    generator, targets = origin.generator, origin.targets
    mask = _check_settings(config, origin)
    data = load_data(config.data, config.data_dir)
    if generator is not None:
        generator.check_data(data)
        generator.load_encoders(described=config.describe is not None)
    groups = load_groups(data, config.groups) if needs_groups(config.objectives) else None
    finishing: dict[str, Any] = {
        "head": config.head,
        "batch_norm": config.batch_norm,
        "split": config.split,
        "sgd": _sgd_steps(config),
        "groups": None if groups is None else groups.index,
    }
    searches = []
    for arch, target in targets.items():
        # Directions are trained with heads that are fitted to few images, which names alone cannot give.
        fitted = {"head": "refit"} if config.head == "auto" and has_directions(generator, target) else {}
        fitness = make_fitness(target.spec, data, _classes(origin, arch), **{**finishing, **fitted})
        may_fit = config.objectives != [LABEL_FREE] and not config.rungs and not config.sgd.steps and mask is None
        if fitness.head == "remap" and config.head == "auto" and origin.generator is None and may_fit:
            assert origin.zoo is not None
            fitted_head = make_fitness(target.spec, data, (), **{**finishing, "head": "refit"})
            some = origin.zoo.matrix(expert_records(origin.zoo, arch)[:_LOOKED_AT])
            fitness, why = named_or_fitted(fitness, fitted_head, some)
            say(f"{arch}: {why}")
        if generator is not None and not generator.has_latents:
            _check_directions(target, fitness.head)
        fitness = replace(fitness, label_free=config.objectives == [LABEL_FREE])
        searches.append(ArchSearch(arch, data, fitness, target, mask, groups, _moved(origin, target)))
    _check_label_free(searches)
    check_ensemble(config, searches, generator, origin.zoo)
    _check_cost(config, searches)
    measured = _check_measures(config, searches)
    if mask is not None:
        _check_head_is_searched(searches[0], mask)
    for remark in (*origin.remarks, *measured):
        say(remark)
    return Prepared(searches, generator, origin.zoo)


def _check_settings(config: SearchConfig, origin: Origin) -> Mask | None:
    """Refuse settings that do not go together, before data are read; returns the mask of --parts."""
    if len(set(config.archs)) < len(config.archs):
        raise BadInput(f"--arch names one architecture twice: {', '.join(config.archs)}", "", "Name each once.")
    check_mask(config.archs, config.parts, config.base)
    targets = origin.targets.values()
    check_finetune(config, [one.spec for one in targets], all(_moved(origin, one) for one in targets))
    spec = origin.targets[config.archs[0]].spec
    if config.base is not None and spec.is_adapter and origin.generator is not None:
        raise BadInput(
            "--parts is given for an adapter", "its tensors are generated together", "Leave --parts and --base out."
        )
    mask = None if config.base is None else read_mask(spec, config.parts, config.base)
    check_optimizer(config.optimizer)
    _check_objectives(config)
    engine_settings(config)
    how = config.compute
    if how.workers == 0 and (how.timeout is not None or how.gpus):
        raise BadInput(
            f"--{'gpus' if how.gpus else 'timeout'} needs workers",
            "this process cannot stop its own evaluation, nor choose a GPU",
            "Leave --workers out, or give the number of Ray actors.",
        )
    check_precision(config)
    if config.warm_start is not None and origin.generator is not None:
        _check_warm_start(config.warm_start, config, origin.generator)
    return mask


def _moved(origin: Origin, target: Target) -> tuple[str, ...]:
    """The names of the tensors that a generator moves, () where it moves all of them or is none."""
    if origin.generator is None or not target.is_trained:
        return ()
    names = [tensor.name for tensor in origin.generator.moved[target.source].tensors]
    return () if len(names) == len(target.spec.tensors) else tuple(names)


def with_data_folder(config: SearchConfig, data_dir: str | None = None) -> SearchConfig:
    """The settings with the folder of named data sets as an absolute path, for other processes and later days.

    Args:
        data_dir: the folder where the settings name none; None: POPGEN_DATA, else ./data.
    """
    return config.model_copy(update={"data_dir": str(data_folder(config.data_dir or data_dir))})


def _classes(origin: Origin, arch: str) -> tuple[str, ...]:
    """Class names of the generator, or of the zoo's experts."""
    if origin.generator is not None:
        return tuple(origin.generator.provenance.classes)
    assert origin.zoo is not None
    return expert_records(origin.zoo, arch)[0].classes


def _check_head_is_searched(one: ArchSearch, mask: Mask) -> None:
    """Refuse to search the head alone where it is refitted: all candidates would be one network."""
    spec = one.fitness.spec
    others = [t.name for t in spec.tensors if not t.name.startswith(f"{spec.head}.")]
    searched = zip((t.name for t in spec.tensors), mask.generated.split([t.size for t in spec.tensors]), strict=True)
    if one.fitness.head == "refit" and not any(bool(values.any()) for name, values in searched if name in others):
        raise BadInput(
            f"--parts name only the head of {spec.name!r}, and the head is refitted for {one.data.name!r}",
            "all candidates would be the same network",
            "Add other parts, or use --head keep or remap where the classes' names are known.",
        )


def _check_objectives(config: SearchConfig) -> None:
    for name in config.objectives:
        if name != "loss":
            check_measure(name)
    of_groups = needs_groups(config.objectives)
    if config.groups is not None and not of_groups:
        raise BadInput(
            f"--groups {config.groups} is given, and no objective uses groups",
            f"the objectives are {', '.join(config.objectives)}",
            f"Add --objective {OF_GROUPS[0]}, or leave --groups out.",
        )
    if of_groups and config.split != "val":
        raise BadInput(
            f"{of_groups[0]} is that of the validation split, candidates are scored on {config.split!r}", "", "Use val."
        )


def _check_label_free(searches: list[ArchSearch]) -> None:
    """Refuse a search without labels whose candidates are fitted to labels.

    Raises:
        BadInput: they are.
    """
    fitness, data = searches[0].fitness, searches[0].data
    if not fitness.label_free or fitness.sgd is None and fitness.head != "refit":
        return
    head = fitness.sgd is None
    raise BadInput(
        f"the objective {LABEL_FREE} needs no labels, and {'the head is refitted to' if head else '--sgd-steps train on'} them",
        f"the classes of {data.name!r} are not those of the networks, or this was asked for" if head else "",
        "Use --head keep, and data with the networks' classes; or another objective." if head else "Leave them out.",
    )


def _sgd_steps(config: SearchConfig) -> SgdSteps | None:
    if not config.sgd.steps:
        return None
    return SgdSteps(config.sgd.steps, config.sgd.lr, config.sgd.batch, seed=config.seed)


def _check_cost(config: SearchConfig, searches: list[ArchSearch]) -> None:
    """Refuse steps, races and budgets that do not go together, which can be said once data and heads are known.

    Raises:
        BadInput: they do not.
    """
    fitness, steps = searches[0].fitness, config.sgd.steps
    if config.rungs and (fitness.head == "refit" or steps):
        raise BadInput(
            f"a race over {config.rungs} of the validation images does not pay "
            f"with {'steps of SGD' if steps else 'a refitted head'}",
            f"each look would {'train the network' if steps else 'fit the head to all training images'} again",
            f"Leave --rungs out, or use --{'sgd-steps 0' if steps else 'head keep'}.",
        )
    if steps and searches[0].mask is not None:
        raise BadInput(
            f"--sgd-steps {steps} trains all tensors, --parts keeps those of --base",
            "the result would hold neither the parts that were searched nor the base's",
            "Leave one of them out; --finetune-epochs trains the result.",
        )
    if config.evaluations < fitness.cost:
        raise BadInput(
            f"--evaluations {config.evaluations} is less than one evaluation costs",
            f"{steps} steps of SGD make it {fitness.cost:.2f} passes over the validation images",
            f"Give --evaluations {math.ceil(fitness.cost)} or more, or fewer steps.",
        )


def _check_measures(config: SearchConfig, searches: list[ArchSearch]) -> list[str]:
    """Refuse measures of another task and of groups that cannot be compared, and try a user's own on outputs of a fresh network.

    Returns:
        a remark for each measure that is higher for right answers than for wrong ones.

    Raises:
        BadInput: a measure does not go with the task, or does not work.
    """
    task, remarks = searches[0].fitness.task.name, []
    for name in config.objectives:
        if task != CLASSIFICATION and name != "loss" and not is_module_attr(name):
            raise BadInput(
                f"the objective {name!r} is for classification",
                f"the architectures do {task}",
                "Use loss, or a function of your own as module:function.",
            )
        if name in OF_GROUPS:
            fitness = searches[0].fitness
            assert fitness.groups is not None, "load_groups refuses data without groups"
            check_on_groups(name, fitness.val[1], fitness.finished.config.classes, fitness.groups)
        if is_module_attr(name):
            for one in searches:
                spec = one.fitness.spec
                fresh = spec.to_flat(build(spec.config, seed=config.seed).state_dict())
                scored = replace(one.fitness, sgd=None).score(fresh)
                check_on_outputs(name, scored.outputs, scored.targets)
                if task == CLASSIFICATION and (text := sign_remark(name, scored.targets, scored.outputs.shape[1])):
                    remarks.append(text)
    return list(dict.fromkeys(remarks))


def _check_warm_start(path: str, config: SearchConfig, generator: Generator) -> None:
    """Refuse a warm start from another generator's run, because latents are comparable within one generator only."""
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


def engine_settings(
    config: SearchConfig, coordinates: str = "identity", spent: int = 0, cost: float = 1.0
) -> SearchSettings:
    """The engine's settings.

    Args:
        coordinates: the space in which the optimizer moves, one of search.SPACES.
        spent: what is gone of the budget already; one more evaluation is always made.
        cost: what an evaluation takes of the budget.
    """
    # The candidates' loss is then the mutual information, with the penalty.
    objectives = ["loss"] if config.objectives == [LABEL_FREE] else config.objectives
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
        objectives=tuple(objectives),
        weights=None if config.weights is None else tuple(config.weights),
        cost=cost,
    )
