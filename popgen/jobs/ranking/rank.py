"""`popgen rank`: the best checkpoints of a zoo for a data set, without training and at a share of an exhaustive evaluation's cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from popgen import __version__
from popgen.configs.rank import RankConfig
from popgen.data import DataSet, load_data
from popgen.data.names import trust_sources
from popgen.errors import BadInput
from popgen.files import check_empty
from popgen.jobs.parents import with_commits
from popgen.jobs.ranking.candidates import Candidates, find_candidates
from popgen.jobs.ranking.race import Place, planned_passes, run_race
from popgen.jobs.ranking.write import Written, write_chosen
from popgen.networks.threads import threads
from popgen.ranking.examples import ranking_examples
from popgen.ranking.methods import METHODS, choose_method
from popgen.ranking.schedule import race_rungs
from popgen.ranking.stream import Stream
from popgen.tasks import CLASSIFICATION
from popgen.zoo import Zoo

OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class RankedRow:
    """A checkpoint with its score at the last look, and what that and the looks before it cost."""

    rank: int
    id: str
    arch: str
    data: str  # what it was trained on
    score: float
    error: float  # standard error over the examples of the last look
    examples: int  # number of examples of the last look
    images: int  # image passes
    seconds: float
    chosen: bool


@dataclass(frozen=True)
class Ranked:
    """The ranking of a zoo's checkpoints for a data set, the best first; only rows with the same number of examples compare by score."""

    data: str
    zoo: str
    method: str
    what: str  # the score in words, with its unit
    why: str  # the reason for the method
    examples: int  # number of examples of the last look
    images: int  # image passes of all checkpoints
    exhaustive: int  # image passes of showing every checkpoint every example
    seconds: float
    rows: list[RankedRow]
    failures: dict[str, str]  # by the checkpoint's id
    left_out: dict[str, int]  # number of checkpoints by the reason
    written: list[Written]
    made_with: dict[str, Any]  # the version of popgen, the seed and the settings of the examples

    def __repr__(self) -> str:
        best = f"{self.rows[0].id} {self.rows[0].score:.4f}" if self.rows else "none"
        return f"Ranked({self.data!r}, {len(self.rows):,} checkpoints of {self.zoo!r} by {self.method}, best: {best})"

    @property
    def chosen(self) -> list[RankedRow]:
        """The best rows."""
        return [row for row in self.rows if row.chosen]

    def to_json(self) -> dict[str, Any]:
        """The keys of --json; they are stable."""
        lists = {"rows": [vars(row) for row in self.rows], "written": [vars(one) for one in self.written]}
        return {**vars(self), "chosen": [row.id for row in self.chosen], **lists}


def rank(
    config: RankConfig,
    out: str | None = None,
    say: Callable[[str], None] = lambda _: None,
    on_progress: OnProgress = lambda *_: None,
) -> Ranked:
    """Rank the checkpoints for the data set; with `out` write the best ones there, with the table as `out/result.json`.

    Only validation and training examples are shown; the test split is never used. Nothing is trained: a network whose
    classes are not the data set's by name is written with a head that is fitted in closed form.

    Args:
        on_progress: called with what is counted, and the numbers done and of all.

    Raises:
        PopgenError: an unknown name, settings or data that do not fit, or an `out` that is not empty.
    """
    config = with_commits(config, say)
    trust_sources([config.data])
    zoo = Zoo.open(config.zoo)
    if out is not None:
        check_empty(Path(out), "a ranking")
    data = load_data(config.data, config.data_dir)
    for text in data.remarks:
        say(f"{config.data}: {text}")
    found, name, why = _method(config, data, find_candidates(zoo, data, config.archs))
    for reason, count in found.left_out.items():
        say(f"{count:,} checkpoints are left out: they {reason}")
    with threads(1), threadpool_limits(1):  # one process, as a search's worker is: small networks are slower on more
        ranked = _ranked(config, zoo, data, found, name, why, on_progress)
    if ranked.images > 1.05 * config.share * ranked.exhaustive:  # a race rounds its looks up
        say(
            f"this cost {ranked.images / ranked.exhaustive:.0%} of an exhaustive evaluation, more than --share "
            f"{config.share:g}: fewer than {ranked.rows[-1].examples if ranked.rows else 0} images say too little at first"
        )
    for failure, ids in _by_reason(ranked.failures).items():
        who = ", ".join(ids[:3]) + (f" and {len(ids) - 3:,} more" if len(ids) > 3 else "")
        say(f"{who} could not be scored: {failure}")
    if not ranked.rows:
        raise BadInput(
            f"none of the {len(found.records):,} checkpoints could be scored on {data.name!r}",
            next(iter(ranked.failures.values()), ""),
            "Check --mean and --std of their import, and that the files are whole.",
        )
    return ranked if out is None else write_chosen(ranked, zoo, data, Path(out), say)


def _by_reason(failures: dict[str, str]) -> dict[str, list[str]]:
    """The ids of checkpoints by why they could not be scored: a damaged file may hold many."""
    found: dict[str, list[str]] = {}
    for i, failure in failures.items():
        found.setdefault(failure, []).append(i)
    return found


def _method(config: RankConfig, data: DataSet, found: Candidates) -> tuple[Candidates, str, str]:
    """The candidates that the method can score, its name and the reason for it."""
    if data.task != CLASSIFICATION:
        if config.method not in ("auto", "direct"):
            raise BadInput(
                f"--method {config.method} is for classification", f"{data.name!r} is for {data.task}", "Use direct."
            )
        return found, "direct", f"{data.task} is scored as it is"
    name, why = choose_method(config.method, [rows is not None for rows in found.rows])
    if not METHODS[name].names:
        return found, name, why
    named = found.with_names()
    if not named.records:
        raise BadInput(
            f"--method {name} needs the names of classes",
            f"none of the {len(found.records):,} checkpoints knows all classes of {data.name!r} by name",
            "Leave --method out, or use ridge or knn.",
        )
    return named, name, why


def _ranked(
    config: RankConfig, zoo: Zoo, data: DataSet, found: Candidates, name: str, why: str, on_progress: OnProgress
) -> Ranked:
    began, method = time.monotonic(), METHODS[name]
    examples, checkpoints = ranking_examples(data, config.images, config.seed), len(found.records)
    rungs = race_rungs(config.share, len(examples), method.first_look(len(data.classes)))
    planned, done = planned_passes(checkpoints, len(examples), rungs), 0

    def count(images: int) -> None:
        nonlocal done
        done += images
        on_progress("image passes", min(done, planned), planned)

    on_progress("image passes", 0, planned)
    stream = Stream(zoo, found.records, found.rows, data, examples, method, count)
    places = run_race(stream, rungs)
    on_progress("image passes", planned, planned)
    what = method.what if data.task == CLASSIFICATION else f"minus the loss of {data.task}, nats"
    return Ranked(
        data=config.data,
        zoo=zoo.name,
        method=name,
        what=what,
        why=why,
        examples=places[0].examples if places else 0,
        images=sum(cost.images for cost in stream.costs),
        exhaustive=checkpoints * len(examples),
        seconds=round(time.monotonic() - began, 1),
        rows=[_row(number, place, stream, config.top) for number, place in enumerate(places, 1)],
        failures={found.records[i].id: text for i, text in stream.failures.items()},
        left_out=dict(found.left_out),
        written=[],
        made_with={"popgen": __version__, **config.model_dump(mode="json")},
    )


def _row(number: int, place: Place, stream: Stream, top: int) -> RankedRow:
    record, cost = stream.records[place.index], stream.costs[place.index]
    return RankedRow(
        rank=number,
        id=record.id,
        arch=record.arch,
        data=record.data,
        score=place.score.value,
        error=place.score.error,
        examples=place.examples,
        images=cost.images,
        seconds=round(cost.seconds, 4),
        chosen=number <= top,
    )
