"""The log of a training: log/metrics.jsonl, and the same figures for TensorBoard, where each stage is a run.

tensorboard --logdir generators/mine/log
"""

from __future__ import annotations

from pathlib import Path

from tensorboardX import SummaryWriter

from popgen.files import write_text
from popgen.json_text import json_text, parse_json


class Log:
    """Writes a line of JSON and an event for TensorBoard.

    A stage that resumes at an earlier step removes the lines of later steps, because it will write them again.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / "metrics.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._board: SummaryWriter | None = None

    def go_on(self, stage: str, step: int) -> None:
        """Remove lines of `stage` after `step`, and an incomplete last line; then write on."""
        if self.file.exists():
            kept = [line for line in self.file.read_text().splitlines() if _is_before(line, stage, step)]
            write_text(self.file, "".join(f"{line}\n" for line in kept))
        self.close()
        self._board = SummaryWriter(str(self._folder / stage.replace(" ", "-")), purge_step=step + 1)

    def write(
        self, stage: str, step: int, steps: int, figures: dict[str, float], learning_rate: float, seconds: float
    ) -> None:
        """Write the figures after a step; `seconds` is the time in the stage, without interruptions."""
        line = {"stage": stage, "step": step, "steps": steps, **figures, "learning_rate": learning_rate}
        with self.file.open("a") as file:
            file.write(json_text({**line, "seconds": round(seconds, 2)}) + "\n")
        if self._board is not None:
            for name, value in (figures | {"learning_rate": learning_rate}).items():
                self._board.add_scalar(name.replace(" ", "_"), value, step)

    def close(self) -> None:
        """Write all events that are still in memory."""
        if self._board is not None:
            self._board.close()
            self._board = None


def _is_before(line: str, stage: str, step: int) -> bool:
    try:
        entry = parse_json(line)
    except ValueError:
        return False
    return bool(entry["stage"] != stage or entry["step"] <= step)
