"""Options of `popgen search` for what a candidate is worth, and for what is done with the result; and its table."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from popgen.cli_options import Names

if TYPE_CHECKING:
    from popgen.audit import Row
    from popgen.jobs.search import Found


_OPTIONS = [
    click.option(
        "--sgd-steps",
        type=int,
        help="Steps of SGD on training images before a candidate is scored; they cost budget.  [default: 0]",
    ),
    click.option("--sgd-lr", type=float, help="Learning rate of the first of them.  [default: 0.01]"),
    click.option("--sgd-batch", type=int, help="Images of a step.  [default: 50]"),
    click.option(
        "--objectives",
        "--objective",
        "objectives",
        type=Names(),
        metavar="NAMES",
        help="loss, error, cross_entropy, balanced_error, f1_error (1 - macro F1), calibration_error, worst_class_error, "
        "worst_group_error, or module:function of logits and labels; several give a Pareto front.  [default: loss]",
    ),
    click.option(
        "--groups",
        type=click.Path(),
        help="CSV file,group (paths in the folder) or index,group (rows of the validation split), for worst_group_error."
        "  [default: groups_val of the npz file]",
    ),
    click.option(
        "--finetune-epochs",
        type=Names(),
        metavar="EPOCHS",
        help="Then train every row of the table for so many epochs: 1,10 compares 0, 1 and 10.",
    ),
    click.option("--finetune-lr", type=float, help="Peak learning rate of that training.  [default: 0.03]"),
    click.option("--finetune-batch", type=int, help="Images of its steps.  [default: 50]"),
]


def worth_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def print_found(found: list[Found], as_json: bool) -> None:
    """The results of a search, on stdout."""
    if as_json:
        click.echo(json.dumps({"results": [f.to_json() for f in found]}, indent=1))
        return
    from popgen.progress import table

    for one in found:
        rows = [[r.name, str(r.evaluations), f"{r.val_accuracy:.3f}", f"{r.test_accuracy:.3f}"] for r in one.rows]
        table(f"{one.arch} on {one.data}", ["", "evaluations", "val accuracy", "test accuracy"], rows, last_bold=True)
        front = one.details.get("front", [])
        if front:
            names = list(front[0]["values"])
            points = [
                [
                    str(point["index"]),
                    *(f"{point['values'][name]:.4f}" for name in names),
                    f"{point['val_accuracy']:.3f}",
                ]
                for point in sorted(front, key=lambda point: point["values"][names[0]])
            ]
            table(f"front of {one.arch}; its knee is shown above", ["evaluation", *names, "val accuracy"], points)
            click.echo(f"front: {front[0]['weights'].rpartition('/')[0]}")
        click.echo(f"weights: {one.weights}")
        if "finetune" in one.details:
            epochs = one.details["finetune"]["epochs"]
            title = f"{one.arch} after epochs of fine-tuning: val / test accuracy"
            table(title, ["", *map(str, [0, *epochs])], [_cells(r) for r in one.rows if r.finetuned], last_bold=True)
            click.echo(f"weights after {epochs[-1]} epochs: {one.details['finetune']['weights']}")


def _cells(row: Row) -> list[str]:
    """A row before fine-tuning and after each number of epochs."""
    before = (row.val_accuracy, row.test_accuracy)
    after = [(one.val_accuracy, one.test_accuracy) for one in row.finetuned]
    return [row.name, *(f"{val:.3f} / {test:.3f}" for val, test in (before, *after))]
