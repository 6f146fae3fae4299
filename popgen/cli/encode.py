"""`popgen encode`: a generator that also holds codes of further checkpoints."""

from __future__ import annotations

import click

from popgen.cli.options import DATA_DIR, GENERATOR, JSON
from popgen.cli.say import start
from popgen.json_text import json_text


@click.command("encode")
@click.argument("zoo")
@GENERATOR
@click.option("--out", type=click.Path(), required=True, help="Folder of the new generator, which must be empty.")
@click.option(
    "--steps", default=40, show_default=True, help="Gradient steps that fit the codes; 0: the encoder's codes."
)
@DATA_DIR
@click.option("--seed", default=0, show_default=True, help="Seed of the draw of training images for it.")
@JSON
def encode_command(
    zoo: str, generator: str, out: str, steps: int, data_dir: str | None, seed: int, as_json: bool
) -> None:
    """Add codes of the checkpoints of ZOO to a generator, so that `popgen retrieve` gives them back.

    \b
    Example:
      popgen encode zoos/mine --generator digits --out generators/mine
    """
    from popgen.jobs.names import check_encode_names

    check_encode_names(generator, zoo)
    start(f"encoding the checkpoints of {zoo}")
    from popgen.cli.output import table
    from popgen.jobs.encode import encode as run_encode

    rows = run_encode(zoo, out, generator=generator, steps=steps, seed=seed, data_dir=data_dir)
    if as_json:
        click.echo(json_text({"generator": out, "archs": [row.to_json() for row in rows]}, indent=1))
        return
    cells = [[row.arch, str(row.codes), f"{row.original:.3f}", f"{row.decoded:.3f}"] for row in rows]
    table("mean validation accuracy of the new codes", ["", "codes", "original", "decoded"], cells)
    click.echo(f"generator: {out}")
