"""`popgen rank`: the best checkpoints of a zoo for a data set, without training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import click

from popgen.cli.options import DATA_DIR, JSON
from popgen.cli.say import remark, start
from popgen.configs.rank import Method
from popgen.json_text import json_text

if TYPE_CHECKING:
    from popgen.jobs.ranking.rank import Ranked

_SHOWN = 20  # rows of the table; --json has all


@click.command("rank")
@click.option("--data", required=True, help="The data set that checkpoints are ranked for.")
@DATA_DIR
@click.option("--zoo", help="A folder, a zoo that the package ships, or hub:OWNER/NAME.  [default: digits]")
@click.option(
    "--arch", "archs", multiple=True, help="Architecture of the zoo; may be given several times.  [default: all]"
)
@click.option(
    "--method",
    type=click.Choice(["auto", *get_args(Method)]),
    help="What checkpoints are scored by.  [default: auto, which is direct where class names match, else ridge]",
)
@click.option(
    "--share", type=float, help="Image passes, as a share of showing all images to all checkpoints.  [default: 0.2]"
)
@click.option("--images", type=int, help="Images at most that checkpoints are compared by.  [default: 1000]")
@click.option("--top", type=int, help="Number of checkpoints to choose.  [default: 1]")
@click.option("--seed", type=int, help="Draws the images.  [default: 0]")
@click.option("--out", type=click.Path(), help="Write the chosen ones into this folder, which must be empty.")
@JSON
def rank_command(data: str, out: str | None, as_json: bool, **options: Any) -> None:
    """Rank the checkpoints of a zoo for a data set, without training, across architectures.

    Where the checkpoints know the data set's classes by name, they are scored as they are; else by a head that is fitted
    to their features in closed form. Checkpoints race: all see a few images, then the better half sees more. The images
    are those of validation, and of training where these are too few.

    \b
    Example:
      popgen rank --data digits/rotate:45
      popgen rank --data folder:PHOTOS --zoo zoos/mine --top 3 --out ranked
    """
    from popgen.configs.load import parse
    from popgen.configs.rank import RankConfig
    from popgen.jobs.names import check_rank_names

    given = {name: value for name, value in options.items() if value is not None}
    config = parse({"data": data, **given, "archs": list(options["archs"])}, RankConfig, "popgen rank")
    check_rank_names(config.zoo, config.archs, data)
    start(f"ranking the checkpoints of {config.zoo} for {data}")
    from popgen.jobs.ranking.rank import rank
    from popgen.progress import Bars

    with Bars() as bars:
        ranked = rank(config, out, remark, bars.update)
    if as_json:
        click.echo(json_text(ranked.to_json(), indent=1))
    else:
        _print_ranked(ranked)


def _print_ranked(ranked: Ranked) -> None:
    from popgen.cli.output import table

    rows = [
        [
            f"{row.rank}{' *' if row.chosen else ''}",
            row.id,
            f"{row.score:.3f}",
            f"{row.error:.3f}",
            f"{row.examples:,}",
            f"{row.images:,}",
            f"{row.seconds:.2f}",
        ]
        for row in ranked.rows[: max(_SHOWN, len(ranked.chosen))]
    ]
    title = f"{ranked.zoo} for {ranked.data}: {ranked.method}, {ranked.what}"
    table(title, ["rank", "checkpoint", "score", "error", "images", "image passes", "seconds"], rows)
    more = len(ranked.rows) - len(rows)
    click.echo(f"method {ranked.method}: {ranked.why}" + (f"; {more:,} more rows in --json" if more else ""))
    share = ranked.images / ranked.exhaustive
    click.echo(f"{ranked.images:,} image passes, {share:.0%} of an exhaustive evaluation, in {ranked.seconds:g} s")
    for one in ranked.written:
        click.echo(f"weights: {one.weights} (head: {one.head}, val {one.unit} {one.val_score:.3f})")
