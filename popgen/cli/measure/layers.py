"""`popgen layers`: the weight matrices of a network in the order of their spectral signal-to-noise ratio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from popgen.cli.options import JSON
from popgen.cli.say import remark, start
from popgen.json_text import json_text

if TYPE_CHECKING:
    from popgen.audit.layers import Layers


@click.command("layers")
@click.argument("base")
@click.option(
    "--top", metavar="SHARE|NUMBER", help="Print the best of each kind, such as 25% or 2, as a value of --parts."
)
@click.option("--together", is_flag=True, help="Compare all matrices, not only those of one kind.")
@click.option("--min-side", type=int, help="Leave out matrices with a shorter side.  [default: 8]")
@click.option(
    "--formula",
    type=click.Choice(["calibrated", "spectrum"]),
    help="The edge between noise and signal: calibrated on pure noise, or that of the paper.  [default: calibrated]",
)
@JSON
def layers_command(base: str, as_json: bool, **options: Any) -> None:
    """Rank the weight matrices of BASE by their spectral signal-to-noise ratio.

    BASE is a .safetensors file, a folder with one or with a sharded model's index, a language model lm:BASE (also a llama2.c
    file), a classifier hf:NAME, or a checkpoint ZOO#ID. The ratio is that of the singular values above the edge of pure noise to those below it (Spectrum, arXiv 2406.06623). A matrix is
    compared with those of its kind, whose names differ in numbers alone.

    \b
    Example:
      popgen layers digits#resnet-s/digits/blur/s0
      popgen layers MODEL_FOLDER --top 25%
    """
    from popgen.configs.layers import LayersConfig, Top
    from popgen.configs.load import parse
    from popgen.jobs.names import check_layers_names

    given = {name: value for name, value in options.items() if value is not None}
    config = parse({"base": base, **given}, LayersConfig, "popgen layers")
    if config.top is not None:
        Top.parse(config.top)
    check_layers_names(base)
    start(f"ranking the matrices of {base}")
    from popgen.audit.layers import count_reasons, layers
    from popgen.progress import Bars

    with Bars() as bars:
        found = layers(config, bars.update)
    if found.left_out:
        counts = ", ".join(f"{count} {why}" for why, count in count_reasons(found.left_out).items())
        remark(f"left out: {counts}")
    if as_json:
        click.echo(json_text(found.to_json(), indent=1))
    elif config.top is not None:
        click.echo(",".join(found.chosen))
    else:
        _print_layers(found)


def _print_layers(found: Layers) -> None:
    from popgen.cli.output import table

    rows = [
        [
            one.name,
            " x ".join(map(str, one.shape)),
            f"{one.rank} of {min(one.matrix)}",
            f"{one.edge:.3g}",
            f"{one.largest:.3g}",
            f"{one.snr:.3f}",
        ]
        for one in found.layers
    ]
    together = "" if found.config.together else ", kind by kind"
    title = f"{found.config.base}: {len(rows)} matrices by signal to noise{together}"
    table(title, ["matrix", "shape", "above the edge", "edge", "largest", "snr"], rows)
