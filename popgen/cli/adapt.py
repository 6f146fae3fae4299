"""`popgen adapt`: a published network, fitted to unlabelled images of a new kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from popgen.cli.options import DATA_DIR, JSON
from popgen.cli.say import remark, start
from popgen.json_text import json_text

if TYPE_CHECKING:
    from popgen.jobs.adapt import Adapted


@click.command("adapt")
@click.option("--arch", required=True, help="Architecture of the network.")
@click.option("--data", required=True, help="The images: folder:PHOTOS, with or without labels, or a data set.")
@DATA_DIR
@click.option(
    "--generator",
    help="Built-in, hub:OWNER/NAME, or the folder that `popgen train` wrote of a zoo with a base.  [default: cifar_shifts]",
)
@click.option("--zoo", help="Zoo of the row `best zoo`.  [default: the generator's own where it is found]")
@click.option("--images", type=int, help="Images at most that networks are compared by.  [default: 1000]")
@click.option("--batch", type=int, help="Adapt to each so many images of a stream by themselves.")
@click.option("--tent", type=int, help="With rows of TENT, of so many epochs.  [default: 0]")
@click.option("--eta", type=int, help="With rows of ETA, of so many epochs.  [default: 0]")
@click.option(
    "--finish", metavar="tent|eta[:EPOCHS]", help="Entropy minimisation of the chosen network; takes gradients."
)
@click.option("--seed", type=int, help="[default: 0]")
@click.option("--out", type=click.Path(), default="adapted", show_default=True, help="Folder, which must be empty.")
@JSON
def adapt_command(arch: str, data: str, out: str, as_json: bool, **options: Any) -> None:
    """Fit a published network to images of a new kind, without labels and without training.

    The network is chosen among the base that the generator's zoo goes back to, a robust copy of it, and what the generator
    adds for these images, each with several batch-norm statistics. Where no choice is better than the base beyond the
    estimate's error, the base comes back. All classes should occur in the images.

    \b
    Example:
      popgen adapt --arch resnet20 --data folder:PHOTOS
      popgen adapt --arch resnet20 --data folder:PHOTOS --generator generators/mine --tent 3
    """
    from popgen.configs.adapt import AdaptConfig
    from popgen.configs.load import parse
    from popgen.jobs.names import check_adapt_names

    given = {name: value for name, value in options.items() if value is not None}
    config = parse({"arch": arch, "data": data, **given}, AdaptConfig, "popgen adapt")
    check_adapt_names(config.generator, arch, data)
    start(f"adapting {arch} to {data}")
    from popgen.jobs.adapt import adapt as run_adapt
    from popgen.progress import Bars

    with Bars() as bars:
        adapted = run_adapt(config, out, remark, bars.update)
    if as_json:
        click.echo(json_text(adapted.to_json(), indent=1))
        return
    if config.batch is not None:
        _print_batches(adapted)
    else:
        _print_rows(adapted)


def _print_rows(adapted: Adapted) -> None:
    from popgen.cli.output import table

    title = f"{adapted.arch} for {adapted.data}: {adapted.images} unlabelled images, {adapted.seconds:g} s"
    rows = [
        [
            row.name,
            row.what,
            f"{row.information:.3f}",
            *map(_share, (row.val_accuracy, row.test_accuracy)),
            f"{row.passes:,}",
        ]
        for row in adapted.rows
    ]
    table(title, ["", "network", "information", "val accuracy", "test accuracy", "image passes"], rows, last_bold=True)
    click.echo(_verdict(adapted))
    click.echo(f"weights: {adapted.weights}")


def _verdict(adapted: Adapted) -> str:
    gain = f"{adapted.gain:+.3f} nats of mutual information over the base, standard error {adapted.error:.3f}"
    if not adapted.is_base:
        return f"chosen: {adapted.chosen} ({gain}, estimated on images that did not choose)"
    return f"the base is kept: {adapted.best} has {gain}; {adapted.why_base}"


def _print_batches(adapted: Adapted) -> None:
    from popgen.cli.output import table

    rows = [
        [str(one.first), one.chosen, f"{one.gain:+.3f}", _share(one.base_accuracy), _share(one.accuracy)]
        for one in adapted.batches
    ]
    table(f"{adapted.arch} for {adapted.data}", ["image", "network", "gain", "base accuracy", "accuracy"], rows)


def _share(accuracy: float | None) -> str:
    return "-" if accuracy is None else f"{accuracy:.3f}"
