"""`popgen report`: what a folder holds, as one HTML file or as Markdown.

The kind of a folder is told by a file that every folder of its kind has (popgen.jobs.names.REPORTED). A further kind is one more entry
there and one of READERS: a function that reads its folder as a popgen.report.Report.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from popgen.errors import BadInput
from popgen.files import write_text
from popgen.jobs.names import reported_kind
from popgen.jobs.reporting.audit import audit_report
from popgen.jobs.reporting.bench import bench_report
from popgen.jobs.reporting.run import run_report
from popgen.jobs.reporting.sweep import sweep_report
from popgen.report import Report, html_page, markdown_page

Format = Literal["html", "md"]
READERS: dict[str, Callable[[str], Report]] = {
    "search": run_report,
    "sweep": sweep_report,
    "bench": bench_report,
    "audit": audit_report,
}
_OURS = {
    "html": '<meta name="generator" content="popgen ',
    "md": "\nWritten by popgen ",
}  # text that tells a report from other files


@dataclass(frozen=True)
class Reported:
    """A report that was written: its path and size in bytes, its kind, title and verdict."""

    path: str
    size: int
    kind: str
    title: str
    verdict: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The keys of --json; they are stable."""
        return {
            "report": self.path,
            "bytes": self.size,
            "kind": self.kind,
            "title": self.title,
            "verdict": list(self.verdict),
        }


def report(folder: str, out: str | None = None, form: Format = "html") -> Reported:
    """Write the report of a run, sweep, bench or audit; an earlier report is replaced.

    The same folder gives the same report, byte for byte. Nothing is downloaded, and no code that the folder names is run unless it
    is trusted already.

    Args:
        folder: what `popgen search`, `sweep`, `bench` or `audit` wrote.
        out: the file to write; None: report.html or report.md in the folder. The charts of report.md lie in a folder
            beside it, which is named after it.

    Raises:
        NotFound: the folder is of no kind that has reports.
        BadInput: `out` exists, and is no report.
        BrokenFile: a file in the folder is not what popgen wrote.
        SearchError: a history is broken, or another process writes it.
    """
    read = READERS[reported_kind(folder)]
    file = Path(out) if out is not None else Path(folder) / f"report.{form}"
    _check_replaceable(file, form)
    content = read(folder)
    if form == "html":
        size = write_text(file, html_page(content))
    else:
        charts = file.with_name(f"{file.stem}-charts")
        text, drawn = markdown_page(content, charts.name)
        size = write_text(file, text) + sum(write_text(charts / name, svg) for name, svg in drawn.items())
    return Reported(str(file), size, content.kind, content.title, content.verdict)


def _check_replaceable(file: Path, form: Format) -> None:
    """Refuse to write over anything but a report.

    Raises:
        BadInput: there is something else.
    """
    if not file.exists():
        return
    if not file.is_file() or _OURS[form] not in file.read_text(encoding="utf-8", errors="replace"):
        raise BadInput(f"{file} is not a report of popgen", "it would be replaced", "Give another file with --out.")
