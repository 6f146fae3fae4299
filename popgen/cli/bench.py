"""`popgen bench`: the search beside its rivals at equal image passes, over the grid of a YAML file. Parses, calls, prints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from popgen.cli.options import ADDRESS, DATA_DIR, JSON
from popgen.cli.say import remark, start
from popgen.configs.bench import SEARCH, load_bench
from popgen.json_text import json_text

if TYPE_CHECKING:
    from popgen.jobs.bench import Benched


@click.command("bench")
@click.argument("spec", required=False)
@click.option("--out", type=click.Path(), help="Folder of the bench.  [default: benches/NAME]")
@click.option("--resume", type=click.Path(), help="Continue the bench in this folder, or run its failed cells again.")
@ADDRESS
@click.option("--parallel", type=click.IntRange(min=1), help="Cells at once.  [default: as many as fit]")
@DATA_DIR
@click.option("--dry-run", is_flag=True, help="Check everything and list the cells and rows.")
@JSON
def bench_command(
    spec: str | None,
    out: str | None,
    resume: str | None,
    address: str | None,
    parallel: int | None,
    data_dir: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Compare the search with its rivals at equal image passes, over the architectures, data sets and seeds of SPEC (a YAML file).

    With --resume, SPEC may add data sets, architectures and seeds to those of the folder.

    \b
    Examples:
      popgen bench examples/bench/digits.yaml
      popgen bench --resume benches/digits
    """
    if spec is None and resume is None:
        raise click.UsageError("Give a YAML file such as examples/bench/digits.yaml, or --resume FOLDER.")
    if resume is not None and out is not None:
        raise click.UsageError("--resume continues in its own folder; leave --out away.")
    given: Any = None if spec is None else load_bench(spec)
    from popgen.jobs.names import check_sweep_names

    if given is not None:
        check_sweep_names(given)
    start(f"comparing {spec or resume}")
    from popgen.cli.output import BenchBars
    from popgen.jobs.bench import bench, check_done, plan, read, resumed

    config = read(str(resume)) if given is None else given if resume is None else resumed(resume, given)
    if dry_run:
        cells = plan(config, data_dir, remark)
        evaluations = next(iter(cells.values()))[SEARCH].evaluations
        click.echo(json_text({"cells": list(cells), "rows": config.rows, "evaluations": evaluations}, indent=1))
        return
    with BenchBars() as bars:
        options: dict[str, Any] = {"address": address, "parallel": parallel, "data_dir": data_dir}
        found = bench(config, out, resume, **options, on_progress=bars.show, say=remark)
    for text in found.remarks:
        remark(text)
    _print(found, as_json)
    check_done(found)


def _print(found: Benched, as_json: bool) -> None:
    if as_json:
        click.echo(json_text(found.to_json(), indent=1))
        return
    from popgen.bench.tables import headings, shown
    from popgen.cli.output import table

    for arch in dict.fromkeys(row.arch for row in found.rows):
        lines = [shown(row) for row in found.rows if row.arch == arch]
        table(f"{found.name}: {arch}", headings(found.subject), lines, last_bold=True)
    click.echo(found.facts)
    click.echo(f"tables: {found.folder}/results.md, results.csv, results.json")
