"""`popgen encode` and `popgen zoo report`: codes of further checkpoints, and what a generator weighs beside a zoo."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from popgen.cli.options import DATA_DIR, GENERATOR, JSON

if TYPE_CHECKING:
    from popgen.audit.compression import CompressionReport


@click.command("encode")
@click.argument("zoo")
@GENERATOR
@click.option("--out", type=click.Path(), required=True, help="Folder of the new generator, which must be empty.")
@click.option("--steps", default=40, show_default=True, help="Steps of refinement; 0: the encoder's codes.")
@DATA_DIR
@click.option("--seed", default=0, show_default=True, help="Draws the training images that refinement looks at.")
@JSON
def encode_command(
    zoo: str, generator: str, out: str, steps: int, data_dir: str | None, seed: int, as_json: bool
) -> None:
    """Add codes of the checkpoints of ZOO to a generator, so that `popgen retrieve` gives them back.

    \b
    Example:
      popgen encode zoos/mine --generator digits --out generators/mine
    """
    from popgen.cli.output import table
    from popgen.jobs.encode import encode as run_encode

    rows = run_encode(zoo, out, generator=generator, steps=steps, seed=seed, data_dir=data_dir)
    if as_json:
        click.echo(json.dumps({"generator": out, "archs": [row.to_json() for row in rows]}, indent=1))
        return
    cells = [[row.arch, str(row.codes), f"{row.original:.3f}", f"{row.decoded:.3f}"] for row in rows]
    table("mean validation accuracy of the new codes", ["", "codes", "original", "decoded"], cells)
    click.echo(f"generator: {out}")


@click.command("report")
@click.argument("generator")
@click.option("--zoo", "zoo_name", help="Folder or name of the zoo.  [default: the generator's own]")
@click.option(
    "--split", type=click.Choice(["train", "val", "test"]), default="val", show_default=True, help="Evaluated on."
)
@DATA_DIR
@click.option("--held-out", is_flag=True, help="The checkpoints that are held out, instead of those of training.")
@JSON
def report_command(
    generator: str, zoo_name: str | None, split: str, data_dir: str | None, held_out: bool, as_json: bool
) -> None:
    """The size of GENERATOR beside its zoo as float32, float16 and int8 + zstd, and what each costs in accuracy.

    Checkpoints that the generator does not hold are encoded for the report, without refinement.

    \b
    Example:
      popgen zoo report generators/mine --zoo zoos/other
    """
    from popgen.jobs.encode import report as run_report

    found = run_report(generator, zoo_name, split, held_out=held_out, data_dir=data_dir)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=1))
        return
    print_report(found)


def print_report(found: CompressionReport) -> None:
    """The tables, as `popgen train` shows it too."""
    from popgen.audit.compression import arch_rows, compression_rows
    from popgen.cli.output import table

    table(f"{found.checkpoints} checkpoints in smaller forms, {found.split} split", *compression_rows(found))
    table("points of accuracy lost, on average", *arch_rows(found))
