"""`popgen train`: a generator from a spec."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from popgen.cli.measure.compression import print_compression
from popgen.cli.options import DATA_DIR, JSON
from popgen.cli.say import remark, start
from popgen.cli.zoo import parse_set
from popgen.json_text import json_text


@click.command("train")
@click.argument("spec")
@click.option("--out", type=click.Path(), help="Folder of the generator.  [default: generators/NAME]")
@click.option("--zoo", "zoo_name", help="Folder of the zoo.  [default: zoos/NAME, built first where it is missing]")
@DATA_DIR
@click.option("--workers", type=click.IntRange(min=0), help="Processes that build the zoo.  [default: one a CPU core]")
@click.option(
    "--train-workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Workers that share every step of the generator's training (Ray Train); they divide generator.accumulate.",
)
@click.option("--address", envvar="RAY_ADDRESS", help="Ray cluster that they run on.  [default: $RAY_ADDRESS]")
@click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="KEY=VALUE",
    help="Replace a value of the spec, such as generator.vae.steps=100.",
)
@click.option("--dry-run", is_flag=True, help="Check the spec and print the settings.")
@JSON
def train_command(
    spec: str,
    out: str | None,
    zoo_name: str | None,
    data_dir: str | None,
    workers: int | None,
    train_workers: int,
    address: str | None,
    sets: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Train a generator on the zoo of SPEC (a YAML file), building the zoo first where it is missing.

    \b
    Example:
      popgen train zoo_specs/digits.yaml
    """
    from popgen.configs.generator import read_spec
    from popgen.jobs.names import check_training_names

    overrides = dict(parse_set(item) for item in sets)
    content, config = read_spec(spec, overrides)
    check_training_names(content.zoo, config, zoo_name)
    if dry_run:
        click.echo(json_text({"zoo": content.zoo.name, "generator": config.model_dump()}, indent=1))
        return
    start(f"training a generator on the zoo of {spec}")
    from popgen.cli.output import TrainBars
    from popgen.jobs.train import TrainingCompute
    from popgen.jobs.train import train as run_train

    compute = TrainingCompute(workers, train_workers, address if train_workers > 1 else None)
    with TrainBars() as bars:
        made = run_train(
            spec,
            out,
            zoo=zoo_name,
            compute=compute,
            overrides=overrides,
            data_dir=data_dir,
            on_step=bars.show,
            on_data=partial(bars.update, "data sets"),
        )
    folder, metrics = out or f"generators/{content.zoo.name}", made.provenance.metrics
    if as_json:
        click.echo(json_text({"generator": folder, **metrics}, indent=1))
    else:
        _print_metrics(folder, metrics)
    _print_remarks(metrics.get("remarks", []))


def _print_remarks(texts: list[str]) -> None:
    for text in texts:
        remark(f"note: {text}")


def _print_metrics(folder: str, metrics: dict[str, Any]) -> None:
    from popgen.audit.compression import Compression
    from popgen.cli.output import table

    if "retrieval" not in metrics:  # directions alone: there are no codes of checkpoints
        loss = metrics["losses"]["episodes"]["queries"]
        click.echo(
            f"generator: {folder}, directions from each base, query loss {loss:.3f} ({metrics['seconds']:.0f} s)"
        )
        return
    names = ["train_original", "train_decoded", "held_out_original", "held_out_decoded"]
    titles = ["", "train", "decoded", "held out", "decoded"]
    rows = [
        [arch, *(f"{row[name]:.3f}" if name in row else "-" for name in names)]
        for arch, row in metrics["retrieval"].items()
    ]
    table("mean validation accuracy of the zoo's checkpoints", titles, rows)
    if "compression" in metrics:  # without the zoo's data nothing that is lost can be measured
        print_compression(Compression.from_json(metrics["compression"]))
    click.echo(f"generator: {folder} ({metrics['seconds']:.0f} s)")
