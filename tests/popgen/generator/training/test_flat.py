"""A stage whose held-out measure is flat is cut short, by a rule that a resumed training keeps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from popgen.configs.generator import FlatConfig
from popgen.generator.training.log import Log
from popgen.generator.training.loop import Loop, OnStep
from popgen.generator.training.saved_progress import SavedProgress
from popgen.generator.training.stage import Stage, StageState
from popgen.generator.training.workers import Workers

RULE = FlatConfig(tolerance=0.1, patience=2, pace=5)
STEPS = 100  # so that the measure is taken every 5 steps


class Line(nn.Module):
    """One parameter, which the stage moves towards a random target of each step."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(3))


def stage(model: Line, measures: list[float], unit: str = "accuracy") -> Stage:
    """A stage whose watch returns the measures in turn, and then the last one for ever."""
    left = iter(measures)
    last = {"held-out": measures[-1]}

    def watch() -> dict[str, float]:
        return {f"held-out {unit}": next(left, last["held-out"])}

    losses = lambda _: {"distance": (model.value - torch.randn(3)).square().mean()}  # noqa: E731
    return Stage(STEPS, 0.1, list(model.parameters()), losses, watch=watch)


def run(
    folder: Path,
    made: Stage,
    model: Line,
    rule: FlatConfig | None,
    on_step: OnStep = lambda *_: None,
    save_every: float = 1000.0,
) -> int:
    """Run the stage; returns the number of the optimizer's steps."""
    saved = SavedProgress(model, folder, {})
    Loop(0, 1, save_every, Workers(), saved, Log(folder / "log"), on_step, rule).run("line", lambda: made)
    return saved.steps["line"]


@pytest.mark.parametrize(
    ("measures", "unit", "steps"),
    [
        ([0.5, 0.7, 0.75, 0.79, 0.8], "accuracy", 20 + 80 // 5),  # the third and fourth gain less than .1 over .7
        ([0.5, 0.7, 0.75, 0.85, 0.86, 0.9], "accuracy", 30 + 70 // 5),  # small gains add up to one
        ([-0.1 * 2**i for i in range(20)], "perplexity", STEPS),  # falls, and for a perplexity that is a gain
        ([0.0], "perplexity", 15 + 85 // 5),
    ],
)
def test_a_flat_stage_passes_the_rest_of_its_schedule_faster(
    tmp_path: Path, measures: list[float], unit: str, steps: int
) -> None:
    model, seen = Line(), list[int]()
    made = stage(model, measures, unit)
    done = run(tmp_path, made, model, RULE, lambda _stage, step, *_: seen.append(step))
    assert done == len(seen) == steps
    assert seen[-1] == STEPS
    last = json.loads((tmp_path / "log" / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["step"] == last["steps"] == STEPS
    assert last.get("done", STEPS) == steps
    assert last["learning_rate"] < 1e-5 * 0.1  # the schedule was passed to its end


def test_without_a_rule_or_a_measure_all_steps_are_done(tmp_path: Path) -> None:
    model = Line()
    assert run(tmp_path / "a", stage(model, [0.5]), model, None) == STEPS
    plain = Stage(STEPS, 0.1, list(model.parameters()), lambda _: {"size": model.value.square().sum()}, watch=dict)
    assert run(tmp_path / "b", plain, model, RULE) == STEPS


@pytest.mark.parametrize("cut", [13, 40])  # before and after it is found to be flat
def test_a_stage_that_was_cut_off_ends_the_same(tmp_path: Path, cut: int) -> None:
    whole, again = Line(), Line()
    steps = run(tmp_path / "whole", stage(whole, [0.5]), whole, RULE)

    def interrupt(_stage: str, step: int, *_: object) -> None:
        if step >= cut:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "again", stage(again, [0.5]), again, RULE, interrupt, save_every=0)
    fresh = Line()
    assert run(tmp_path / "again", stage(fresh, [0.5]), fresh, RULE) == steps
    assert torch.equal(fresh.value, whole.value)


def test_a_state_without_measures_is_not_flat() -> None:
    state = StageState(stage(Line(), [0.5]), RULE)
    assert not state.is_flat
    state.measures = [0.5, 0.5]
    assert not state.is_flat
    state.measures = [0.5, 0.5, 0.55, 0.9]  # once flat, a stage stays so
    assert state.is_flat
