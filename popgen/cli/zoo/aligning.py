"""`popgen zoo align`: a copy of a zoo whose networks have their units in one order."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from popgen.cli.options import DATA_DIR, JSON
from popgen.cli.results import print_result
from popgen.cli.say import start

if TYPE_CHECKING:
    from popgen.types import Images
    from popgen.zoo import Zoo

_IMAGES = 256  # training images that units are matched on


@click.command("align")
@click.argument("folder")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the aligned zoo.")
@click.option("--data", help="Match units by their activations on images of this data set.  [default: by weights]")
@DATA_DIR
@JSON
def align_command(folder: str, out: Path, data: str | None, data_dir: str | None, as_json: bool) -> None:
    """Write a copy of the zoo FOLDER in which the units of all networks of an architecture are in one order.

    Every network computes what it did. Networks that share a start keep their weights.

    \b
    Examples:
      popgen zoo align zoos/mine --out zoos/mine-aligned
      popgen zoo align zoos/mine --out zoos/mine-aligned --data digits
    """
    from popgen.data.names import check_source
    from popgen.zoo.names import zoo_folder

    zoo_folder(folder)
    if data is not None:
        check_source(data)
    start(f"aligning the zoo {folder}")
    from popgen.zoo import Zoo
    from popgen.zoo.aligned import align_zoo

    found = Zoo.open(folder)
    made = align_zoo(found, out, None if data is None else _images(found, data, data_dir))
    moved = sum("of its units moved" in record.note for record in made.records)
    facts = {"zoo": str(out), "networks": len(made), "moved": moved, "sha256": made.sha256}
    print_result(facts, f"{out}: {len(made)} networks, of which {moved} had units moved", as_json)


def _images(zoo: Zoo, name: str, data_dir: str | None) -> dict[str, Images]:
    """Prepared training images for each architecture."""
    from popgen.data import load_data

    data = load_data(name, data_dir)
    return {arch: zoo.spec(arch).config.inputs.prepare(data.train.inputs[:_IMAGES]) for arch in zoo.archs}
