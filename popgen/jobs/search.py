"""`popgen search`: condition, population, space, Nevergrad, evaluation, best weights, table.

The main path of popgen. Everything that can be refused is refused before the encoders are loaded or Ray starts; the engine
in `search` does the rest and knows nothing of networks.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from popgen import __version__
from popgen.audit.contamination import contamination, say_contamination
from popgen.baselines.rivals import Row
from popgen.configs.search import SearchConfig
from popgen.data import DataSet
from popgen.data.classes import renamed_classes
from popgen.errors import BadInput
from popgen.fitness import Fitness, LatentObjective
from popgen.generator import Generator
from popgen.jobs.searching.checks import Job, prepare, settings, with_data_folder
from popgen.jobs.searching.finetune import Tuning, finetune
from popgen.jobs.searching.folder import RunFolder
from popgen.jobs.searching.population import make_population
from popgen.jobs.searching.source import make_source
from popgen.zoo import Zoo
from search import (
    LocalPool,
    Pool,
    Population,
    Progress,
    RayPool,
    RaySession,
    SearchResult,
    run_search,
)

__all__ = ["Found", "Job", "Report", "make_population", "prepare", "search"]

Report = Callable[[str, Progress], None]  # architecture, state of its search
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
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        return plain | {"rows": [row.to_json() for row in self.rows]}


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
    config = with_data_folder(config)
    jobs, generator, zoo = prepare(config, say)
    for text in jobs[0].data.remarks:
        say(f"{config.data}: {text}")
    seen = contamination(jobs[0].data, generator, zoo, config.data_dir)
    say_contamination(seen, config.data, say)
    recorded = {
        "data_sha256": jobs[0].data.sha256,
        **_origin(generator, zoo),
        "base_sha256": None if jobs[0].parts is None else jobs[0].parts.sha256,
        "decisions": {j.arch: {"head": j.fitness.head} for j in jobs},
        **({} if jobs[0].groups is None else {"groups": jobs[0].groups.counts}),
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
        folder.write_config(config, {**recorded, "data_remarks": list(jobs[0].data.remarks)})
        say(f"run folder: {folder.path}")
        try:
            found = [_search_one(job, generator, zoo, config, folder, session, report, say) for job in jobs]
        except KeyboardInterrupt:
            say(f"what was evaluated is kept; continue with: popgen search --resume {folder.path}")
            raise
    found = [replace(one, details=one.details | {"contamination": seen}) for one in found]
    result = {"popgen": __version__, "results": [f.to_json() for f in found]}
    folder.write_result(result)
    return found


def _search_one(
    job: Job,
    generator: Generator | None,
    zoo: Zoo | None,
    config: SearchConfig,
    folder: RunFolder,
    session: RaySession,
    report: Report | None,
    say: Callable[[str], None],
) -> Found:
    arch, data = job.arch, job.data
    source = make_source(generator, zoo, job, config, folder, say)
    file = folder.population(arch)
    if file.exists():
        population = Population.load(file)
    else:
        population = source.population()
        population.save(file)
    decoder, fitness, centre = source.decoder, source.fitness(population), source.centre(population)
    spent = math.ceil(source.spent * fitness.cost)
    objective = LatentObjective(
        decoder,
        fitness,
        centre if config.prior_width else None,
        config.prior_width,
        measures=tuple(name for name in config.objectives if name != "loss"),
        rungs=tuple(config.rungs),
        device="cuda" if config.compute.gpus else "cpu",
    )
    renamed = renamed_classes(data.classes, source.classes) if fitness.head != "refit" else {}
    fitted = fitness.spec.config.inputs.remark(data.shape)
    if fitted:
        say(f"{arch}: {fitted}")
    if renamed:
        say(f"{arch}: classes taken as the same: {', '.join(f'{a} = {b}' for a, b in renamed.items())}")
    steps = "" if fitness.sgd is None else f", {fitness.sgd.steps} steps of SGD: an evaluation costs {fitness.cost:.2f}"
    say(
        f"{arch}: head {fitness.head}, batch norm {fitness.batch_norm if fitness.spec.has_batch_norm else 'none'}{steps}"
    )
    say(f"{arch}: candidates are run with {objective.evaluation}")
    if spent >= config.evaluations:
        say(
            f"{arch}: the budget of {config.evaluations} evaluations is gone before the search, by {spent}: one more is made"
        )
    pool = _pool(objective, population, config, session)
    try:
        result = run_search(
            None,
            population,
            settings(config, source.coordinates, spent, fitness.cost),
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
    card = _card(arch, data, fitness)
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
    rows = source.rows(folder, population, fitness, spent + result.evaluations)
    rows.append(Row.of("search", spent + result.evaluations, best, data))
    details = (
        _details(result, replace(job, fitness=fitness), population)
        | source.details()
        | {"renamed_classes": renamed, "images": fitted, "run_with": objective.evaluation}
        | ({"front": front} if front else {})
    )
    tuning = Tuning.of(arch, data, config)
    if tuning.epochs:
        rows, details["finetune"] = finetune(rows, tuning, folder, card, say)
    return Found(arch, data.name, str(folder.path), str(weights), rows, details)


def _origin(generator: Generator | None, zoo: Zoo | None) -> dict[str, str]:
    """Hashes of what candidates are made from."""
    if generator is not None:
        return {"generator_sha256": generator.sha256}
    assert zoo is not None
    return {"zoo_sha256": zoo.sha256}


def _pool(objective: LatentObjective, population: Population, config: SearchConfig, session: RaySession) -> Pool:
    """Ray actors, or this process. `auto` times one candidate: the answer does not depend on where it is computed."""
    how, address = config.compute, _address(config)
    options: dict[str, Any] = {"gpus": how.gpus, "at_once": how.at_once, "timeout": how.timeout}
    workers = how.workers
    if workers == "auto" and _joins_cluster(config):
        return RayPool(objective, None, address, **options)
    if workers == "auto":
        needs_workers = how.timeout is not None or how.gpus > 0
        count = config.evaluations / objective.fitness.cost
        in_process = not needs_workers and _seconds(objective, population) * count < _RAY_PAYS
        workers = 0 if in_process else (os.cpu_count() or 1)
    if workers == 0:
        return LocalPool(objective, at_once=how.at_once)
    session.start(workers, address)
    return RayPool(objective, workers, address, **options)


def _address(config: SearchConfig) -> str | None:
    return config.compute.address or os.environ.get("RAY_ADDRESS") or None


def _joins_cluster(config: SearchConfig) -> bool:
    return _address(config) is not None and config.compute.workers != 0


def _seconds(objective: LatentObjective, population: Population) -> float:
    objective(population.mean())  # the first call pays for caches
    began = time.perf_counter()
    objective(population.mean())
    return time.perf_counter() - began


def _card(arch: str, data: DataSet, fitness: Fitness) -> dict[str, str]:
    """The metadata of a file of weights: how to build the network, what its outputs mean, how it was finished.

    `classes` are the names of the first outputs, in their order; a head that is kept may have more.
    """
    steps = {} if fitness.sgd is None else {"sgd": json.dumps(asdict(fitness.sgd))}
    return {
        "format": "pt",
        "popgen": __version__,
        "arch": arch,
        "data": data.name,
        "arch_config": json.dumps(fitness.finished.config.to_json()),
        "classes": json.dumps(data.classes),
        "head": fitness.head,
        "batch_norm": fitness.batch_norm if fitness.spec.has_batch_norm else "none",
        **steps,
    }


def _details(result: SearchResult, job: Job, population: Population) -> dict[str, Any]:
    fitness = job.fitness
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
        "validation_images": len(fitness.val[1]),
        "cost": fitness.cost,  # of an evaluation, in passes over them
        **({} if fitness.sgd is None else {"sgd": asdict(fitness.sgd)}),
        **({} if job.groups is None else {"groups": job.groups.counts}),
    }
