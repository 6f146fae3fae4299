"""`popgen merge`: one network of several checkpoints of a zoo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from popgen.cli.options import DATA_DIR, JSON, Names
from popgen.cli.say import remark, start
from popgen.json_text import json_text
from popgen.merging.names import METHODS

if TYPE_CHECKING:
    from popgen.jobs.merging.job import MergedNetworks, MergeRow


@click.command("merge")
@click.option("--experts", type=Names(), required=True, help="Ids in the zoo, or globs of ids, separated by commas.")
@click.option("--zoo", required=True, help="Folder of the zoo, the name of a built-in one, or hub:OWNER/NAME.")
@click.option("--method", metavar="NAME", help=f"all, or one of {', '.join(METHODS)}.  [default: all]")
@click.option(
    "--base", metavar="ID", help="What the experts were trained from: an id, or ZOO#ID.  [default: what the zoo knows]"
)
@click.option(
    "--data",
    type=Names(),
    help="A data set for all experts, one for each, separated by commas, or `own`: those that they were trained on.",
)
@DATA_DIR
@click.option("--images", type=int, help="Training images of each data set at most, without labels.  [default: 1000]")
@click.option(
    "--batch-norm",
    type=click.Choice(["reestimate", "keep"]),
    help="Statistics of the images, or the experts' average.  [default: reestimate, where there are images]",
)
@click.option("--scale", type=float, help="Factor of summed task vectors.  [default: by validation, else published]")
@click.option("--keep", type=float, help="ties: share of values that are kept.  [default: by validation, else 0.2]")
@click.option("--drop", type=float, help="dare: share of values that are dropped.  [default: by validation, else 0.9]")
@click.option("--shrink", type=float, help="regmean: factor of entries off the diagonal.  [default: 0.9]")
@click.option("--fisher-images", type=int, help="fisher: images of each expert at most.  [default: 64]")
@click.option("--steps", type=int, help="adamerging: steps of Adam.  [default: 100]")
@click.option("--lr", type=float, help="adamerging: learning rate.  [default: 0.001]")
@click.option("--seed", type=int, help="[default: 0]")
@click.option("--out", type=click.Path(), default="merged", show_default=True, help="Folder, which must be empty.")
@JSON
def merge_command(out: str, as_json: bool, **options: Any) -> None:
    """Merge checkpoints of one architecture into one network, without training.

    Experts of independent runs are first aligned to the base, or to the first expert. Without --data, methods that need no
    images are made; unlabelled images are enough for all but greedy soups.

    \b
    Example:
      popgen merge --zoo digits --experts 'cnn-s/digits/rotate:*/s0' --data own
      popgen merge --zoo digits --experts cnn-s/digits/rotate:0/s0,cnn-s/digits/rotate:15/s0 --method ties --scale 1
    """
    from popgen.configs.load import parse
    from popgen.configs.merge import MergeConfig
    from popgen.jobs.names import check_merge_names

    config = parse({name: value for name, value in options.items() if value is not None}, MergeConfig, "popgen merge")
    check_merge_names(config)
    start(f"merging checkpoints of {config.zoo}")
    from popgen.jobs.merging.job import merge_experts
    from popgen.progress import Bars

    with Bars() as bars:
        merged = merge_experts(config, out, remark, bars.update)
    if as_json:
        click.echo(json_text(merged.to_json(), indent=1))
    else:
        _print(merged)


def _print(merged: MergedNetworks) -> None:
    from popgen.cli.output import table

    data = list(dict.fromkeys(merged.data))
    of = "" if not data else f" on {data[0]}" if len(data) == 1 else f", mean over {len(data)} data sets"
    columns = ["", "network", f"val {merged.unit}", f"test {merged.unit}", "evaluations", "image passes", "seconds"]
    table(f"{len(merged.experts)} experts of {merged.arch}{of}", columns, [_cells(row) for row in merged.rows])
    if merged.best is None:
        click.echo("without labels none of them is known to be the best: name one with --method")
        return
    file = next(row.weights for row in merged.merges if row.name == merged.best)
    click.echo(f"{'weights' if len(merged.merges) == 1 else 'best by validation'}: {file}")


def _cells(row: MergeRow) -> list[str]:
    scores = ["-" if score is None else f"{score:.3f}" for score in (row.mean("val"), row.mean("test"))]
    made = row.weights is not None
    costs = [f"{row.evaluations:,}", f"{row.passes:,}", f"{row.seconds:g}"] if made else ["", "", ""]
    return [row.name, row.what, *scores, *costs]
