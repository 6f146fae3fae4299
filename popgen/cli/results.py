"""Results of commands on stdout: JSON or text, and the tables of a search."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from popgen.json_text import json_text

if TYPE_CHECKING:
    from popgen.baselines.row import Row
    from popgen.jobs.search import Found


def print_found(found: list[Found], as_json: bool, report: str | None = None) -> None:
    """The results of a search and the path of its report, where there is one, on stdout."""
    if as_json:
        named = {} if report is None else {"report": report}
        click.echo(json_text({"results": [f.to_json() for f in found], **named}, indent=1))
        return
    from popgen.cli.output import table

    for one in found:
        unit = one.rows[-1].unit
        chosen = any(r.optimism is not None for r in one.rows)
        rows = [[r.name, str(r.evaluations), *_scores(r, chosen)] for r in one.rows]
        columns = ["", "evaluations", f"val {unit}", *(["optimism"] if chosen else []), f"test {unit}"]
        table(f"{one.arch} on {one.data}", columns, rows, last_bold=True)
        front = one.details.front
        if front:
            names = list(front[0].values)
            points = [
                [
                    str(point.index),
                    *(f"{point.values[name]:.4f}" for name in names),
                    f"{point.val_score:.3f}",
                    *(f"{value:.4f}" for value in (point.test_values or {}).values()),
                ]
                for point in sorted(front, key=lambda point: point.values[names[0]])
            ]
            tested = [f"test {name}" for name in front[0].test_values or {}]
            columns = ["evaluation", *names, f"val {unit}", *tested]
            table(f"front of {one.arch}; its knee is shown above", columns, points)
            if one.details.fronts is not None:
                _print_fronts(one.arch, one.details.fronts)
            click.echo(f"front: {front[0].weights.rpartition('/')[0]}")
        if one.details.tuned is not None:
            click.echo(f"result: {one.result.name}")
        click.echo(f"weights: {one.weights}")
        if one.details.finetune is not None:
            epochs, file = one.details.finetune["epochs"], one.details.finetune["weights"]
            title = f"{one.arch} after epochs of fine-tuning: val / test {unit}"
            table(title, ["", *map(str, [0, *epochs])], [_cells(r) for r in one.rows if r.finetuned], last_bold=True)
            click.echo(f"weights after {epochs[-1]} epochs: {file}")
    if report is not None:
        click.echo(f"report: {report}")


def _print_fronts(arch: str, found: dict[str, Any]) -> None:
    """The front of a search beside those of its rivals."""
    from popgen.cli.output import table
    from popgen.jobs.reporting.fronts import FRONT_COLUMNS, front_rows

    title = f"front of {arch} beside others: volume dominated, points dominated by the search / of the search dominated"
    table(title, list(FRONT_COLUMNS), [list(row) for row in front_rows(found)])


def print_result(data: dict[str, Any], text: str, as_json: bool) -> None:
    """The result of a command, on stdout: JSON or text."""
    click.echo(json_text(data) if as_json else text)


def _scores(row: Row, chosen: bool) -> list[str]:
    """The validation and the test score, each with its standard error where that is known, with the optimism between them."""
    pairs = zip((row.val_score, row.test_score), row.standard_errors(), strict=True)
    val, test = (f"{score:.3f}" + ("" if error is None else f" ± {error:.3f}") for score, error in pairs)
    optimism = "" if row.optimism is None else row.optimism.text()
    return [val, *([optimism] if chosen else []), test]


def _cells(row: Row) -> list[str]:
    """A row before fine-tuning and after each number of epochs."""
    before = (row.val_score, row.test_score)
    after = [(one.val_score, one.test_score) for one in row.finetuned]
    return [row.name, *(f"{val:.3f} / {test:.3f}" for val, test in (before, *after))]
