"""Options and types of options that several commands share."""

from __future__ import annotations

from typing import Any

import click

_HELP = "Folder of named data sets such as cifar10.  [default: $POPGEN_DATA, else data]"


def _use(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value is not None:
        from popgen.data.folder import use_data_dir

        use_data_dir(value)


# of commands whose settings are not kept in a file; the others name it in their settings
DATA_DIR = click.option("--data-dir", type=click.Path(), expose_value=False, callback=_use, help=_HELP)
DATA_DIR_SETTING = click.option("--data-dir", type=click.Path(resolve_path=True), help=_HELP)


class Numbers(click.ParamType):
    """Comma-separated numbers."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[float]:
        try:
            return value if isinstance(value, list) else [float(part) for part in value.split(",") if part.strip()]
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers such as 0.25,0.5", param, ctx)


class Names(click.ParamType):
    """Comma-separated names."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        return value if isinstance(value, list) else [part.strip() for part in value.split(",") if part.strip()]
