"""The `popgen` command: runs the command line and turns errors into three lines and an exit code."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import click

from popgen.errors import BadInput, PopgenError


def check_search_package() -> None:
    """Refuse to start when `import search` would give somebody else's module.

    Raises:
        BadInput: names the file that is in the way.
    """
    spec = find_spec("search")
    origin = Path(spec.origin) if spec is not None and spec.origin else None
    if origin is None or not (origin.parent / "space.py").exists() or not (origin.parent / "ray_pool.py").exists():
        raise BadInput(
            f"popgen's own package `search` is hidden by {origin or 'a folder called search'}",
            "Python imports that one in its place",
            "Rename it (for example to my_search.py), or start popgen from another folder.",
        )


def main(args: list[str] | None = None) -> None:
    """Entry point; exits with the code of the error (see popgen.errors)."""
    sys.exit(run(args))


def run(args: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    try:
        check_search_package()
        from popgen.cli import cli

        cli.main(args, prog_name="popgen", standalone_mode=False)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        return 130
    except Exception as error:
        code = getattr(error, "exit_code", None)  # PopgenError, and search.SearchError without importing it
        if not isinstance(error, PopgenError) and code is None or os.environ.get("POPGEN_DEBUG"):
            raise
        click.echo(f"error: {error}", err=True)
        return int(code or 1)
    return 0


if __name__ == "__main__":
    main()
