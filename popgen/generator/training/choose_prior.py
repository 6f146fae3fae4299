"""The choice of the prior that samples: the trained network, or a closed-form prior."""

from __future__ import annotations

import statistics

from popgen.configs.sampling import Sampling
from popgen.generator.generator import Generator
from popgen.generator.sampling import PRIORS
from popgen.generator.training.data import TrainingData
from popgen.networks.forward import task_score
from popgen.tasks import get_task, goodness

# Priors that are fitted without gradient descent (popgen/generator/model/closed_form_priors.py).
CLOSED_FORM = ("ridge", "kde")
_SAMPLES = 3  # networks that are generated for each data set
_DATA_SETS = 12  # data sets for each architecture, at most


def choose_prior(generator: Generator, data: TrainingData) -> dict[str, float]:
    """Set the generator's prior; returns the mean validation score of the networks that each prior generates.

    Priors are compared on the data sets of held-out lineages (of training checkpoints where none are held out). `auto`
    chooses a closed-form prior if its score is better by more than the standard error of the paired difference.
    """
    kind = generator.config.prior.kind
    candidates = [name for name in PRIORS if kind not in CLOSED_FORM or name != "network"]
    scores: dict[str, list[float]] = {name: [] for name in candidates}
    values: dict[str, list[float]] = {name: [] for name in candidates}  # the scores, of which a higher one is better
    for arch, own in data.archs.items():
        held_out = sorted({r.data for r in own.held_out})
        names = held_out or sorted({r.data for r in own.records})
        for name in names[:: -(-len(names) // _DATA_SETS)]:
            known = data.data_sets.get(name) or data.read(name)
            for prior in candidates:
                codes = generator.sample(arch, known, _SAMPLES, sampling=Sampling(prior=prior))
                flats = generator.decode(arch, codes)
                score = statistics.mean(task_score(generator.spec(arch), flat, known) for flat in flats)
                scores[prior].append(score)
                values[prior].append(goodness(get_task(generator.spec(arch).config.task).unit, score))
    generator.provenance.prior = kind if kind in CLOSED_FORM else "network"
    if kind == "auto":
        best = max(CLOSED_FORM, key=lambda name: statistics.mean(values[name]))
        gains = [a - b for a, b in zip(values[best], values["network"], strict=True)]
        error = statistics.stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else float("inf")
        if statistics.mean(gains) > error:
            generator.provenance.prior = best
    return {name: round(statistics.mean(found), 4) for name, found in scores.items()}
