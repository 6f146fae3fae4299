"""`popgen zoo`: the commands that make, read and check zoos."""

from popgen.cli.zoo.commands import parse_set, zoo

__all__ = ["parse_set", "zoo"]
