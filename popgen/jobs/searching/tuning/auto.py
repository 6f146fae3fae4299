"""Fine-tunes the winner of a search beside the strongest start without a search, and lets held-out examples choose the result.

Both starts are trained with the same images at the same rates. What is compared is the loss of every held-out example, paired: validation
images, or folds of the training images (see plan.py), in which a refitted head is refitted to the same examples without training, too.
Finished trainings are kept in the run's folder under a hash of all that they depend on, so that a resumed run does not repeat them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from popgen.archs.beside import write_beside
from popgen.baselines.row import Row
from popgen.configs.search import SearchConfig
from popgen.data import Part
from popgen.errors import brief
from popgen.files import safe_name, write_tensors
from popgen.fitness import Fitness, Scored
from popgen.fitness.finish import Unfinished, refitted_head
from popgen.fitness.loss import image_losses
from popgen.jobs.searching.checks import ArchSearch
from popgen.jobs.searching.folder import RunFolder
from popgen.jobs.searching.tuning.outcome import SEARCH, Gain, Outcome, tuned_name
from popgen.jobs.searching.tuning.plan import (
    ADAPTER_RIVALS,
    RIVALS,
    Plan,
    announcement,
    cost_of,
    held_out,
    is_unseen,
    make_plan,
    seconds_of_image,
    why_not,
    with_known_examples,
)
from popgen.networks.passes import Passes
from search import SearchResult

Say = Callable[[str], None]


def plan_tuning(config: SearchConfig, one: ArchSearch, fitness: Fitness, say: Say) -> Plan | None:
    """Say what will be done after the search, or why nothing; None where nothing is done."""
    if config.finetune.mode == "never":
        return None
    why = why_not(config, one)
    if why is not None:
        say(f"{one.arch}: the result will not be fine-tuned: {why}")
        return None
    plan = make_plan(config, one, fitness)
    try:
        plan = replace(plan, per_image=seconds_of_image(plan, fitness, one.data))
    except Exception as error:  # A network of the user's own may raise anything, and can be searched all the same.
        say(f"{one.arch}: the result will not be fine-tuned: training fails: {brief(error)}")
        return None
    say(f"{one.arch}: {announcement(plan, one.data)}")
    return plan


def affordable(plan: Plan | None, config: SearchConfig, one: ArchSearch, result: SearchResult, say: Say) -> Plan | None:
    """The plan with as many epochs as the search left time for, which is said where it changes; None where it is not to be done."""
    if plan is None:
        return None
    why = "the search has reached its target" if result.stopped_by == "target" else None
    shorter: Plan | None = plan
    if config.seconds is not None and why is None:
        shorter = plan.within(config.seconds - result.seconds, one.data)
        why = f"the search left no time of {config.seconds:g} s" if shorter is None else None
    if why is not None:
        say(f"{one.arch}: the result is not fine-tuned: {why}")
        return None
    if shorter is not None and shorter.epochs < plan.epochs:
        say(f"{one.arch}: the search left time for {shorter.epochs} of {plan.epochs} epochs of fine-tuning")
    return shorter


@dataclass(frozen=True)
class Tuning:
    """What training made of the starts.

    Attributes:
        rows: the table with the rows of trained networks, that of the result last.
        record: what result.json has of it.
        gains: those of each start that could be trained, that of the search's best last.
        cost: the cost of a start, in evaluations.
    """

    rows: list[Row]
    record: dict[str, Any]
    gains: tuple[Gain, ...]
    cost: float
    _tuner: _Tuner

    def further(self, starts: Mapping[str, Scored]) -> dict[str, Scored]:
        """Train more starts alike, at the rate of the first one; without those that cannot be trained, as is said."""
        plan = replace(self._tuner.plan, rates=(self.gains[0].rate,))
        tuner = replace(self._tuner, plan=plan)
        made = {name: tuner.tuned(name, start) for name, start in starts.items()}
        return {name: one.scored for name, one in made.items() if one is not None}


def tune(
    plan: Plan, one: ArchSearch, fitness: Fitness, rows: list[Row], folder: RunFolder, card: dict[str, str], say: Say
) -> Tuning:
    """Train from the search's best and from its rival.

    Where training helps, its weights take the place of the search's best in the run's folder, which are kept beside them.

    Args:
        rows: the table, in which the row of the search is the last.
        card: the metadata of the file of weights.
    """
    began, search = time.perf_counter(), rows[-1]
    if is_unseen(fitness) and (search.optimism is None or search.optimism.standard_error is None):
        plan = with_known_examples(plan, one.data)
    tuner = _Tuner(plan, one, fitness, folder, say)
    assert search.name == SEARCH and search.scored is not None
    rival = rival_start(rows, ADAPTER_RIVALS if fitness.spec.is_adapter else RIVALS)
    starts = [search] if rival is None or _is_same(rival, search) else [rival, search]
    tuned = {row.name: made for row in starts if (made := tuner.tuned(row.name, row.scored)) is not None}
    before = tuner.before(search.scored)
    gains = [Gain.of(name, made.rate, made.judged, before) for name, made in tuned.items()]
    outcome = Outcome(plan.judged_by(one.data), plan.epochs, tuple(gains))
    cost = cost_of(plan, one.data, fitness)
    made_rows = [
        Row.of(tuned_name(row.name), row.evaluations + cost, tuned[row.name].scored, one.data)
        for row in starts
        if row.name in tuned
    ]
    say(f"{one.arch}: {outcome.text()}")
    ordered = sorted([search, *made_rows], key=lambda row: row.name == outcome.result)  # stable
    if outcome.chosen is not None:
        chosen = tuned[outcome.chosen.start]
        recipe = plan.at(chosen.rate).recipe.model_copy(update={"epochs": plan.epochs}).model_dump_json()
        about = card | {"finetuned": recipe, "finetuned_from": outcome.chosen.start}
        file = folder.write_best(one.arch, chosen.scored.state(), about)
        folder.write_searched(one.arch, search.scored.state(), card)
        write_beside(file, chosen.scored.spec, chosen.scored.state(), one.data.classes)
    searched = None if outcome.chosen is None else str(folder.searched(one.arch))
    seconds = round(time.perf_counter() - began, 3)
    record = {**outcome.to_json(), "searched_weights": searched, "seconds": seconds}
    return Tuning([*rows[:-1], *ordered], record, outcome.gains, cost, tuner)


@dataclass(frozen=True)
class _Tuned:
    """A start after training at its best rate."""

    rate: float
    judged: Scored  # with outputs on the examples that judge
    scored: Scored  # with outputs on the validation examples, where these have not trained it


@dataclass(frozen=True)
class _Tuner:
    """Trainings of one search."""

    plan: Plan
    one: ArchSearch
    fitness: Fitness
    folder: RunFolder
    say: Say

    def tuned(self, name: str, start: Scored | None) -> _Tuned | None:
        """A start after training at its best rate; None where it cannot be trained."""
        assert start is not None
        tried: dict[float, Scored] = {}
        for rate in self.plan.rates:
            try:
                tried[rate] = self._trained(name, start, rate)
            except Exception as error:  # A network of the user's own may raise anything, and the search's best stands.
                self.say(f"{self.one.arch}: {name} cannot be fine-tuned: {brief(error)}")
                return None
            reached = f"{tried[rate].score:.3f} accuracy, loss {tried[rate].loss:.4f}"
            self.say(f"{self.one.arch}: {name} fine-tuned at learning rate {rate:g}: {reached} on held-out examples")
        rate = min(tried, key=lambda rate: tried[rate].finite_loss)
        judged = tried[rate]
        if not math.isfinite(judged.loss):
            self.say(f"{self.one.arch}: {name} is not finite any more after fine-tuning: try a lower --finetune-lr")
            return None
        if not self.plan.folds:
            return _Tuned(rate, judged, judged)
        flat = self._on_all(name, start, rate)
        if self.one.data.is_left_out:
            return _Tuned(rate, judged, replace(judged, flat=flat))
        outputs = _outputs(judged, flat, self.fitness.val[0])
        return _Tuned(rate, judged, self._scored(judged, flat, outputs, self.fitness.val[1]))

    def before(self, start: Scored) -> Scored:
        """A start without training, on the examples that judge."""
        if not self.plan.folds:
            return start
        return self._judged(
            start, start.flat, torch.cat([self._fold(start, held)[2] for held in self._folds])[self._order]
        )

    def _trained(self, name: str, start: Scored, rate: float) -> Scored:
        def make() -> dict[str, Tensor]:
            if self.plan.folds:
                outputs = [self._outputs_of_fold(start, held, rate) for held in self._folds]
                return {"outputs": torch.cat(outputs)[self._order]}
            flat = self._run(start, start.flat, self.one.data.train, rate)
            return {"flat": flat, "outputs": _outputs(start, flat, self.fitness.val[0])}

        made = self._kept(f"{name}-{rate:g}", start, rate, self.plan.folds, make)
        return self._judged(start, made.get("flat", start.flat), made["outputs"])

    def _on_all(self, name: str, start: Scored, rate: float) -> Tensor:
        """Weights (p,) after training on all examples, at the rate that the folds chose."""

        def make() -> dict[str, Tensor]:
            return {"flat": self._run(start, start.flat, self.one.data.train, rate)}

        return self._kept(f"{name}-all", start, rate, 0, make)["flat"]

    def _fold(self, start: Scored, held: Tensor) -> tuple[Tensor, Part, Tensor]:
        """A start without the held-out examples: its weights (p,), the other examples, and its outputs on those held out."""
        data, spec = self.one.data, start.spec
        is_held = torch.zeros(len(data.train), dtype=torch.bool).index_fill(0, held, True)
        rest, flat = data.train.take((~is_held).nonzero()[:, 0]), start.flat
        if self.fitness.head == "refit":
            features = Passes(spec, spec.config.inputs.prepare(rest.inputs)).features
            flat = refitted_head(spec, spec, rest.targets, features)(Unfinished(flat)).flat
        return flat, rest, _outputs(start, flat, spec.config.inputs.prepare(data.train.inputs[held]))

    def _outputs_of_fold(self, start: Scored, held: Tensor, rate: float) -> Tensor:
        """Outputs on the held-out examples after training on the others."""
        flat, rest, _ = self._fold(start, held)
        trained = self._run(start, flat, rest, rate)
        return _outputs(start, trained, start.spec.config.inputs.prepare(self.one.data.train.inputs[held]))

    @property
    def _folds(self) -> list[Tensor]:
        return list(held_out(self.one.data, self.plan.folds))

    @property
    def _order(self) -> Tensor:
        """The places of the examples in the concatenated folds."""
        return torch.cat(self._folds).argsort()

    def _run(self, start: Scored, flat: Tensor, part: Part, rate: float) -> Tensor:
        return self.plan.at(rate).run(start.spec, flat, part, self.plan.epochs)

    def _judged(self, start: Scored, flat: Tensor, outputs: Tensor) -> Scored:
        targets = self.one.data.train.targets if self.plan.folds else self.fitness.val[1]
        return self._scored(start, flat, outputs, targets)

    def _scored(self, start: Scored, flat: Tensor, outputs: Tensor, targets: Tensor) -> Scored:
        finite = bool(outputs.isfinite().all())
        loss = float(image_losses(outputs, targets).mean()) if finite else math.inf
        return Scored(start.spec, flat, loss, float(self.fitness.task.score(outputs, targets)), outputs, targets)

    def _kept(
        self, name: str, start: Scored, rate: float, folds: int, make: Callable[[], dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """The tensors of a finished training, which is done where the run's folder has not kept it."""
        more = (self.plan.epochs, folds, self.fitness.head)
        key = self.plan.at(rate).key(start.spec, start.flat, self.one.data.sha256, *more)
        file = self.folder.tuning(self.one.arch) / f"{safe_name(name)}.safetensors"
        found = _read(file, key)
        if found is None:
            found = {part: tensor.cpu() for part, tensor in make().items()}
            write_tensors(file, found, {"key": key})
        return found


def _read(file: Path, key: str) -> dict[str, Tensor] | None:
    """The tensors of a kept training; None where there is none of that key, or its file is broken."""
    if not file.exists():
        return None
    try:
        with safe_open(file, framework="pt") as opened:
            if (opened.metadata() or {}).get("key") != key:
                return None
            return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - it is no mapping
    except SafetensorError:
        return None


@torch.no_grad()
def _outputs(start: Scored, flat: Tensor, inputs: Tensor) -> Tensor:
    return Passes(start.spec, inputs.cpu()).outputs(flat.cpu())


def rival_start(rows: list[Row], names: Sequence[str]) -> Row | None:
    """The best start without a search by its score; the first of `names` among equals."""
    known = [row for name in names for row in rows if row.name == name and row.scored is not None]
    return max(known, key=lambda row: row.val_score, default=None)


def _is_same(rival: Row, search: Row) -> bool:
    assert rival.scored is not None and search.scored is not None
    return torch.equal(rival.scored.flat, search.scored.flat)
