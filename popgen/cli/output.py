"""Progress bars and remarks on stderr, tables on stdout. Plain lines where stderr is not a terminal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from popgen.cli.say import remark
from search import Progress as SearchProgress

if TYPE_CHECKING:
    from search.sweep.sweep import SweepProgress  # brings Ray

_WIDEST = 1000  # characters of a table's row
_PLAIN_EVERY = 10.0  # seconds between lines of progress where there is no terminal


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


class _Bars:
    """Bars by name, with a text behind each."""

    def __init__(self) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
        )
        self._console = Console(stderr=True)
        self._progress = Progress(
            *columns, console=self._console, transient=False, disable=not self._console.is_terminal
        )
        self._tasks: dict[str, TaskID] = {}
        self._printed = time.monotonic()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Leave the bars as they are."""
        self._progress.stop()

    def _show(self, name: str, done: int, total: int | None, note: str) -> None:
        if self._console.is_terminal:
            if name not in self._tasks:
                self._tasks[name] = self._progress.add_task(name, total=total, note="")
            self._progress.update(self._tasks[name], completed=done, note=note)
        elif time.monotonic() - self._printed >= _PLAIN_EVERY or done == total:
            self._printed = time.monotonic()
            remark(f"{name}: {done}{'' if total is None else f' of {total}'}, {note}")


class SearchBars(_Bars):
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
        if not self._console.is_terminal and progress.eta is not None:
            notes.append(f"{progress.eta:.0f} s left")
        self._show(arch, int(progress.done + 1e-9), progress.total, ", ".join(notes))


class TrainBars(_Bars):
    """A line for the stage that runs: its losses, the accuracy of held-out checkpoints after reconstruction, the time left."""

    _begun: tuple[str, int, float] = ("", 0, 0.0)  # the stage that runs, its first step here, and when that was done

    def show(self, stage: str, step: int, steps: int, losses: dict[str, float]) -> None:
        """Show the progress of a training; this is the argument `on_step` of popgen.jobs.train.train."""
        now = time.monotonic()
        if self._begun[0] != stage:
            self._begun = stage, step, now
        notes = [f"{name} {value:.3f}" for name, value in losses.items()]
        _, first, began = self._begun
        if not self._console.is_terminal and first < step < steps:
            notes.append(f"{(now - began) / (step - first) * (steps - step):.0f} s left")
        self._show(stage, step, steps, ", ".join(notes))


class SweepBars(_Bars):
    """A bar of the searches that are done, with how many run and how many failed."""

    _begun: tuple[float, int] | None = None  # when the first search was started here, and how many were done then

    def show(self, progress: SweepProgress) -> None:
        """Show the progress of a sweep; this is the argument `on_progress` of popgen.jobs.sweep.sweep."""
        now, done = time.monotonic(), progress.done
        if self._begun is None and progress.running:
            self._begun = now, done
        left = ""
        if self._begun is not None and self._begun[1] < done < progress.total:
            pace = (now - self._begun[0]) / (done - self._begun[1])
            left = f", about {max(1, round(pace * (progress.total - done) / 60))} min left"
        self._show("searches", done, progress.total, f"{progress.running} running, {progress.failed} failed{left}")
