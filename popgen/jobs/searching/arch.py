"""The search of one architecture: make it ready, evaluate, keep the best, make the table."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from popgen import __version__
from popgen.archs.beside import write_beside
from popgen.baselines.optimism import Choice, Optimism, fresh_optimism
from popgen.baselines.row import Row, disagreements
from popgen.configs.search import SearchConfig
from popgen.data.classes import renamed_classes
from popgen.errors import BadInput
from popgen.fitness import Fitness, LatentObjective, Scored, scores_of
from popgen.fitness.batch_norm import in_words
from popgen.generator.decoder import AnchoredDecoder
from popgen.jobs.searching.checks import ArchSearch, Prepared, engine_settings
from popgen.jobs.searching.details import Found, FrontPoint, SearchDetails
from popgen.jobs.searching.experts import ExpertSource
from popgen.jobs.searching.folder import RunFolder
from popgen.jobs.searching.fronts import (
    GENERATED,
    SEARCH,
    Fronts,
    front_of,
    rival_fronts,
    test_values,
    trained_front,
    why_untested,
)
from popgen.jobs.searching.origin import has_directions
from popgen.jobs.searching.pools import make_pool
from popgen.jobs.searching.precision import in_precision, settled
from popgen.jobs.searching.results.ensemble import Others, add_ensemble
from popgen.jobs.searching.results.gain import gain_over_start, told_after, told_before
from popgen.jobs.searching.results.label_choice import FROZEN, LabelChoice, candidates
from popgen.jobs.searching.source import GeneratorSource, Source
from popgen.jobs.searching.sources.directions import DirectionSource
from popgen.jobs.searching.tuning.auto import Tuning, affordable, plan_tuning, tune
from popgen.jobs.searching.tuning.compare import FinetuneRun, finetune
from popgen.json_text import json_text
from popgen.tasks import CLASSIFICATION, score_key
from search import (
    History,
    Population,
    Progress,
    RaySession,
    SearchResult,
    best_of,
    optimizer_for,
    run_search,
)

OnEvaluation = Callable[[str, Progress], None]  # architecture, state of its search
_FRESH = 10_000  # most images that chose nothing for the optimism of the best; their error is then .005 or less
_COMPARED = 32  # the search's best candidates that are compared for the optimism of the best


@dataclass(frozen=True)
class Run:
    """State that the searches of all architectures of one run share."""

    config: SearchConfig
    prepared: Prepared
    folder: RunFolder
    session: RaySession
    on_evaluation: OnEvaluation | None
    say: Callable[[str], None]


@dataclass(frozen=True)
class ReadySearch:
    """A search that is ready to be evaluated."""

    one: ArchSearch
    source: Source
    population: Population
    objective: LatentObjective
    spent: int  # evaluations of the budget that are gone already, by their cost

    @property
    def fitness(self) -> Fitness:
        """The fitness that finishes and scores candidates."""
        return self.objective.fitness


def search_arch(run: Run, one: ArchSearch) -> Found:
    """Search for weights of one architecture, and write its files into the run's folder.

    Raises:
        BadInput: every candidate failed.
    """
    ready = make_ready(run, one)
    remarks = announce(run, ready)
    plan = plan_tuning(run.config, one, ready.fitness, run.say)
    family = told_before(ready.source, ready.population, ready.fitness, run.say)
    result = evaluate(run, ready)
    if result.best_vector is None:
        raise BadInput(
            f"every candidate for {one.arch} failed", f"see {run.folder.history}", "Check the data set and the head."
        )
    best = ready.fitness.score(ready.source.decoder.weights(result.best_vector))
    gain = choice = None
    if ready.fitness.label_free:
        best, result, gain = over_start(run, ready, best, result)
    elif isinstance(ready.source.decoder, AnchoredDecoder) and ready.fitness.task.name == CLASSIFICATION:
        best, result, choice = chosen_by_labels(run, ready, best, result)
    card = make_card(one, ready.fitness)
    weights = _write_best(run, one, best, card)
    front, fronts = write_front(run, ready, result, card)
    rows = make_table(run, ready, result, best)
    rows, finetuned = _finetune(run, one, rows, card)
    told = told_after(family, rows, one.arch, run.say)
    plan = affordable(plan, run.config, one, result, run.say)
    tuning = None if plan is None else tune(plan, one, ready.fitness, rows, run.folder, card, run.say)
    rows = rows if tuning is None else tuning.rows
    rows, ensemble = _add_ensemble(run, ready, rows, tuning, card)
    details = SearchDetails.of(
        result,
        ready.fitness,
        ready.population,
        ready.source.details(),
        groups=None if one.groups is None else one.groups.counts,
        front=front,
        fronts=fronts,
        score_key=score_key(ready.fitness.task.unit, "val"),
        finetune=finetuned,
        tuned=None if tuning is None else tuning.record,
        ensemble=ensemble,
        information_gain=gain,
        label_choice=choice,
        disagreements=_disagreements(run, one, rows),
        family=told,
        **remarks,
    )
    return Found(one.arch, one.data.name, str(run.folder.path), str(weights), rows, details)


def make_ready(run: Run, one: ArchSearch) -> ReadySearch:
    """The source of candidates, the population that the search starts from, and the objective."""
    config = run.config
    source = make_source(run, one)
    file = run.folder.population(one.arch)
    population = Population.load(file) if file.exists() else source.population()
    decoder, fitness, centre = source.decoder, source.fitness(population), source.centre(population)
    objective = LatentObjective(
        decoder,
        fitness,
        centre if config.prior_width else None,
        config.prior_width,
        measures=tuple(name for name in config.objectives if name != "loss"),
        rungs=tuple(config.rungs),
        device="cuda" if config.compute.gpus else "cpu",
    )
    objective = in_precision(objective, config, run.folder, run.session, population, one.arch, run.say)
    if not file.exists():  # behind all that is decided first, so that a run with a population has decided it
        population.save(file)
    return ReadySearch(one, source, population, objective, math.ceil(source.spent * fitness.cost))


def make_source(run: Run, one: ArchSearch) -> Source:
    """A generator's latents where there is one, else the experts of the zoo."""
    generator, zoo = run.prepared.generator, run.prepared.zoo
    if generator is not None and one.fitness.head == "refit" and has_directions(generator, one.target):
        return DirectionSource(generator, zoo, one, run.config, run.folder, run.say)
    if generator is not None:
        return GeneratorSource(generator, zoo, one, run.config, run.folder, run.say)
    assert zoo is not None
    return ExpertSource(zoo, one, run.config, run.folder, run.say)


def announce(run: Run, ready: ReadySearch) -> dict[str, Any]:
    """Say how candidates are treated; returns what result.json keeps of it."""
    one, fitness, say = ready.one, ready.fitness, run.say
    renamed = renamed_classes(one.data.classes, ready.source.classes) if fitness.head != "refit" else {}
    fitted = fitness.spec.config.inputs.remark(one.data.shape)
    if fitted:
        say(f"{one.arch}: {fitted}")
    if renamed:
        say(f"{one.arch}: classes taken as the same: {', '.join(f'{a} = {b}' for a, b in renamed.items())}")
    steps = "" if fitness.sgd is None else f", {fitness.sgd.steps} steps of SGD: an evaluation costs {fitness.cost:.2f}"
    batch_norm = in_words(fitness.batch_norm) if fitness.spec.has_batch_norm else "none"
    say(f"{one.arch}: head {fitness.head}, batch norm {batch_norm}{steps}")
    run_with = ready.objective.evaluation
    say(f"{one.arch}: candidates are run with {run_with}")
    if ready.spent >= run.config.evaluations:
        say(
            f"{one.arch}: the budget of {run.config.evaluations} evaluations is gone before the search, "
            f"by {ready.spent}: one more is made"
        )
    precision = "bfloat16" if ready.objective.bfloat16 else "float32"
    return {"renamed_classes": renamed, "images": fitted, "run_with": run_with, "precision": precision}


def evaluate(run: Run, ready: ReadySearch, name: str | None = None) -> SearchResult:
    """Run the engine until the budget is spent; a stopped one goes on from its history, where it is `name` or the architecture."""
    arch, on_evaluation = name or ready.one.arch, run.on_evaluation
    settings = engine_settings(run.config, ready.source.coordinates, ready.spent, ready.fitness.cost)
    pool = make_pool(run.config, run.session, ready.objective, ready.population)
    try:
        result = run_search(
            None,
            ready.population,
            settings,
            history_path=run.folder.history,
            key=arch,
            pool=pool,
            on_evaluation=None if on_evaluation is None else lambda progress: on_evaluation(arch, progress),
        )
    finally:
        pool.close()
    used = optimizer_for(run.config.optimizer, result.space_dim or 0)
    if used != run.config.optimizer:
        run.say(f"{arch}: the space has one coordinate, which {run.config.optimizer} cannot search: {used} did")
    return settled(result, settings, ready.objective, run.folder, ready.population, arch)


def over_start(
    run: Run, ready: ReadySearch, best: Scored, result: SearchResult
) -> tuple[Scored, SearchResult, dict[str, Any] | None]:
    """The network that a search without labels gives back: the best or its start; the result and the gain are for result.json."""
    vector, name = ready.source.start(ready.population)
    data, fitness = ready.one.data, ready.fitness
    part = data.val if run.config.split == "train" else data.train  # not the images that chose the best
    start, images = ready.source.decoder.weights(vector), fitness.spec.config.inputs.prepare(part.inputs)
    given, gain = gain_over_start(fitness, start, name, best, images)
    if gain is None:
        run.say(f"{ready.one.arch}: the start cannot be scored, so the gain over it is not known")
        return best, result, None
    run.say(f"{ready.one.arch}: {gain.text()}")
    if gain.is_kept:
        result = replace(result, best_index=None, best_origin=name)
    return given, result, gain.to_json()


def chosen_by_labels(
    run: Run, ready: ReadySearch, best: Scored, result: SearchResult
) -> tuple[Scored, SearchResult, dict[str, Any] | None]:
    """The adapter that a search gives back, the result with its origin, and the choice for result.json."""
    closest, vectors = ready.source.details().closest or [""], ready.population.vectors
    with History(run.folder.history, ready.one.arch) as history:
        among = candidates(ready.population, closest[0], len(best.targets), history.records)
    decoded = {name: ready.source.decoder.weights(vectors[row].copy()) for name, row in among.rows.items()}
    named = {name: scored for name, flat in decoded.items() for scored in scores_of(ready.fitness, [flat])}
    if FROZEN not in named:
        return best, result, None
    choice = LabelChoice.of(best, named, among)
    run.say(f"{ready.one.arch}: {choice.text()}")
    if choice.is_search_kept:
        return best, result, choice.to_json()
    return named[choice.name], replace(result, best_index=None, best_origin=choice.name), choice.to_json()


def write_front(
    run: Run, ready: ReadySearch, result: SearchResult, card: dict[str, str]
) -> tuple[list[FrontPoint], dict[str, Any] | None]:
    """Write the weights of each point of a Pareto front; the points, and the front beside its rivals' for result.json."""
    points, networks, names = [], [], run.config.objectives
    for point in result.front:
        scored = ready.fitness.score(ready.source.decoder.weights(point.vector))
        file = run.folder.write_front(ready.one.arch, point.index, scored.state(), card)
        write_beside(file, scored.spec, scored.state(), run.prepared.data.classes)
        values = dict(zip(names, point.values, strict=True))
        tested = test_values(names, scored, ready.one)
        known = None if tested is None else dict(zip(names, tested, strict=True))
        points.append(FrontPoint(point.index, values, scored.score, str(file), known))
        networks.append((f"evaluation:{point.index}", scored))
    if not points:
        return [], None
    if why := why_untested(names, ready.one):
        run.say(f"{ready.one.arch}: the front is not scored on test images: {why}")
    return points, compare_fronts(run, ready, ready.spent + result.evaluations, networks)


def compare_fronts(
    run: Run, ready: ReadySearch, evaluations: int, networks: list[tuple[str, Scored]]
) -> dict[str, Any] | None:
    """The front of the search beside those of the generated population and of the rivals, as result.json has them."""
    names, one = run.config.objectives, ready.one
    with History(run.folder.history, one.arch) as history:
        seeds = [r for r in history.records if r.phase == "seed" and r.origin == "generated" and r.loss is not None]
    vectors = ready.population.with_mean().vectors
    sampled = [(f"generated:{r.index}", vectors[r.candidate]) for r in seeds]
    generated = [(origin, ready.fitness.score(ready.source.decoder.weights(vector))) for origin, vector in sampled]
    found = [front_of(SEARCH, evaluations, networks, names, one)]
    found.append(front_of(GENERATED, len(seeds) * ready.fitness.cost, generated, names, one))
    given = ready.source.rival_inputs(ready.fitness, evaluations)
    found += rival_fronts(given, one, names, run.config.baselines, run.say)
    if run.config.baselines == "all" and generated:
        found.append(trained_front("generated, reweighted", generated, given, one, names, run.say))
    if found[0] is None:
        return None
    return Fronts(tuple(names), [front for front in found if front is not None]).to_json()


def make_table(run: Run, ready: ReadySearch, result: SearchResult, best: Scored) -> list[Row]:
    """The rows of the source, and behind them that of the search."""
    evaluations = ready.spent + result.evaluations
    rows = ready.source.rows(run.folder, ready.population, ready.fitness, evaluations)
    return [*rows, Row.of("search", evaluations, best, ready.one.data, _optimism(run, ready, best, evaluations))]


def _optimism(run: Run, ready: ReadySearch, best: Scored, evaluations: int) -> Optimism | None:
    """The optimism of the search's best; None where the loss alone did not choose.

    It is measured on images that chose nothing. Where there are none, because the training images finish candidates or trained the start,
    those candidates that could have been chosen are taken as given, and the estimate is a lower one.
    """
    fitness, data = ready.fitness, ready.one.data
    if fitness.label_free or run.config.objectives != ["loss"] or fitness.task.name != CLASSIFICATION:
        return None
    if fitness.head != "refit" and fitness.sgd is None:
        part = data.val if run.config.split == "train" else data.train
        vector, _ = ready.source.start(ready.population)
        for start in scores_of(fitness, [ready.source.decoder.weights(vector)]):
            order = torch.randperm(len(part), generator=torch.Generator().manual_seed(0))[:_FRESH]
            images = fitness.spec.config.inputs.prepare(part.inputs[order])
            fresh = fresh_optimism(best, start, images, part.targets[order], evaluations)
            if fresh is not None:
                return fresh
    near = best_of(run.folder.history, ready.one.arch, ready.population, _COMPARED)
    choice = Choice()
    for vector in near.vectors.copy():  # a population cannot be written to, which torch asks for
        for scored in scores_of(fitness, [ready.source.decoder.weights(vector)]):
            choice.add(scored, scored.finite_loss + ready.objective.penalty(vector))
    return choice.optimism()


def make_card(one: ArchSearch, fitness: Fitness) -> dict[str, str]:
    """The metadata of a file of weights: how to build the network, what its outputs mean, how it was finished.

    `classes` are the names of the first outputs, in their order; a head that is kept may have more.
    """
    steps = {} if fitness.sgd is None else {"sgd": json_text(asdict(fitness.sgd))}
    return {
        "format": "pt",
        "popgen": __version__,
        "arch": one.arch,
        "data": one.data.name,
        "arch_config": json_text(fitness.finished.config.to_json()),
        "classes": json_text(one.data.classes),
        "head": fitness.head,
        "batch_norm": str(fitness.batch_norm) if fitness.spec.has_batch_norm else "none",
        **steps,
    }


def _write_best(run: Run, one: ArchSearch, best: Scored, card: dict[str, str]) -> Path:
    """The file of the search's best."""
    weights = run.folder.write_best(one.arch, best.state(), card)
    write_beside(weights, best.spec, best.state(), run.prepared.data.classes)
    return weights


def _disagreements(run: Run, one: ArchSearch, rows: list[Row]) -> list[str]:
    """Say which rows' test and validation accuracies differ beyond chance."""
    for remark in (found := disagreements(rows)):
        run.say(f"{one.arch}: {remark}")
    return found


def _add_ensemble(
    run: Run, ready: ReadySearch, rows: list[Row], tuning: Tuning | None, card: dict[str, str]
) -> tuple[list[Row], dict[str, Any] | None]:
    """The rows with that of networks side by side, where it was asked for."""
    if not run.config.ensemble:
        return rows, None
    given, others = ready.source.rival_inputs(ready.fitness, ready.spent), search_other_starts(run, ready)
    return add_ensemble(given, rows, run.config.ensemble, others, tuning, run.folder, card, run.say)


def search_other_starts(run: Run, ready: ReadySearch) -> Others:
    """Search along directions from other starts with the same budget each, one for each further network of an ensemble."""
    if not isinstance(ready.source, DirectionSource):
        return Others()
    best, evaluations = {}, 0
    for source in ready.source.others(run.config.ensemble - 1):
        population, name = source.population(), f"{ready.one.arch} from {source.name}"
        objective = replace(ready.objective, decoder=source.decoder)
        result = evaluate(run, ReadySearch(ready.one, source, population, objective, 0), name)
        evaluations += result.evaluations
        if result.best_vector is not None:
            best[f"search from {source.name}"] = ready.fitness.score(source.decoder.weights(result.best_vector))
    return Others(best, evaluations)


def _finetune(
    run: Run, one: ArchSearch, rows: list[Row], card: dict[str, str]
) -> tuple[list[Row], dict[str, Any] | None]:
    """The rows with their scores after fine-tuning, where that was asked for."""
    training = FinetuneRun.of(one, run.config)
    return finetune(rows, training, run.folder, card, run.say) if training.epochs else (rows, None)
