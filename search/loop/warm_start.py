"""The best of a finished search as seeds of another, which may have other settings: a warm start."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import SearchError
from ..optimizers.pareto import order
from .history import History
from .plan import seeded_space, with_mean
from .population import Population


def best_of(history_path: str | Path, key: str, population: Population, count: int) -> Population:
    """The `count` best vectors of a recorded search, best first, each with the origin "best:INDEX".

    `population` is the one that the search was started from: coordinates are relative to it. Any number of vectors is
    given up to the number of those that were evaluated in full.

    Raises:
        SearchError: no such search in this file, another population, or nothing in it that did not fail.

    Example:
        >>> import tempfile
        >>> from search import SearchSettings, run_search
        >>> seeds = Population(np.random.default_rng(0).normal(size=(8, 4)), ["drawn"] * 8)
        >>> path = Path(tempfile.mkdtemp()) / "history.jsonl"
        >>> found = run_search(lambda v: float(v @ v), seeds, SearchSettings(), history_path=path, key="sphere")
        >>> bool((best_of(path, "sphere", seeds, 3).vectors[0] == found.best_vector).all())
        True
    """
    path = Path(history_path)
    header, records = None, []
    if path.exists():
        with History(path, key) as history:
            header, records = history.header, history.records
    if header is None:
        raise SearchError(
            f"{path} has no search {key!r}\na warm start takes the best candidates of one\nname the history of a search"
        )
    if header["settings"]["population"] != population.digest():
        raise SearchError(
            f"{path}, search {key!r}, was started from another population\n"
            "its coordinates are relative to its own seeds\npass the population that was saved with it"
        )
    seeds = with_mean(population)
    seed_worths = [record.worth for record in records if record.phase == "seed"]
    full = [record for record in records if record.full and record.loss is not None]
    if not full:
        raise SearchError(
            f"{path}, search {key!r}, has no evaluation that succeeded\n"
            "there is no best one to start from\nstart from the population itself"
        )
    if full[0].values is None:
        ranked = sorted(full, key=lambda record: float("inf") if record.loss is None else record.loss)
    else:
        ranked = [full[row] for row in order(np.array([record.values for record in full]))]
    space = None
    if len(seed_worths) == len(seeds):
        space = seeded_space(header["settings"]["space"], seeds, seed_worths)
    vectors, origins = [], []
    for record in ranked[:count]:
        if record.coordinates is None or space is None:
            vectors.append(seeds.vectors[record.candidate])
        else:
            vectors.append(space.to_vector(np.array(record.coordinates)))
        origins.append(f"best:{record.index}")
    return Population(np.array(vectors), origins)
