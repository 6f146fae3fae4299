"""The `popgen` command: runs the command line and turns errors into three lines and an exit code."""

from __future__ import annotations

import os
import sys

import click

from popgen.errors import PopgenError
from popgen.shadow import check_search_package


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
    except OSError as error:
        if os.environ.get("POPGEN_DEBUG"):
            raise
        click.echo(f"error: {error.filename or 'a file'}: {error.strerror or error}", err=True)
        return 4
    except Exception as error:
        code = getattr(error, "exit_code", None)  # PopgenError, and search.SearchError without importing it
        if not isinstance(error, PopgenError) and code is None or os.environ.get("POPGEN_DEBUG"):
            raise
        click.echo(f"error: {error}", err=True)
        return int(code or 1)
    return 0


if __name__ == "__main__":
    main()
