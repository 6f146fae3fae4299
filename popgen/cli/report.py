"""`popgen report`: a run, sweep, bench or audit as one HTML file, or as Markdown."""

from __future__ import annotations

from typing import Literal

import click

from popgen.cli.options import JSON
from popgen.cli.results import print_result
from popgen.cli.say import start


@click.command("report")
@click.argument("folder", metavar="RUN")
@click.option(
    "--out", type=click.Path(dir_okay=False), help="File to write.  [default: report.html or report.md in RUN]"
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["html", "md"]),
    default="html",
    show_default=True,
    help="One page, or Markdown.",
)
@JSON
def report_command(folder: str, out: str | None, form: Literal["html", "md"], as_json: bool) -> None:
    """Show what RUN holds, the folder of a search, sweep, bench or audit, in one file for a browser.

    The file is complete in itself: it needs no network and runs no script.

    \b
    Examples:
      popgen report runs/cnn-s-digits-rotate-45-s0
      popgen report runs/cnn-s-digits-rotate-45-s0 --format md
    """
    from popgen.jobs.names import reported_kind

    start(f"reporting on the {reported_kind(folder)} in {folder}")
    from popgen.jobs.report import report

    written = report(folder, out, form)
    print_result(written.to_json(), f"{written.verdict[0]}\nreport: {written.path}", as_json)
