"""`popgen sweep`: a search for every architecture, data set and seed of a YAML file. Parses, calls, prints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from popgen.cli.options import ADDRESS, DATA_DIR, JSON
from popgen.cli.say import remark, start
from popgen.configs.sweep import SweepConfig, load_sweep
from popgen.json_text import json_text

if TYPE_CHECKING:
    from popgen.jobs.sweep import SweepRow


@click.command("sweep")
@click.argument("spec", required=False)
@click.option("--out", type=click.Path(), help="Folder of the sweep.  [default: sweeps/NAME]")
@click.option(
    "--resume", type=click.Path(), help="Continue the sweep in this folder, or run its failed searches again."
)
@click.option("--evaluations", type=click.IntRange(min=1), help="With --resume: more evaluations for each search.")
@ADDRESS
@click.option("--parallel", type=click.IntRange(min=1), help="Searches at once.  [default: as many as fit]")
@DATA_DIR
@click.option("--dry-run", is_flag=True, help="Check everything and list the searches.")
@JSON
def sweep_command(
    spec: str | None,
    out: str | None,
    resume: str | None,
    evaluations: int | None,
    address: str | None,
    parallel: int | None,
    data_dir: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Search for every architecture, data set and seed of SPEC (a YAML file), on this machine or on a Ray cluster.

    \b
    Examples:
      popgen sweep examples/sweep.yaml
      popgen sweep examples/sweep.yaml --address 10.0.0.1:6379 --out /shared/rotations
      popgen sweep --resume sweeps/rotations
    """
    if (spec is None) == (resume is None):
        raise click.UsageError("Give a YAML file such as examples/sweep.yaml, or --resume FOLDER; one of the two.")
    if resume is not None and out is not None:
        raise click.UsageError("--resume continues in its own folder; leave --out away.")
    if resume is None and evaluations is not None:
        raise click.UsageError("--evaluations goes with --resume; for a new sweep set search.evaluations in its file.")
    config: Any = _begin(spec, resume)
    from popgen.cli.output import SweepBars
    from popgen.jobs.sweep import check_done, plan, resumed
    from popgen.jobs.sweep import sweep as run_sweep

    if resume is not None:
        config = resumed(resume, evaluations)
    if dry_run:
        trials = plan(config, remark, data_dir)
        workers = int(trials[0].compute.workers)
        facts = {
            "searches": [f"{one.archs[0]} on {one.data}, seed {one.seed}" for one in trials],
            "each": {
                "evaluations": trials[0].evaluations,
                "cpus": 1 + workers,
                "gpus": trials[0].compute.gpus * workers,
            },
        }
        click.echo(json_text(facts, indent=1))
        return
    with SweepBars() as bars:
        options: dict[str, Any] = {"address": address, "parallel": parallel, "data_dir": data_dir}
        rows = run_sweep(config, out, resume, **options, on_progress=bars.show, say=remark)
    _print_rows(config.name, rows, as_json)
    check_done(rows)


def _begin(spec: str | None, resume: str | None) -> SweepConfig | None:
    """Read a sweep.yaml, if one is given, and refuse unknown names in it; then say what is begun."""
    from popgen.jobs.names import check_sweep_names

    config = None if spec is None else load_sweep(spec)
    if config is not None:
        check_sweep_names(config)
    start(f"sweeping {spec or resume}")
    return config


def _print_rows(name: str, rows: list[SweepRow], as_json: bool) -> None:
    if as_json:
        click.echo(json_text({"sweep": name, "rows": [row.to_json() for row in rows]}, indent=1))
        return
    from popgen.cli.output import table

    failed = any(row.failed for row in rows)
    lines = [
        [
            f"{row.arch} on {row.data}",
            *([str(row.failed)] if failed else []),
            _accuracy(row.best_zoo),
            _accuracy(row.generated_best),
            _accuracy(row.search) + ("" if row.search_std is None else f" \N{PLUS-MINUS SIGN} {row.search_std:.3f}"),
        ]
        for row in rows
    ]
    columns = ["", *(["failed"] if failed else []), "best zoo", "generated best", "search"]
    table(f"{name}: test accuracy, mean over seeds", columns, lines)


def _accuracy(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
