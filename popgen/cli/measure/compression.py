"""`popgen compression`: the size of a generator beside its zoo's, and what each smaller form costs in accuracy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from popgen.cli.options import DATA_DIR, JSON
from popgen.cli.say import start
from popgen.json_text import json_text

if TYPE_CHECKING:
    from popgen.audit.compression import Compression


@click.command("compression")
@click.argument("generator")
@click.option("--zoo", "zoo_name", help="Folder or name of the zoo.  [default: the generator's own]")
@click.option(
    "--split", type=click.Choice(["train", "val", "test"]), default="val", show_default=True, help="Evaluated on."
)
@DATA_DIR
@click.option("--held-out", is_flag=True, help="The checkpoints that are held out, instead of those of training.")
@JSON
def compression_command(
    generator: str, zoo_name: str | None, split: str, data_dir: str | None, held_out: bool, as_json: bool
) -> None:
    """The size of GENERATOR beside its zoo as float32, float16 and int8 + zstd, and what each costs in accuracy.

    Checkpoints that the generator does not hold are encoded for this, without fitting the codes.

    \b
    Example:
      popgen compression generators/mine --zoo zoos/other
    """
    from popgen.jobs.names import check_encode_names

    check_encode_names(generator, zoo_name)
    start(f"measuring the generator {generator}")
    from popgen.jobs.compression import compression

    found = compression(generator, zoo_name, split, held_out=held_out, data_dir=data_dir)
    if as_json:
        click.echo(json_text(found.to_json(), indent=1))
        return
    print_compression(found)


def print_compression(found: Compression) -> None:
    """The tables, as `popgen train` shows it too."""
    from popgen.audit.compression import arch_rows, compression_rows
    from popgen.cli.output import table

    table(f"{found.checkpoints} checkpoints in smaller forms, {found.split} split", *compression_rows(found))
    table("points of accuracy lost, on average", *arch_rows(found))
