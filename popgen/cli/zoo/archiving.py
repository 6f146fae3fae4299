"""`popgen zoo archive`: a zoo in less space, with a promise on what each checkpoint loses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from popgen.cli.options import DATA_DIR, JSON
from popgen.cli.say import start
from popgen.json_text import json_text

if TYPE_CHECKING:
    from popgen.zoo.archive.write import Archived


@click.command("archive")
@click.argument("folder")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Folder of the archive, which must be empty."
)
@click.option("--lossless", is_flag=True, help="Every checkpoint comes back bit by bit.  [default]")
@click.option(
    "--max-loss",
    type=click.FloatRange(min=0),
    metavar="POINTS",
    help="Points of validation accuracy (percent of a perplexity) that a checkpoint may lose.",
)
@click.option(
    "--max-bytes",
    type=click.IntRange(min=1),
    metavar="BYTES",
    help="Total of the weights, at which as little as possible is lost.",
)
@click.option("--generator", help="Generator whose codes are one more form: built-in, a folder, or hub:OWNER/NAME.")
@click.option("--images", type=click.IntRange(min=1), help="Validation images at most for each score.  [default: all]")
@DATA_DIR
@JSON
def archive_command(
    folder: str,
    out: Path,
    lossless: bool,
    max_loss: float | None,
    max_bytes: int | None,
    generator: str | None,
    images: int | None,
    data_dir: str | None,
    as_json: bool,
) -> None:
    """Write the zoo FOLDER in less space: each checkpoint in the smallest form that keeps to the limit.

    The archive is a zoo that can be read everywhere, and never changed. A checkpoint counts as coded once it was decoded and
    scored on the validation images of its data set; a lossless one once its hash is that of the original. The zoo stays as it is.
    An interrupted command goes on when it is given again.

    \b
    Examples:
      popgen zoo archive zoos/mine --out archives/mine
      popgen zoo archive zoos/mine --out archives/mine --max-loss 0.5
      popgen zoo archive zoos/mine --out archives/mine --max-bytes 2000000
    """
    if sum((lossless, max_loss is not None, max_bytes is not None)) > 1:
        raise click.UsageError("--lossless, --max-loss and --max-bytes exclude each other")
    if generator is not None and max_loss is None:
        raise click.UsageError("--generator needs --max-loss: its codes lose something")
    from popgen.generator.names import generator_folder
    from popgen.zoo.names import zoo_folder

    zoo_folder(folder)
    if generator is not None:
        generator_folder(generator)
    start(f"archiving the zoo {folder}")
    from popgen.generator import Generator
    from popgen.generator.archive.codes import ArchiveCodes
    from popgen.progress import Bars
    from popgen.zoo import Zoo
    from popgen.zoo.archive.write import Limit, archive_zoo

    codes = None if generator is None else ArchiveCodes(Generator.from_pretrained(generator))
    found, limit = Zoo.open(folder), Limit(max_loss, max_bytes)
    with Bars() as bars:
        made = archive_zoo(found, out, limit, codes=codes, images=images, data_dir=data_dir, show=bars.update)
    if as_json:
        click.echo(json_text(made.to_json(), indent=1))
    else:
        _print(made)


def _print(made: Archived) -> None:
    from popgen.cli.output import table

    rows = [[form, str(count)] for form, count in made.codecs.items()]
    table(f"{made.networks} checkpoints, {made.limit}", ["form", "checkpoints"], rows)
    lost = f"{made.mean_loss:.2f} points lost on average, {made.worst_loss:.2f} at worst"
    sizes = f"{made.zoo_bytes / 1e6:.2f} MB -> {made.archive_bytes / 1e6:.2f} MB"
    click.echo(f"{made.folder}: {sizes} ({made.zoo_bytes / made.archive_bytes:.1f}x smaller), {lost}")
