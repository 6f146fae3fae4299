"""Options and types of options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from popgen.trust import remember

_HELP = "Folder of named data sets such as cifar10.  [default: $POPGEN_DATA, else data]"


DATA_DIR = click.option("--data-dir", type=click.Path(resolve_path=True), help=_HELP)


class Numbers(click.ParamType):
    """Comma-separated numbers."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[float]:
        """The numbers of a text, separated by commas."""
        try:
            return value if isinstance(value, list) else [float(part) for part in value.split(",") if part.strip()]
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers such as 0.25,0.5", param, ctx)


class Names(click.ParamType):
    """Comma-separated names."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        """The names of a text, separated by commas."""
        return value if isinstance(value, list) else [part.strip() for part in value.split(",") if part.strip()]


class BatchNorm(click.ParamType):
    """keep, reestimate, auto, or a share from 0 to 1."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str | float:
        """The name as it is, or the share."""
        if value in ("keep", "reestimate", "auto"):
            return str(value)
        try:
            share = float(value)
        except ValueError:
            share = -1.0
        if not 0 <= share <= 1:
            self.fail(f"{value!r} is neither keep, reestimate or auto nor a number from 0 to 1", param, ctx)
        return share


BATCH_NORMS = "auto|keep|reestimate|SHARE"


ADDRESS = click.option(
    "--address", envvar="RAY_ADDRESS", help="Address of a Ray cluster.  [default: $RAY_ADDRESS, or this machine]"
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
GENERATOR = click.option(
    "--generator",
    default="digits",
    show_default=True,
    help="A built-in generator, the folder that `popgen train` wrote, or hub:OWNER/NAME[@REVISION].",
)

TRUST = click.Option(
    ["--trust"],
    multiple=True,
    metavar="NAME",
    expose_value=False,
    callback=lambda _context, _option, names: remember(names),
    help="Code from outside that may run, here and from now on, such as my_nets:make; may be given several times.",
)

PARTS_HELP = "Generate only these tensors: head, or globs of names such as 'conv*'; the others are those of --base."
BASE_HELP = (
    "Checkpoint (.safetensors) of the architecture, or lm:BASE or hf:NAME, whose other tensors are kept, with --parts."
)


_SAMPLING = [
    click.option(
        "--prior",
        type=click.Choice(["network", "ridge", "kde"]),
        help="What samples latents.  [default: the one chosen in training]",
    ),
    click.option(
        "--sampler",
        type=click.Choice(["euler", "heun", "ddim", "ddpm"]),
        help="Sampler of the trained prior.  [default: the generator's own]",
    ),
    click.option("--sample-steps", type=int, help="Steps of the sampler.  [default: the generator's own]"),
    click.option(
        "--guidance", type=float, help="Strength of the guidance; 1 is plain.  [default: the generator's own]"
    ),
    click.option(
        "--strength",
        type=click.FloatRange(0, 1),
        help="How far the condition is trusted: 0 is the average data set's.  [default: the generator's own]",
    ),
]


def sampling_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of popgen.configs.sampling to a command."""
    for option in reversed(_SAMPLING):
        command = option(command)
    return command
