"""The lines of a search's table besides the search itself: rivals, controls, and the population before the search."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from popgen.baselines.rivals import Rivals, Row, test_accuracy, whole
from popgen.baselines.starts import make_starts
from popgen.configs.search import SearchConfig
from popgen.fitness import Score
from popgen.generator import Generator
from popgen.generator.generator import CONTROLS
from popgen.jobs.searching.checks import Job
from popgen.jobs.searching.folder import RunFolder
from popgen.jobs.searching.population import sample
from popgen.zoo import Zoo
from search import History, Population

_CONTROL_SAMPLES = 5  # networks of each control


def rival_rows(
    generator: Generator, zoo: Zoo | None, job: Job, config: SearchConfig, closest: list[str], evaluations: int
) -> Iterator[Row]:
    """The zoo's rows; for an architecture that no network of the zoo has, the other ways to fill it with weights."""
    if job.target.is_trained:
        rivals = Rivals(generator, zoo, job.arch, job.data, job.fitness, config.seed, closest)
        yield from rivals.rows(evaluations, config.baselines == "all")
        return
    for start in make_starts(job.target, zoo, job.data, closest, config.seed):
        if start.flat is not None:
            yield Row.of(start.name, job.fitness.cost, job.fitness.score(start.flat), job.data)


def generated_rows(folder: RunFolder, population: Population, decoder: Any, job: Job) -> list[Row]:
    """The unrefined population: the mean over its members, and its best by validation loss."""
    with History(folder.history, job.arch) as history:
        evaluated = sum(r.phase == "seed" and r.origin == "generated" and r.loss is not None for r in history.records)
    if not evaluated:
        return []
    scores = [job.fitness.score(decoder.weights(vector)) for vector in population.vectors[:evaluated]]
    best = min(scores, key=lambda score: score.loss if math.isfinite(score.loss) else math.inf)
    tested = Row.of("generated_best", len(scores) * job.fitness.cost, best, job.data)
    return [_mean_row("generated_mean", scores, job), tested]


def control_rows(generator: Generator, decoder: Any, job: Job, config: SearchConfig) -> list[Row]:
    """What the generator makes under other data sets' conditions, and under none: what its condition is worth."""
    rows = []
    for control in CONTROLS if generator.prior_name(config.sampling.prior) == "network" else CONTROLS[:1]:
        latents = sample(generator, job.target.source, job.data, config, _CONTROL_SAMPLES, control)
        scores = [job.fitness.score(decoder.weights(latent.flatten())) for latent in latents]
        rows.append(_mean_row(control, scores, job))
    return rows


def _mean_row(name: str, scores: list[Score], job: Job) -> Row:
    n, tests = len(scores), [test_accuracy(score, job.data) for score in scores]
    accuracy, loss = sum(s.accuracy for s in scores) / n, sum(s.loss for s in scores) / n
    return Row(name, whole(n * job.fitness.cost), accuracy, sum(tests) / n, loss)
