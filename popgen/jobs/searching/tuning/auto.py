"""Fine-tunes the winner of a search beside the strongest start without a search, and lets held-out examples choose the result.

Both starts are trained with the same images by the same recipes. What is compared is the loss of every held-out example, paired: validation
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
from popgen.jobs.searching.tuning.outcome import SEARCH, Gain, How, Outcome, is_clearly_better, tuned_name
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
from popgen.jobs.searching.tuning.training import Training
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
        """Train more starts by the recipe of the first one; without those that cannot be trained, as is said."""
        how = self.gains[0].how
        plan = replace(self._tuner.plan, rates=(how.rate,), augments=(how.augment,))
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
    gains = [Gain.of(name, made.how, made.judged, before) for name, made in tuned.items()]
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
        how = chosen.how
        recipe = plan.at(how.rate, how.augment).recipe.model_copy(update={"epochs": plan.epochs}).model_dump_json()
        about = card | {
            "finetuned": recipe,
            "finetuned_from": outcome.chosen.start,
            "finetuned_share": f"{how.share:g}",
        }
        file = folder.write_best(one.arch, chosen.scored.state(), about)
        folder.write_searched(one.arch, search.scored.state(), card)
        write_beside(file, chosen.scored.spec, chosen.scored.state(), one.data.classes)
    searched = None if outcome.chosen is None else str(folder.searched(one.arch))
    seconds = round(time.perf_counter() - began, 3)
    record = {**outcome.to_json(), "searched_weights": searched, "seconds": seconds}
    return Tuning([*rows[:-1], *ordered], record, outcome.gains, cost, tuner)


@dataclass(frozen=True)
class _Tuned:
    """A start after its best training."""

    how: How
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
        """A start after its best training; None where it cannot be trained."""
        assert start is not None
        try:
            how, judged = self._best(name, start)
        except Exception as error:  # A network of the user's own may raise anything, and the search's best stands.
            self.say(f"{self.one.arch}: {name} cannot be fine-tuned: {brief(error)}")
            return None
        if not math.isfinite(judged.loss):
            self.say(f"{self.one.arch}: {name} is not finite any more after fine-tuning: try a lower --finetune-lr")
            return None
        if not self.plan.folds:
            return _Tuned(how, judged, judged)
        flat = self._on_all(name, start, how)
        if self.one.data.is_left_out:
            return _Tuned(how, judged, replace(judged, flat=flat))
        outputs = _outputs(judged, flat, self.fitness.val[0])
        return _Tuned(how, judged, self._scored(judged, flat, outputs, self.fitness.val[1]))

    def _best(self, name: str, start: Scored) -> tuple[How, Scored]:
        """The best recipe and share by the loss of held-out examples; see `Plan.augments`."""

        rate, *rates = self.plan.rates
        first = self._trained(name, start, rate, self.plan.augments[0])
        for augment in self.plan.augments[1:]:
            other = self._trained(name, start, rate, augment)
            first = other if is_clearly_better(other[1], first[1]) else first
        found = [first, *(self._trained(name, start, rate, first[0].augment) for rate in rates)]
        return min(found, key=lambda one: one[1].finite_loss)

    def before(self, start: Scored) -> Scored:
        """A start without training, on the examples that judge."""
        if not self.plan.folds:
            return start
        return self._judged(
            start, start.flat, torch.cat([self._fold(start, held)[2] for held in self._folds])[self._order]
        )

    def _trained(self, name: str, start: Scored, rate: float, augment: str) -> tuple[How, Scored]:
        """What training by one recipe makes of a start, at the best share of the way, which is said."""
        training, shares = self.plan.at(rate, augment), self.plan.shares

        def make() -> dict[str, Tensor]:
            if self.plan.folds:
                outputs = [self._outputs_of_fold(start, held, training) for held in self._folds]
                return {"outputs": torch.cat(outputs, 1)[:, self._order]}
            flat = training.run(start.spec, start.flat, self.one.data.train, self.plan.epochs)
            return {"flat": flat, "outputs": self._on_the_way(start, start.flat, flat, self.fitness.val[0])}

        augmented = "" if augment == "none" else f"-{augment}"
        made = self._kept(f"{name}-{rate:g}{augmented}", start, training, (self.plan.folds, *shares), make)
        judged = [self._judged(start, start.flat, outputs) for outputs in made["outputs"]]
        best, share = min(zip(judged, shares, strict=True), key=lambda one: one[0].finite_loss)
        how = How(rate, augment, share)
        reached = f"{best.score:.3f} accuracy, loss {best.loss:.4f}"
        self.say(f"{self.one.arch}: {name} fine-tuned {how.text}: {reached} on held-out examples")
        return how, replace(best, flat=_between(start.flat, made["flat"], share)) if "flat" in made else best

    def _on_all(self, name: str, start: Scored, how: How) -> Tensor:
        """Weights (p,) after training on all examples in the way that the folds chose."""
        training = self.plan.at(how.rate, how.augment)

        def make() -> dict[str, Tensor]:
            return {"flat": training.run(start.spec, start.flat, self.one.data.train, self.plan.epochs)}

        end = self._kept(f"{name}-all", start, training, (), make)["flat"]
        return _between(start.flat, end, how.share)

    def _fold(self, start: Scored, held: Tensor) -> tuple[Tensor, Part, Tensor]:
        """A start without the held-out examples: its weights (p,), the other examples, and its outputs on those held out."""
        data, spec = self.one.data, start.spec
        is_held = torch.zeros(len(data.train), dtype=torch.bool).index_fill(0, held, True)
        rest, flat = data.train.take((~is_held).nonzero()[:, 0]), start.flat
        if self.fitness.head == "refit":
            features = Passes(spec, spec.config.inputs.prepare(rest.inputs)).features
            flat = refitted_head(spec, spec, rest.targets, features)(Unfinished(flat)).flat
        return flat, rest, _outputs(start, flat, spec.config.inputs.prepare(data.train.inputs[held]))

    def _outputs_of_fold(self, start: Scored, held: Tensor, training: Training) -> Tensor:
        """Outputs (shares, examples, outputs) on the held-out examples after training on the others."""
        flat, rest, _ = self._fold(start, held)
        end = training.run(start.spec, flat, rest, self.plan.epochs)
        inputs = start.spec.config.inputs.prepare(self.one.data.train.inputs[held])
        return self._on_the_way(start, flat, end, inputs)

    def _on_the_way(self, start: Scored, flat: Tensor, end: Tensor, inputs: Tensor) -> Tensor:
        """Outputs (shares, examples, outputs) of the networks on the way from the weights `flat` to `end`."""
        return torch.stack([_outputs(start, _between(flat, end, share), inputs) for share in self.plan.shares])

    @property
    def _folds(self) -> list[Tensor]:
        return list(held_out(self.one.data, self.plan.folds))

    @property
    def _order(self) -> Tensor:
        """The places of the examples in the concatenated folds."""
        return torch.cat(self._folds).argsort()

    def _judged(self, start: Scored, flat: Tensor, outputs: Tensor) -> Scored:
        targets = self.one.data.train.targets if self.plan.folds else self.fitness.val[1]
        return self._scored(start, flat, outputs, targets)

    def _scored(self, start: Scored, flat: Tensor, outputs: Tensor, targets: Tensor) -> Scored:
        finite = bool(outputs.isfinite().all())
        loss = float(image_losses(outputs, targets).mean()) if finite else math.inf
        return Scored(start.spec, flat, loss, float(self.fitness.task.score(outputs, targets)), outputs, targets)

    def _kept(
        self,
        name: str,
        start: Scored,
        training: Training,
        more: tuple[object, ...],
        make: Callable[[], dict[str, Tensor]],
    ) -> dict[str, Tensor]:
        """The tensors of a finished training, which is done where the run's folder has not kept it."""
        key = training.key(start.spec, start.flat, self.one.data.sha256, self.plan.epochs, *more, self.fitness.head)
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


def _between(start: Tensor, end: Tensor, share: float) -> Tensor:
    return start.cpu().lerp(end.cpu(), share)


def rival_start(rows: list[Row], names: Sequence[str]) -> Row | None:
    """The best start without a search by its score; the first of `names` among equals."""
    known = [row for name in names for row in rows if row.name == name and row.scored is not None]
    return max(known, key=lambda row: row.val_score, default=None)


def _is_same(rival: Row, search: Row) -> bool:
    assert rival.scored is not None and search.scored is not None
    return torch.equal(rival.scored.flat, search.scored.flat)
