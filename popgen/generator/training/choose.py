"""Which prior samples: the trained one, or a cheap one where it does better on held-out lineages, or was asked for."""

from __future__ import annotations

import statistics

from popgen.configs.sampling import Sampling
from popgen.data import load_data
from popgen.generator.generator import Generator
from popgen.generator.sampling import PRIORS
from popgen.generator.training.tasks import Tasks
from popgen.networks.forward import task_score

CHEAP = ("ridge", "kde")
_SAMPLES, _TASKS = 3, 12  # networks generated for each of so many tasks an architecture, at most


def choose_prior(generator: Generator, tasks: Tasks) -> dict[str, float]:
    """Set the generator's prior; returns the mean validation accuracy of the networks that each one generates.

    Scored are the data sets of held-out lineages (of training checkpoints where none are held out). A cheap prior is chosen by
    `auto` where its accuracy is higher by more than the standard error of the paired difference.
    """
    kind = generator.config.prior.kind
    candidates = [name for name in PRIORS if kind not in CHEAP or name != "network"]
    scores: dict[str, list[float]] = {name: [] for name in candidates}
    for arch, task in tasks.archs.items():
        held_out = sorted({r.data for r in task.held_out})
        names = held_out or sorted({r.data for r in task.records})
        for name in names[:: -(-len(names) // _TASKS)]:
            data = tasks.data.get(name) or load_data(name, tasks.data_dir)
            for prior in candidates:
                flats = generator.decode(arch, generator.sample(arch, data, _SAMPLES, sampling=Sampling(prior=prior)))
                scores[prior].append(
                    statistics.mean(task_score(generator.spec(arch), flat, data.val) for flat in flats)
                )
    generator.provenance.prior = kind if kind in CHEAP else "network"
    if kind == "auto":
        best = max(CHEAP, key=lambda name: statistics.mean(scores[name]))
        gains = [a - b for a, b in zip(scores[best], scores["network"], strict=True)]
        error = statistics.stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else float("inf")
        if statistics.mean(gains) > error:
            generator.provenance.prior = best
    return {name: round(statistics.mean(values), 4) for name, values in scores.items()}
