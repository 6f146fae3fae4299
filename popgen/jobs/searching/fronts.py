"""The Pareto front of a search beside those of its rivals: the zoo's checkpoints, the generator's samples, and what a careful user would try.

All networks are finished and scored alike, by the objectives without the penalty for distant latents. A front is chosen on validation images, which
flatters it; its networks are then scored on test images, where these have groups or no objective needs any. Fronts are compared by dominance
and by hypervolume: the share of the box between the best values of all fronts and a reference point, a tenth of the range beyond the worst.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from popgen.baselines.front_rivals import REPEATS, mixtures, noise_around, reweighted
from popgen.baselines.rivals import RivalInputs
from popgen.baselines.row import whole
from popgen.configs.search import Baselines
from popgen.errors import BadInput
from popgen.fitness import Scored, scores_of
from popgen.fitness.loss import search_loss
from popgen.fitness.measures import measure
from popgen.fitness.names import needs_groups
from popgen.jobs.searching.checks import ArchSearch
from popgen.networks.forward import network_outputs
from popgen.tasks import get_task
from popgen.types import Flat
from search import hypervolume, nondominated

SEARCH, GENERATED, ZOO = "search", "generated", "zoo"
_MARGIN = 0.1  # how far the reference point lies beyond the worst values, as a share of their range
Values = tuple[float, ...]


@dataclass(frozen=True)
class Network:
    """A scored network of a front: where it comes from, and its objectives' values on validation and test images."""

    origin: str
    scored: Scored
    values: Values
    test: Values | None = None


@dataclass(frozen=True)
class Front:
    """The networks of a set that none of the set dominates, and what the set cost, in evaluations."""

    name: str
    evaluations: int
    networks: list[Network]

    def values(self, split: str) -> np.ndarray | None:
        """Values (n, K) on `val` or `test`, None where they are not known."""
        rows = [one.values if split == "val" else one.test for one in self.networks]
        return None if any(row is None for row in rows) else np.array(rows, dtype=float)


@dataclass(frozen=True)
class Fronts:
    """Fronts of one architecture, that of the search first, under objectives of these names."""

    objectives: tuple[str, ...]
    fronts: list[Front]

    def to_json(self) -> dict[str, Any]:
        """The keys of `fronts` in result.json; they are stable. What is not known of the test split is None."""
        found: list[dict[str, Any]] = [
            {
                "name": front.name,
                "evaluations": front.evaluations,
                "points": [
                    {
                        "origin": one.origin,
                        "values": dict(zip(self.objectives, one.values, strict=True)),
                        "test_values": None if one.test is None else dict(zip(self.objectives, one.test, strict=True)),
                    }
                    for one in front.networks
                ],
            }
            for front in self.fronts
        ]
        boxes = {}
        for split in ("val", "test"):
            tables = [front.values(split) for front in self.fronts]
            known = [table for table in tables if table is not None]
            box = _box(known) if len(known) == len(tables) else None
            boxes[split] = (
                None if box is None else [dict(zip(self.objectives, end.tolist(), strict=True)) for end in box]
            )
            for one, table in zip(found, tables, strict=True):
                one |= _compared(table, tables[0], box, split)
        return {"objectives": list(self.objectives), "box": boxes, "fronts": found}


def dominated(values: np.ndarray, by: np.ndarray) -> int:
    """How many rows of `values` (n, K) some row of `by` (m, K) dominates: it is nowhere worse and somewhere better.

    >>> dominated(np.array([[1.0, 1.0], [0.0, 3.0]]), np.array([[1.0, 0.0], [0.0, 3.0]]))
    1
    """
    no_worse = np.all(by[None] <= values[:, None], axis=2)
    better = np.any(by[None] < values[:, None], axis=2)
    return int(np.any(no_worse & better, axis=1).sum())


def volume(values: np.ndarray, box: tuple[np.ndarray, np.ndarray]) -> float:
    """The share of the box between a best and a reference point (K,) that rows (n, K) dominate.

    >>> volume(np.array([[0.0, 1.0], [1.0, 0.0]]), (np.zeros(2), np.full(2, 2.0)))
    0.75
    """
    best, reference = box
    return hypervolume((values - best) / (reference - best), np.ones(len(best)))


def _box(tables: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The best value of each objective, and the reference point beyond the worst; a constant objective gets a range of one."""
    rows = np.concatenate(tables)
    best, worst = rows.min(0), rows.max(0)
    span = np.where(worst > best, worst - best, 1.0)
    return best, worst + _MARGIN * span


def _compared(
    table: np.ndarray | None, search: np.ndarray | None, box: tuple[np.ndarray, np.ndarray] | None, split: str
) -> dict[str, Any]:
    """The hypervolume of a front, and how many points it and the search's front dominate of each other."""
    if table is None or search is None or box is None:
        return {f"{split}_{key}": None for key in ("hypervolume", "dominated", "dominates")}
    return {
        f"{split}_hypervolume": volume(table, box),
        f"{split}_dominated": dominated(table, search),
        f"{split}_dominates": dominated(search, table),
    }


def values_of(names: Sequence[str], scored: Scored) -> Values:
    """The objectives' values on validation images, the loss without a penalty.

    Raises:
        BadInput: as `measure`.
    """
    return tuple(
        scored.loss if name == "loss" else measure(name, scored.outputs, scored.targets, scored.groups)
        for name in names
    )


def test_values(names: Sequence[str], scored: Scored, one: ArchSearch) -> Values | None:
    """The objectives' values on test images; None where `why_untested` says why, or a measure fails on them."""
    if why_untested(names, one):
        return None
    part, groups = one.data.test, None if one.groups is None else one.groups.test
    outputs = network_outputs(scored.spec, scored.flat, scored.spec.config.inputs.prepare(part.inputs))
    task = get_task(scored.spec.config.task)
    try:
        return tuple(
            search_loss(task, outputs, part.targets) if name == "loss" else measure(name, outputs, part.targets, groups)
            for name in names
        )
    except (
        BadInput
    ):  # a user's function, or groups that share no class; validation images passed, and the search is done
        return None


def why_untested(names: Sequence[str], one: ArchSearch) -> str:
    """The reason why a front cannot be scored on test images, "" where it can."""
    if not len(one.data.test):
        return "there are none"
    needed = needs_groups(names)
    if needed and (one.groups is None or one.groups.test is None):
        return f"{needed[0]} needs their groups, which are not known"
    return ""


def front_of(
    name: str, evaluations: float, networks: Iterable[tuple[str, Scored]], names: Sequence[str], one: ArchSearch
) -> Front | None:
    """The networks that no other of them dominates, scored on test images, too; None where there are no networks."""
    found = [Network(origin, scored, values_of(names, scored)) for origin, scored in networks]
    found = [network for network in found if np.isfinite(network.values).all()]
    if not found:
        return None
    on_front = nondominated(np.array([network.values for network in found]))
    kept = [network for network, is_on in zip(found, on_front, strict=True) if is_on]
    kept = [replace(network, test=test_values(names, network.scored, one)) for network in kept]
    return Front(name, whole(evaluations), sorted(kept, key=lambda network: network.values))


def rival_fronts(
    given: RivalInputs, one: ArchSearch, names: Sequence[str], baselines: Baselines, say: Callable[[str], None]
) -> list[Front]:
    """The zoo's own front; with all baselines those of noise around it, of mixtures, and of reweighted training, too.

    Mixtures are those of the checkpoints that are best for each group, or, without groups, for each objective.
    """
    if baselines == "none" or not given.records:
        return []
    cost, ids = given.fitness.cost, [record.id for record in given.records]
    zoo = _scored(zip(ids, given.weights, strict=True), given, say)
    fronts = [front_of(ZOO, len(ids) * cost, zoo, names, one)]
    if baselines == "all" and fronts[0] is not None:
        around, ends = [network.origin for network in fronts[0].networks], _best_of_each(zoo, names)
        sets = {
            "noise": noise_around(given, _weights(given, around), around),
            "mixtures": mixtures(given, _weights(given, ends), ends),
        }
        for name, candidates in sets.items():
            scored = _scored(candidates, given, say)
            fronts.append(front_of(name, (len(ids) + len(scored)) * cost, scored, names, one))
        fronts.append(trained_front("reweighted", zoo, given, one, names, say))
    return [front for front in fronts if front is not None]


def trained_front(
    name: str,
    starts: Sequence[tuple[str, Scored]],
    given: RivalInputs,
    one: ArchSearch,
    names: Sequence[str],
    say: Callable[[str], None],
) -> Front | None:
    """The front of reweighted training from the network with the lowest first objective, for the search's image passes.

    Choosing among the starts and scoring what is trained is paid for; None where nothing is left, or training images have no groups.
    """
    _, start = min(starts, key=lambda entry: values_of(names[:1], entry[1]))
    trained = list(reweighted(given, start.flat, len(starts) + len(REPEATS)))
    finished = replace(given, fitness=given.fitness.as_finished())
    return front_of(name, given.evaluations, _scored(trained, finished, say), names, one)


def _scored(
    candidates: Iterable[tuple[str, Tensor]], given: RivalInputs, say: Callable[[str], None]
) -> list[tuple[str, Scored]]:
    """The networks that can be scored, with their origins."""
    tried = [(origin, scores_of(given.fitness, [flat])) for origin, flat in candidates]
    found = [(origin, scored[0]) for origin, scored in tried if scored]
    if len(found) < len(tried):
        say(f"{given.spec.name}: {len(tried) - len(found)} of {len(tried)} networks beside the front cannot be scored")
    return found


def _weights(given: RivalInputs, ids: Sequence[str]) -> Flat:
    """Weights (n, p) of checkpoints, aligned where the search aligns them."""
    if given.align is not None:
        return given.align(list(ids))
    index = {record.id: i for i, record in enumerate(given.records)}
    return given.weights[[index[one] for one in ids]]


def _best_of_each(zoo: Sequence[tuple[str, Scored]], names: Sequence[str]) -> list[str]:
    """The ids of the checkpoints that err least in each group, or that are best by each objective; each once."""
    groups = zoo[0][1].groups
    if groups is None:
        table = np.array([values_of(names, scored) for _, scored in zoo])
    else:
        wrong = torch.stack([(scored.outputs.argmax(1) != scored.targets).double() for _, scored in zoo])
        table = torch.stack([wrong[:, groups == g].mean(1) for g in groups.unique()], dim=1).numpy()
    return list(dict.fromkeys(zoo[i][0] for i in np.nanargmin(table, axis=0)))
