"""Writes the chosen checkpoints as a search writes its results: plain state dicts that answer with the data set's classes.

A head is kept, remapped by class name, or refitted in closed form on the training examples. All files are written into a
hidden folder that gets its name when it is complete, so that an interrupted command leaves nothing behind.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from popgen import __version__
from popgen.archs.beside import write_beside
from popgen.cards.make import keep_card
from popgen.data import DataSet
from popgen.errors import BadInput
from popgen.files import safe_name, write_tensors, write_text
from popgen.fitness import Fitness, Scored, make_fitness
from popgen.hub.kinds import RANKED
from popgen.json_text import json_text
from popgen.zoo import Checkpoint, Zoo
from popgen.zoo.parents import parents_of

if TYPE_CHECKING:
    from popgen.jobs.ranking.rank import Ranked


@dataclass(frozen=True)
class Written:
    """A chosen network that was written, and its score on all validation examples."""

    id: str
    arch: str
    weights: str
    head: str  # keep, remap or refit
    val_score: float
    unit: str


def write_chosen(ranked: Ranked, zoo: Zoo, data: DataSet, out: Path, say: Callable[[str], None]) -> Ranked:
    """Write the chosen networks, result.json and a card into the folder `out`; returns the ranking with their files."""
    out.parent.mkdir(parents=True, exist_ok=True)
    hidden = out.with_name(f".{out.name}.unfinished")
    shutil.rmtree(hidden, ignore_errors=True)
    try:
        written = []
        for row in ranked.chosen:
            record = zoo.record(row.id)
            fitness, scored = _finished(zoo, record, data, say)
            file = hidden / f"ranked-{row.rank}-{safe_name(record.arch)}.safetensors"
            write_tensors(file, scored.state(), _metadata(record, data, fitness))
            write_beside(file, scored.spec, scored.state(), data.classes)
            unit = fitness.task.unit
            written.append(Written(row.id, row.arch, str(out / file.name), fitness.head, scored.score, unit))
        ranked = replace(ranked, written=written)
        write_text(hidden / "result.json", json_text(_content(ranked, zoo), indent=1) + "\n")
        if out.exists():
            out.rmdir()  # it is empty
        hidden.rename(out)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
    keep_card(out, RANKED)
    return ranked


def _finished(zoo: Zoo, record: Checkpoint, data: DataSet, say: Callable[[str], None]) -> tuple[Fitness, Scored]:
    """The network with a head for the data set's classes, and its score on the validation split."""
    spec = zoo.spec(record.arch)
    try:
        fitness = make_fitness(spec, data, record.classes, head="auto")
    except BadInput as error:  # its outputs are not those of a linear layer
        say(f"{record.id} is written as it is: {error.what}")
        fitness = make_fitness(spec, data, record.classes, head="keep")
    return fitness, fitness.score(zoo.matrix([record])[0])


def _metadata(record: Checkpoint, data: DataSet, fitness: Fitness) -> dict[str, str]:
    """The metadata of a file of weights, with the keys of a search's results."""
    return {
        "format": "pt",
        "popgen": __version__,
        "arch": record.arch,
        "data": data.name,
        "arch_config": json_text(fitness.finished.config.to_json()),
        "classes": json_text(data.classes),
        "head": fitness.head,
        "batch_norm": "keep" if fitness.spec.has_batch_norm else "none",
        "checkpoint": record.id,
        "checkpoint_sha256": record.sha256,
    }


def _content(ranked: Ranked, zoo: Zoo) -> dict[str, Any]:
    parents = parents_of([zoo.record(one.id) for one in ranked.written])
    return {**ranked.to_json(), "made_from": {"zoo": zoo.name, "zoo_sha256": zoo.sha256, **parents}}
