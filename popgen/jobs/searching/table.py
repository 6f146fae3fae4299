"""The rows of a search's table that need a generator: the population before the search, and controls of the condition."""

from __future__ import annotations

from collections.abc import Callable

from popgen.baselines.optimism import Choice
from popgen.baselines.row import Row, test_score, unit_of, whole
from popgen.configs.search import SearchConfig
from popgen.fitness import Scored, scores_of
from popgen.generator import Generator
from popgen.generator.controls import CONTROLS
from popgen.generator.decoder import WeightDecoder
from popgen.generator.task_sets import TASK_KINDS
from popgen.jobs.searching.checks import ArchSearch
from popgen.jobs.searching.folder import RunFolder
from popgen.jobs.searching.population import sample
from search import History, Population

_CONTROL_SAMPLES = 5  # networks of each control


def generated_rows(folder: RunFolder, population: Population, decoder: WeightDecoder, one: ArchSearch) -> list[Row]:
    """The unrefined population: the mean over its members, and its best by validation loss.

    Members whose evaluation failed have no scores. They are left out of the mean, and count in what it cost.
    """
    scored, tried = _sampled(folder, population, decoder, one)
    return [_mean_row("generated_mean", scored, tried, one), *_best_row(scored, tried, one)] if scored else []


def _sampled(
    folder: RunFolder, population: Population, decoder: WeightDecoder, one: ArchSearch
) -> tuple[list[Scored], int]:
    """The sampled members that can be scored, and how many were evaluated."""
    with History(folder.history, one.arch) as history:
        seeds = [r for r in history.records if r.phase == "seed" and r.origin == "generated"]
    vectors = population.with_mean().vectors
    flats = (decoder.weights(vectors[r.candidate]) for r in seeds if r.loss is not None)
    return scores_of(one.fitness, flats), len(seeds)


def _best_row(scored: list[Scored], tried: int, one: ArchSearch) -> list[Row]:
    """The row of the best by validation loss, where any was scored."""
    if not scored:
        return []
    best = min(scored, key=lambda network: network.finite_loss)
    optimism = None if one.fitness.label_free else Choice.of(scored).optimism()
    return [Row.of("generated_best", tried * one.fitness.cost, best, one.data, optimism)]


def task_rows(folder: RunFolder, population: Population, decoder: WeightDecoder, one: ArchSearch) -> list[Row]:
    """What is generated for a task of texts from nothing, its words, its texts and both: a network each, which nothing chose.

    Behind them stands the best of the samples, as in `generated_rows`.
    """
    rows = []
    for kind in reversed(TASK_KINDS):
        vectors = population.vectors[[origin == f"{kind}@1" for origin in population.origins]]
        for scored in scores_of(one.fitness, [decoder.weights(vector.copy()) for vector in vectors]):
            rows.append(Row.of(f"generated_{kind}", one.fitness.cost, scored, one.data))
    return [*rows, *_best_row(*_sampled(folder, population, decoder, one), one)]


def control_rows(
    generator: Generator, decoder: WeightDecoder, one: ArchSearch, config: SearchConfig, say: Callable[[str], None]
) -> list[Row]:
    """Networks generated under other data sets' conditions, and under none: they show the effect of the condition."""
    rows = []
    for control in CONTROLS if generator.prior_name(config.sampling.prior) == "network" else CONTROLS[:1]:
        latents = sample(generator, one.target.source, one.data, config, _CONTROL_SAMPLES, control).flatten(1)
        scored = scores_of(one.fitness, (decoder.weights(latent) for latent in latents))
        if scored:
            rows.append(_mean_row(control, scored, len(latents), one))
        if len(scored) < len(latents):
            say(
                f"{one.arch}: {len(latents) - len(scored)} of the {len(latents)} networks of {control} cannot be scored"
            )
    return rows


def _mean_row(name: str, scored: list[Scored], tried: int, one: ArchSearch) -> Row:
    """Means over several networks, of which `tried` were evaluated."""
    n, tests = len(scored), [test_score(network, one.data) for network in scored]
    score, loss = sum(network.score for network in scored) / n, sum(network.loss for network in scored) / n
    images = len(scored[0].targets), len(one.data.test)
    return Row(name, whole(tried * one.fitness.cost), score, sum(tests) / n, loss, unit_of(scored[0]), images=images)
