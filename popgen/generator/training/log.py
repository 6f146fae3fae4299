"""The figures of a training as files: log/metrics.jsonl, and the same for TensorBoard, each stage as a run of its own.

tensorboard --logdir generators/mine/log
"""

from __future__ import annotations

import json
import math
from pathlib import Path

from tensorboardX import SummaryWriter

from popgen.files import write_text


class Log:
    """One line and one TensorBoard event a figure, whenever it is told; a stage that goes on at an earlier step drops later ones."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "metrics.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._board: SummaryWriter | None = None

    def go_on(self, stage: str, step: int) -> None:
        """Lines of `stage` beyond `step`, and a line that was cut off, are dropped: they will be written again."""
        if self.file.exists():
            kept = [line for line in self.file.read_text().splitlines() if _is_before(line, stage, step)]
            write_text(self.file, "".join(f"{line}\n" for line in kept))
        self.close()
        self._board = SummaryWriter(str(self._folder / stage.replace(" ", "-")), purge_step=step + 1)

    def write(
        self, stage: str, step: int, steps: int, figures: dict[str, float], learning_rate: float, seconds: float
    ) -> None:
        """The figures after a step; `seconds` since the stage began, interruptions left out."""
        known = {name: value if math.isfinite(value) else None for name, value in figures.items()}
        line = {"stage": stage, "step": step, "steps": steps, **known, "learning_rate": learning_rate}
        with self.file.open("a") as file:
            file.write(json.dumps({**line, "seconds": round(seconds, 2)}) + "\n")
        if self._board is not None:
            for name, value in (figures | {"learning_rate": learning_rate}).items():
                self._board.add_scalar(name.replace(" ", "_"), value, step)

    def close(self) -> None:
        """Write what TensorBoard's file still lacks."""
        if self._board is not None:
            self._board.close()
            self._board = None


def _is_before(line: str, stage: str, step: int) -> bool:
    try:
        entry = json.loads(line)
    except ValueError:
        return False
    return bool(entry["stage"] != stage or entry["step"] <= step)
