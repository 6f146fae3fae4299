"""Progress of long work on stderr: bars in a terminal, and plain lines at intervals where stderr is a file or a pipe."""

from __future__ import annotations

import time
from typing import Self

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

PLAIN_SECONDS = 10.0  # between two plain lines


class Bars:
    """Bars by name, with a text behind each. They are drawn inside a `with` block.

    Where stderr is not a terminal, an update is a line if it is a bar's first with nothing done, if all is done, or if
    `plain_seconds` have passed since the last line.

    >>> with Bars(visible=False) as bars:
    ...     bars.update("training", 1, 12)
    """

    def __init__(self, visible: bool = True, plain_seconds: float = PLAIN_SECONDS) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
        )
        self._console = Console(stderr=True)
        self._progress = Progress(*columns, console=self._console, disable=not (visible and self._console.is_terminal))
        self._visible, self._plain_seconds = visible, plain_seconds
        self._tasks: dict[str, TaskID] = {}
        self._begun: dict[str, tuple[int, float]] = {}  # what was done at a bar's first update, and its time
        self._printed = time.monotonic()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Leave the bars as they are."""
        self._progress.stop()

    def print(self, text: str) -> None:
        """A line above the bars."""
        if self._visible and self._console.is_terminal:
            self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)
        elif self._visible:
            click.echo(text, err=True)

    def update(self, name: str, done: int, total: int | None, note: str = "", left: float | None = None) -> None:
        """Show how much of `total` (None: not known) is done.

        Args:
            note: text behind the bar.
            left: seconds left, for plain lines; None takes the pace since the bar's first update.
        """
        if not self._visible:
            return
        if self._console.is_terminal:
            if name not in self._tasks:
                self._tasks[name] = self._progress.add_task(name, total=total, note="")
            self._progress.update(self._tasks[name], completed=done, note=note)
            return
        now = time.monotonic()
        is_begun = name not in self._begun and done == 0
        first, began = self._begun.setdefault(name, (done, now))
        if not is_begun and done != total and now - self._printed < self._plain_seconds:
            return
        self._printed = now
        if left is None and total is not None and first < done < total:
            left = (now - began) / (done - first) * (total - done)
        count = f"{name}: {done}{'' if total is None else f' of {total}'}"
        click.echo(", ".join(filter(None, [count, note, "" if left is None else time_left(left)])), err=True)


def duration(seconds: float) -> str:
    """A time in words, in seconds up to two minutes, in minutes up to two hours.

    >>> duration(36.2), duration(600), duration(9000)
    ('36 s', '10 min', '2.5 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def time_left(seconds: float) -> str:
    """The time that is left, in words.

    >>> time_left(36.2)
    '36 s left'
    """
    return f"{duration(seconds)} left"
