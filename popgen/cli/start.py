"""The first line of a command that takes long."""

from __future__ import annotations

import click


def start(what: str) -> None:
    """Say on stderr what is begun; call it before torch is imported, which takes a second or two.

    Args:
        what: such as "training a generator on zoo_specs/digits.yaml".
    """
    click.echo(f"{what} ...", err=True)
