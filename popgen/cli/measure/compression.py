"""`popgen compression`: the size of a generator beside its zoo's, and what each smaller form costs in accuracy."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from popgen.cli.options import DATA_DIR, JSON
from popgen.cli.say import start
from popgen.json_text import json_text

if TYPE_CHECKING:
    from popgen.audit.compression import Compression


@click.command("compression")
@click.argument("generator", required=False)
@click.option("--zoo", "zoo_name", help="Folder or name of the zoo.  [default: the generator's own]")
@click.option(
    "--split", type=click.Choice(["train", "val", "test"]), default="val", show_default=True, help="Evaluated on."
)
@DATA_DIR
@click.option("--held-out", is_flag=True, help="The checkpoints that are held out, instead of those of training.")
@JSON
def compression_command(
    generator: str | None, zoo_name: str | None, split: str, data_dir: str | None, held_out: bool, as_json: bool
) -> None:
    """The size of GENERATOR beside its zoo in every smaller form, and what each costs in accuracy.

    The forms are float16, int8 + zstd, and all checkpoints in one codec of `popgen zoo archive` alone. Checkpoints that the
    generator does not hold are encoded for this, without fitting the codes. Without GENERATOR the zoo's forms are compared alone.

    \b
    Examples:
      popgen compression generators/mine --zoo zoos/other
      popgen compression --zoo zoos/other
    """
    from popgen.jobs.names import check_encode_names
    from popgen.zoo.names import zoo_folder

    if generator is not None:
        check_encode_names(generator, zoo_name)
    elif zoo_name is None:
        raise click.UsageError("name a generator, or a zoo with --zoo")
    else:
        zoo_folder(zoo_name)
    start(f"measuring {f'the zoo {zoo_name}' if generator is None else f'the generator {generator}'}")
    from popgen.jobs.compression import compression
    from popgen.progress import Bars

    with Bars() as bars:
        show = partial(bars.update, "networks")
        found = compression(generator, zoo_name, split, held_out=held_out, data_dir=data_dir, on_progress=show)
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
