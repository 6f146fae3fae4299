"""Lines on stderr, without importing anything heavy."""

from __future__ import annotations

import click


def remark(text: str) -> None:
    """One line."""
    click.echo(text, err=True)


def start(what: str) -> None:
    """Say what a command that takes long begins; call it before torch is imported, which takes a second or two.

    Args:
        what: such as "training a generator on zoo_specs/digits.yaml".
    """
    remark(f"{what} ...")
