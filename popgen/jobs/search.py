"""`popgen search`: condition, population, space, Nevergrad, evaluation, best weights, table.

The main path of popgen. Everything that can be refused is refused before the encoders are loaded or Ray starts; the engine
in `search` does the rest and knows nothing of networks.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from popgen import __version__
from popgen.audit import Rivals, Row
from popgen.audit.baselines import test_accuracy
from popgen.data import DataSet, load_data
from popgen.data.datasets import check_data_name
from popgen.errors import BadInput, unknown_name
from popgen.fitness import Fitness, LatentObjective, Score, make_fitness
from popgen.fitness.measures import MEASURES
from popgen.generator import Generator
from popgen.generator.bundle import CONTROLS, Control
from popgen.generator.conditions import Description
from popgen.jobs.run_folder import RunFolder
from popgen.refs import asset
from popgen.search_config import SearchConfig
from popgen.weights.parts import Parts, check_parts, read_parts
from popgen.zoo import Zoo
from search import (
    Budget,
    History,
    LocalPool,
    Pool,
    Population,
    Progress,
    RayPool,
    RaySession,
    SearchResult,
    SearchSettings,
    best_of,
    check_optimizer,
    run_search,
)

Report = Callable[[str, Progress], None]  # architecture, state of its search
_CONTROL_SAMPLES = 5  # networks of each control
_RAY_PAYS = 20.0  # seconds of evaluations in one process from which starting Ray (about 8 s) is worth it


@dataclass(frozen=True)
class Found:
    """The result of one architecture; `row("search").test_accuracy` is the figure to quote."""

    arch: str
    data: str
    run: str
    weights: str  # path of a plain state dict
    rows: list[Row]
    details: dict[str, Any]

    def row(self, name: str) -> Row:
        """A line of the table by its name."""
        return next(r for r in self.rows if r.name == name)

    def to_json(self) -> dict[str, Any]:
        """The keys of result.json and --json; they are stable."""
        return asdict(self)


def search(
    config: SearchConfig,
    out: str | None = None,
    resume: str | None = None,
    report: Report | None = None,
    say: Callable[[str], None] = print,
) -> list[Found]:
    """Search for weights of every architecture of `config`, and write a run folder.

    Args:
        out: the folder to write; None: one under ./runs, named after the settings.
        resume: the folder of a run to continue (its own settings stand in it; pass them as `config`).
        report: called after every evaluation.
        say: called with one line for every decision that a user should know of.

    Raises:
        PopgenError: a name, shape or combination that does not fit, before any long work.
    """
    jobs, generator, zoo = prepare(config)
    recorded = {
        "data_sha256": jobs[0].data.sha256,
        "generator_sha256": generator.sha256,
        "base_sha256": None if jobs[0].parts is None else jobs[0].parts.sha256,
        "decisions": {j.arch: {"head": j.fitness.head} for j in jobs},
    }
    with RaySession() as session:
        if _joins_cluster(config):
            session.start(None, _address(config))  # refused before a folder is made
        if resume is None:
            folder = RunFolder.create(config, out)
        else:
            folder = RunFolder.open(resume)
            before, then = folder.config()
            folder.check_same({**before.frozen_fields(), **then}, {**config.frozen_fields(), **recorded})
        folder.write_config(config, recorded)
        say(f"run folder: {folder.path}")
        try:
            found = [_search_one(job, generator, zoo, config, folder, session, report, say) for job in jobs]
        except KeyboardInterrupt:
            say(f"what was evaluated is kept; continue with: popgen search --resume {folder.path}")
            raise
    result = {"popgen": __version__, "results": [f.to_json() for f in found]}
    folder.write_result(result)
    return found


@dataclass(frozen=True)
class Job:
    """One architecture, checked."""

    arch: str
    data: DataSet
    fitness: Fitness
    parts: Parts | None = None  # of the candidates, where not all tensors are generated


def prepare(config: SearchConfig) -> tuple[list[Job], Generator, Zoo | None]:
    """All checks, and what was loaded for them.

    Raises:
        PopgenError: as `search`.
    """
    check_data_name(config.data)
    generator = Generator.from_pretrained(config.generator)
    for arch in config.archs:
        generator.spec(arch)
    if len(set(config.archs)) < len(config.archs):
        raise BadInput(f"--arch names one architecture twice: {', '.join(config.archs)}", "", "Name each once.")
    check_parts(config.archs, config.parts, config.base)
    parts = None if config.base is None else read_parts(generator.spec(config.archs[0]), config.parts, config.base)
    check_optimizer(config.optimizer)
    _check_objectives(config)
    _settings(config)
    if config.workers == 0 and (config.timeout is not None or config.gpus):
        raise BadInput(
            f"--{'gpus' if config.gpus else 'timeout'} needs workers",
            "this process cannot stop its own evaluation, nor choose a GPU",
            "Leave --workers out, or give the number of Ray actors.",
        )
    if config.warm_start is not None:
        _check_warm(config.warm_start, config, generator)
    zoo = open_zoo(config.zoo, generator)
    data = load_data(config.data)
    generator.check_data(data)
    classes = tuple(generator.provenance.classes)
    generator.load_encoders()
    jobs = [
        Job(
            a, data, make_fitness(generator.spec(a), data, classes, config.head, config.batch_norm, config.split), parts
        )
        for a in config.archs
    ]
    if parts is not None:
        _check_head_is_searched(jobs[0], parts)
    if config.rungs and jobs[0].fitness.head == "refit":
        raise BadInput(
            f"a race over {config.rungs} of the validation images does not pay with a refitted head",
            "each look would fit the head to all training images again",
            "Leave --rungs out, or use --head keep.",
        )
    return jobs, generator, zoo


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


def open_zoo(name: str | None, generator: Generator) -> Zoo | None:
    """The named zoo, or the one that the generator was trained on where it can be found under its name.

    Raises:
        NotFound: the named zoo does not exist.
    """
    if name is not None:
        return Zoo.open(name)
    own = generator.provenance.zoo
    for place in (Path("zoos") / own, asset("zoos", own)):
        if place is not None and (place / "index.jsonl").exists():
            zoo = Zoo.open(place)
            if zoo.sha256 == generator.provenance.zoo_sha256:
                return zoo
    return None


def _settings(config: SearchConfig) -> SearchSettings:
    budget = Budget(
        evaluations=config.evaluations, seconds=config.seconds, target=config.target, patience=config.patience
    )
    return SearchSettings(
        optimizer=config.optimizer,
        space=config.space,
        batch=config.batch,
        seed=config.seed,
        sigma=config.sigma,
        budget=budget,
        mode=config.mode,
        rungs=tuple(config.rungs),
        objectives=tuple(config.objectives),
        weights=None if config.weights is None else tuple(config.weights),
    )


def _search_one(
    job: Job,
    generator: Generator,
    zoo: Zoo | None,
    config: SearchConfig,
    folder: RunFolder,
    session: RaySession,
    report: Report | None,
    say: Callable[[str], None],
) -> Found:
    arch, data = job.arch, job.data
    closest = generator.closest(arch, condition_of(data, config))
    file = folder.population(arch)
    if file.exists():
        population = Population.load(file)
    else:
        population = make_population(generator, arch, data, closest, config)
        population.save(file)
    decoder, fitness = replace(generator.decoder(arch), parts=job.parts), job.fitness
    if config.batch_norm == "auto" and job.parts is None:  # a base's statistics are kept with its other tensors
        fitness = fitness.prefer_batch_norm(decoder.weights(population.mean()))
    centre = population.vectors[[o == "generated" for o in population.origins]].mean(0)
    objective = LatentObjective(
        decoder,
        fitness,
        centre if config.prior_width else None,
        config.prior_width,
        measures=tuple(name for name in config.objectives if name != "loss"),
        rungs=tuple(config.rungs),
        device="cuda" if config.gpus else "cpu",
    )
    say(f"{arch}: head {fitness.head}, batch norm {fitness.batch_norm if fitness.spec.has_batch_norm else 'none'}")
    pool = _pool(objective, population, config, session)
    try:
        result = run_search(
            None,
            population,
            _settings(config),
            history_path=folder.history,
            key=arch,
            pool=pool,
            on_evaluation=None if report is None else lambda progress: report(arch, progress),
        )
    finally:
        pool.close()
    if result.best_vector is None:
        raise BadInput(
            f"every candidate for {arch} failed", f"see {folder.history}", "Check the data set and the head."
        )
    best = fitness.score(decoder.weights(result.best_vector))
    card = {
        "format": "pt",
        "popgen": __version__,
        "arch": arch,
        "data": data.name,
        "arch_config": str(best.spec.config.to_json()),
    }
    weights = folder.write_best(arch, best.state(), card)
    front = [
        {
            "index": point.index,
            "values": dict(zip(config.objectives, point.values, strict=True)),
            "val_accuracy": point.metrics["accuracy"],
            "weights": str(
                folder.write_front(arch, point.index, fitness.score(decoder.weights(point.vector)).state(), card)
            ),
        }
        for point in result.front
    ]
    rivals = Rivals(generator, zoo, arch, data, fitness, config.seed, closest)
    rows = [] if config.baselines == "none" else list(rivals.rows(result.evaluations, config.baselines == "all"))
    if zoo is None and config.baselines != "none":
        say(
            f"{arch}: the zoo {generator.provenance.zoo!r} was not found, so its rows are missing; name its folder with --zoo"
        )
    finished = replace(job, fitness=fitness)
    if config.baselines != "none":
        rows += _control_rows(generator, decoder, finished, config)
    rows += _generated_rows(folder, population, decoder, finished)
    rows.append(Row("search", result.evaluations, best.accuracy, test_accuracy(best, data), best.loss))
    details = _details(result, fitness, population, closest) | ({"front": front} if front else {})
    return Found(arch, data.name, str(folder.path), str(weights), rows, details)


def make_population(
    generator: Generator, arch: str, data: DataSet, closest: list[str], config: SearchConfig
) -> Population:
    """Latents sampled for the condition, codes of the zoo's checkpoints on the closest data sets, the best of a run."""
    sampled = sample(generator, arch, data, config, config.population).flatten(1)
    experts = [
        (f"expert:{code.id}", latent.flatten()) for name in closest for code, latent in generator.stored(arch, name)
    ]
    experts = experts[: config.experts]
    vectors = torch.cat([sampled, *(latent[None] for _, latent in experts)]).double().numpy()
    origins = ["generated"] * len(sampled) + [origin for origin, _ in experts]
    if config.warm_start is not None:
        run = RunFolder.open(config.warm_start)
        best = best_of(run.history, arch, Population.load(run.population(arch)), config.warm_best)
        vectors, origins = np.vstack([vectors, best.vectors]), [*origins, *best.origins]
    return Population(vectors, origins)


def sample(
    generator: Generator, arch: str, data: DataSet, config: SearchConfig, n: int, control: Control | None = None
) -> Tensor:
    """Latents (n, k, d) under the run's condition, or under a control's."""
    return generator.sample(
        arch,
        condition_of(data, config),
        n,
        seed=config.seed,
        steps=config.sample_steps,
        guidance=config.guidance,
        sampler=config.sampler,
        prior=config.prior,
        control=control,
    )


def condition_of(data: DataSet, config: SearchConfig) -> DataSet | Description:
    """What the generator is conditioned on: the data set's images, or the run's description."""
    return data if config.describe is None else Description(config.describe)


def _pool(objective: LatentObjective, population: Population, config: SearchConfig, session: RaySession) -> Pool:
    """Ray actors, or this process. `auto` times one candidate: the answer does not depend on where it is computed."""
    workers, address = config.workers, _address(config)
    if workers == "auto" and _joins_cluster(config):
        return RayPool(objective, None, address, gpus=config.gpus, group=config.group, timeout=config.timeout)
    if workers == "auto":
        needs_workers = config.timeout is not None or config.gpus > 0
        in_process = not needs_workers and _seconds(objective, population) * config.evaluations < _RAY_PAYS
        workers = 0 if in_process else (os.cpu_count() or 1)
    if workers == 0:
        return LocalPool(objective, group=config.group)
    session.start(workers, address)
    return RayPool(objective, workers, address, gpus=config.gpus, group=config.group, timeout=config.timeout)


def _address(config: SearchConfig) -> str | None:
    return config.address or os.environ.get("RAY_ADDRESS") or None


def _joins_cluster(config: SearchConfig) -> bool:
    return _address(config) is not None and config.workers != 0


def _seconds(objective: LatentObjective, population: Population) -> float:
    objective(population.mean())  # the first call pays for caches
    began = time.perf_counter()
    objective(population.mean())
    return time.perf_counter() - began


def _generated_rows(folder: RunFolder, population: Population, decoder: Any, job: Job) -> list[Row]:
    """The unrefined population: the mean over its members, and its best by validation loss."""
    with History(folder.history, job.arch) as history:
        evaluated = sum(r.phase == "seed" and r.origin == "generated" and r.loss is not None for r in history.records)
    if not evaluated:
        return []
    scores = [job.fitness.score(decoder.weights(vector)) for vector in population.vectors[:evaluated]]
    best = min(scores, key=lambda score: score.loss)
    tested = Row("generated_best", len(scores), best.accuracy, test_accuracy(best, job.data), best.loss)
    return [_mean_row("generated_mean", scores, job.data), tested]


def _control_rows(generator: Generator, decoder: Any, job: Job, config: SearchConfig) -> list[Row]:
    """What the generator makes under other data sets' conditions, and under none: what its condition is worth."""
    rows = []
    for control in CONTROLS if generator.prior_name(config.prior) == "network" else CONTROLS[:1]:
        latents = sample(generator, job.arch, job.data, config, _CONTROL_SAMPLES, control)
        scores = [job.fitness.score(decoder.weights(latent.flatten())) for latent in latents]
        rows.append(_mean_row(control, scores, job.data))
    return rows


def _mean_row(name: str, scores: list[Score], data: DataSet) -> Row:
    n, tests = len(scores), [test_accuracy(score, data) for score in scores]
    return Row(name, n, sum(s.accuracy for s in scores) / n, sum(tests) / n, sum(s.loss for s in scores) / n)


def _details(result: SearchResult, fitness: Fitness, population: Population, closest: list[str]) -> dict[str, Any]:
    return {
        "head": fitness.head,
        "batch_norm": fitness.batch_norm,
        "space": result.space_name,
        "space_reason": result.space_reason,
        "space_dim": result.space_dim,
        "best_index": result.best_index,
        "best_origin": result.best_origin,
        "failures": result.failures,
        "seconds": round(result.seconds, 3),
        "stopped_by": result.stopped_by,
        "looks": result.looks,
        "population": len(population),
        "closest": closest[:4],
        "validation_images": len(fitness.val[1]),
    }
