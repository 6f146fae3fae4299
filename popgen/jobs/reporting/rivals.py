"""The table of a search as its result.json has it, and the verdict on it in words."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from popgen.errors import BrokenFile, brief
from popgen.report import Mark, Table
from popgen.report.content import Role
from popgen.tasks import LOWER_IS_BETTER, goodness

CLEAR = 2.0  # standard errors from which a difference is called one
WHAT = {
    "random": "a freshly initialised network",
    "best_zoo": "the zoo's best checkpoint by validation loss",
    "average": "the mean of the closest checkpoints' weights",
    "ridge": "weights predicted by a linear regression",
    "noise": "the zoo's best checkpoint with noise, the best of as many tries",
    "base": "the base as it is",
    "frozen": "the frozen base of the adapters",
    "nearest": "the best checkpoint of the task with the most similar description",
    "average_of_all": "the mean of all checkpoints' weights",
    "noise_around_base": "the base with noise of the size of the zoo's differences, the best of as many tries",
    "layerwise_gaussian": "drawn from the checkpoints' normal distribution tensor by tensor, the best of as many tries",
    "joint_gaussian": "drawn from it with all tensors together, the best of as many tries",
    "mixtures": "weighted means of the checkpoints, the best of as many tries",
    "trained_base": "the base, trained for as many passes",
    "trained_average": "the mean of all checkpoints, trained for as many passes",
    "merge_uniform_soup": "the mean of all experts' weights",
    "merge_greedy_soup": "the mean of those experts that lower the validation loss",
    "merge_task_arithmetic": "the base and the sum of the experts' differences from it, scaled",
    "merge_ties": "task arithmetic with small differences trimmed and signs elected",
    "merge_dare": "task arithmetic with differences dropped at random",
    "merge_regmean": "layers fitted to the outputs of the experts' layers",
    "merge_fisher": "the mean of the experts' weights, weighted by Fisher information",
    "merge_adamerging": "task arithmetic with layers' coefficients that make answers sure, without labels",
    "shuffled": "generated under other data sets' conditions, mean",
    "empty": "generated without a condition, mean",
    "generated_none": "generated from nothing",
    "generated_words": "generated from the task's words",
    "generated_texts": "generated from some of its texts",
    "generated_both": "generated from its words and texts",
    "generated_mean": "the population before the search, mean",
    "generated_best": "the population before the search, its best",
    "search": "the best candidate of the search",
    "finetuned_search": "the best candidate of the search, fine-tuned",
    "finetuned_zoo": "the zoo's best checkpoint, fine-tuned for as many passes",
    "finetuned_random": "a freshly initialised network, trained for as many passes",
    "finetuned_frozen": "an adapter from zero, trained for as many passes",
}
CONTROLS = ("shuffled", "empty")  # they show the effect of the condition, and are no rivals
SEARCH = "search"
FINETUNED = "finetuned_"  # rows of training after the search begin so


@dataclass(frozen=True)
class Score:
    """A row of the table: scores in `unit` and their standard errors, None where they are not known.

    `finetuned` are the validation and test scores after so many epochs.
    """

    name: str
    evaluations: int
    val: float | None
    test: float | None
    val_error: float | None
    test_error: float | None
    val_loss: float | None
    unit: str
    finetuned: dict[int, tuple[float | None, float | None]]
    optimism: float | None = None  # by how much the validation accuracy is flattered

    @classmethod
    def of(cls, row: dict[str, Any]) -> Score:
        """A row of result.json, also of one that an earlier version wrote.

        Raises:
            BrokenFile: it is not a row.
        """

        def known(content: dict[str, Any], split: str) -> float | None:
            return _number(content.get(f"{split}_accuracy", content.get(f"{split}_score")))

        try:
            after = {int(one["epochs"]): (known(one, "val"), known(one, "test")) for one in row.get("finetuned", [])}
            return cls(
                str(row["name"]),
                int(row["evaluations"]),
                known(row, "val"),
                known(row, "test"),
                _number(row.get("val_standard_error")),
                _number(row.get("test_standard_error")),
                _number(row.get("val_loss")),
                str(row.get("unit", "accuracy")),
                after,
                _number(row.get("val_optimism")),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BrokenFile(
                "a row of result.json cannot be read", brief(error), "Resume the run: it is written anew."
            ) from error

    @property
    def role(self) -> Role:
        """The colour of the row."""
        return (
            "search"
            if self.name in (SEARCH, FINETUNED + SEARCH)
            else "generated"
            if self.name.startswith("generated")
            else "rival"
        )


def rivals_table(scores: list[Score]) -> Table:
    """The table with its standard errors, and the test scores as marks."""
    unit = scores[-1].unit if scores else "accuracy"
    has_errors = any(one.test_error is not None for one in scores)
    has_optimism = any(one.optimism is not None for one in scores)
    marks = tuple(
        None
        if one.test is None
        else Mark(one.test, one.test - (one.test_error or 0), one.test + (one.test_error or 0), one.role)
        for one in scores
    )
    return Table(
        f"{unit.capitalize()} of each row{' ± standard error' if has_errors else ''}",
        ("", "evaluations", f"val {unit}", *(("optimism",) if has_optimism else ()), f"test {unit}"),
        tuple(
            (
                one.name,
                f"{one.evaluations:,}",
                with_error(one.val, one.val_error),
                *(
                    ("" if one.optimism is None else f"{one.optimism:.3f}".replace("-0.000", "0.000"),)
                    if has_optimism
                    else ()
                ),
                with_error(one.test, one.test_error),
            )
            for one in scores
        ),
        notes=tuple(WHAT.get(one.name, "") for one in scores),
        marks=marks,
        marked=f"test {unit}",
        strong=(len(scores) - 1,) if scores else (),
    )


def finetuned_table(scores: list[Score]) -> Table | None:
    """Scores after epochs of fine-tuning, where the run has them."""
    tuned = [one for one in scores if one.finetuned]
    if not tuned:
        return None
    epochs = sorted({epoch for one in tuned for epoch in one.finetuned})
    rows = tuple(
        (
            one.name,
            *(
                " / ".join(map(text, pair))
                for pair in ((one.val, one.test), *(one.finetuned.get(e, (None, None)) for e in epochs))
            ),
        )
        for one in tuned
    )
    strong = tuple(i for i, one in enumerate(tuned) if one.name == SEARCH)
    title = f"Val / test {tuned[0].unit} after epochs of fine-tuning, all rows by one recipe"
    return Table(title, ("", *(str(e) for e in (0, *epochs))), rows, strong=strong)


def untuned(scores: list[Score]) -> list[Score]:
    """The rows without those of training after the search."""
    return [one for one in scores if not one.name.startswith(FINETUNED)]


def verdict(arch: str, scores: list[Score]) -> Iterator[str]:
    """What the table says of the search, in sentences; the first is the verdict.

    The rival is the strongest by validation loss, because nothing may be chosen by the test column; the errors of the two scores are
    taken as independent, which is on the careful side for scores on the same images.
    """
    own = next((one for one in scores if one.name == SEARCH), None)
    if own is None or own.test is None:
        yield f"The search of {arch} has no test score."
        return
    reached = f"{with_error(own.test, own.test_error)} test {own.unit} with {counted(own.evaluations, 'evaluation')}"
    others = [one for one in untuned(scores) if one.name not in (SEARCH, *CONTROLS) and one.test is not None]
    rivals = sorted((one for one in others if one.val_loss is not None), key=lambda one: one.val_loss or 0.0)
    if not rivals:
        yield f"The search of {arch} reached {reached}; the run has no rivals to compare it with."
        return
    yield f"The search of {arch} reached {reached}: {_against(own, rivals[0])}."
    plain = [one for one in rivals if not one.name.startswith("generated")]
    if plain and plain[0] is not rivals[0]:
        yield f"Among rivals that need no generator the strongest is {plain[0].name}: {_against(own, plain[0], False)}."
    own_goodness = goodness(own.unit, own.test)
    better = [one for one in others if one.test is not None and goodness(own.unit, one.test) > own_goodness]
    better = [one for one in better if one is not rivals[0]]
    if better:
        side = "Lower" if own.unit in LOWER_IS_BETTER else "Higher"
        yield f"{side} in the test column: {', '.join(f'{one.name} ({text(one.test)})' for one in better)}."
    if own.val is not None and goodness(own.unit, own.val) > own_goodness:
        least = f"by about {text(own.optimism)} " if own.optimism and own.optimism > 0 else ""
        yield (
            f"Its validation {own.unit}, {text(own.val)}, is flattered {least}because by it the best of all candidates was chosen. "
            f"The test {own.unit} is the figure to quote."
        )


def _against(own: Score, rival: Score, named: bool = True) -> str:
    """The difference between two test scores in words."""
    assert own.test is not None and rival.test is not None
    its = with_error(rival.test, rival.test_error)
    who = f"{rival.name}, the strongest rival by validation loss ({its})" if named else f"{its} test {own.unit}"
    difference = own.test - rival.test
    if own.test_error is None or rival.test_error is None:
        word = "above" if difference > 0 else "below" if difference < 0 else "level with"
        return f"{word} {who}; the error of the difference is not known"
    error = math.hypot(own.test_error, rival.test_error)
    points = f"{100 * abs(difference):.1f} points"
    if abs(difference) <= CLEAR * error:
        return (
            f"no clear difference from {who}" if named else f"{its}, {points} {_side(difference)}, no clear difference"
        )
    if named:
        return f"{points} {_side(difference)} {who}, {abs(difference) / error:.1f} standard errors"
    return f"{its}, and the search is {points} {_side(difference)} it, {abs(difference) / error:.1f} standard errors"


def _side(difference: float) -> str:
    return "above" if difference > 0 else "below"


def counted(count: int, what: str) -> str:
    """A number of things.

    >>> counted(1, "evaluation"), counted(1200, "evaluation")
    ('1 evaluation', '1,200 evaluations')
    """
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def with_error(score: float | None, error: float | None) -> str:
    """A score with its standard error, which stays on one line with its sign.

    >>> with_error(0.9, 0.0131).split("\N{NO-BREAK SPACE}"), with_error(0.9, None), with_error(None, None)
    (['0.900 ±', '0.013'], '0.900', '-')
    """
    return text(score) + ("" if score is None or error is None else f" ±\N{NO-BREAK SPACE}{error:.3f}")


def text(score: float | None) -> str:
    """A score with three digits."""
    return "-" if score is None else f"{score:.3f}"


def _number(value: Any) -> float | None:
    """A finite number, or None.

    Raises:
        ValueError: it is something else.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r:.40} is not a number")
    return float(value) if math.isfinite(value) else None
