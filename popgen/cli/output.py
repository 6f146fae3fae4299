"""Tables on stdout, and the progress of searches, trainings and sweeps on stderr."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from popgen.progress import Bars, time_left
from search import Progress as SearchProgress

if TYPE_CHECKING:
    from search.sweep.sweep import SweepProgress  # brings Ray

_WIDEST = 1000  # characters of a table's row


def table(title: str, columns: list[str], rows: list[list[str]], last_bold: bool = False) -> None:
    """A table on stdout; the first column is left-aligned, the others right-aligned."""
    shown = Table(title=title, title_justify="left", title_style="bold")
    for i, column in enumerate(columns):
        shown.add_column(column, justify="left" if i == 0 else "right", no_wrap=True)
    for i, row in enumerate(rows):
        shown.add_row(*row, style="bold" if last_bold and i == len(rows) - 1 else None)
    console = Console(soft_wrap=True)
    wanted = Measurement.get(console, console.options.update(max_width=_WIDEST), shown).maximum
    wide = Console(soft_wrap=True, width=max(console.width, wanted))  # a narrow terminal wraps, and cuts nothing off
    wide.print(shown)


class SearchBars(Bars):
    """A bar for each architecture: best loss, evaluations a second, how busy the workers are, failures."""

    def show(self, arch: str, progress: SearchProgress) -> None:
        """Show the progress of a search; this is the argument `on_evaluation` of popgen.jobs.search.search."""
        notes = ["best loss -" if progress.best_loss is None else f"best loss {progress.best_loss:.4f}"]
        if progress.front:
            notes = [f"front of {progress.front}"]
        notes.append(f"{progress.rate:.3g} evaluations/s")
        if progress.workers > 1:
            notes.append(f"{progress.workers} workers {progress.busy:.0%} busy")
        if progress.failures:
            notes.append(f"{progress.failures} failed")
        self.update(arch, int(progress.done + 1e-9), progress.total, ", ".join(notes), progress.eta)


class TrainBars(Bars):
    """A line for the stage that runs: its losses, the accuracy of held-out checkpoints after reconstruction, the time left."""

    def show(self, stage: str, step: int, steps: int, losses: dict[str, float]) -> None:
        """Show the progress of a training; this is the argument `on_step` of popgen.jobs.train.train."""
        self.update(stage, step, steps, ", ".join(f"{name} {value:.3f}" for name, value in losses.items()))


class SweepBars(Bars):
    """A bar of the searches that are done, with how many run and how many failed."""

    _of = "searches"  # what is counted
    _searching_since: tuple[float, int] | None = (
        None  # when the first search was started here, and how many were done then
    )

    def show(self, progress: SweepProgress) -> None:
        """Show the progress of a sweep; this is the argument `on_progress` of popgen.jobs.sweep.sweep."""
        now, done = time.monotonic(), progress.done
        if self._searching_since is None and progress.running:
            self._searching_since = now, done
        left = ""
        if self._searching_since is not None and self._searching_since[1] < done < progress.total:
            pace = (now - self._searching_since[0]) / (done - self._searching_since[1])
            left = f", about {time_left(pace * (progress.total - done))}"
        self.update(self._of, done, progress.total, f"{progress.running} running, {progress.failed} failed{left}")


class BenchBars(SweepBars):
    """The same of the cells of a bench."""

    _of = "cells"
