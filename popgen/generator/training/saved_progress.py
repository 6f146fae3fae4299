"""The progress of an interrupted training, kept in a folder: finished stages, and the last saved step of the running one.

Tensors are saved as safetensors, everything else as JSON. A file is complete or does not exist.
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from popgen.errors import CannotResume, brief
from popgen.files import write_tensors, write_text
from popgen.json_text import json_text, parse_json

NOT_SETTINGS = {"memory", "save_every"}  # they change no result, so a training may resume with others
# Computed from the trained parameters between the stages.
_NOT_TRAINED = ("codes", "residual_codes", "data_vectors", "latent_mean", "latent_std")


class SavedProgress:
    """The folder `unfinished` in a generator's folder.

    Attributes:
        seconds: how long the stages that were loaded had taken.
        steps: the optimizer's steps in each finished stage.

    Raises:
        CannotResume: the folder holds a training with other settings.
    """

    def __init__(self, model: nn.Module, out: Path, settings: dict[str, Any], device: str = "cpu") -> None:
        self.model, self.folder, self.seconds, self._device = model, out / "unfinished", 0.0, device
        self.steps: dict[str, int] = {}
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / "settings.json"
        text = json_text(settings, indent=1, sort_keys=True)
        if not file.exists():
            write_text(file, text)
        elif file.read_text() != text:
            before = _read(file)
            changed = [key for key in settings if settings[key] != before.get(key)]
            raise CannotResume(
                f"{out} holds an interrupted training with another {' and '.join(changed)}",
                "what it has finished cannot be used",
                f"Restore the settings, choose another --out, or remove {self.folder}.",
            )

    def load_finished(self, stage: str) -> dict[str, float] | None:
        """Load the model as it was after a finished stage; returns the stage's losses, or None if it is not finished.

        A loss that was not finite is NaN again.
        """
        record = self._file(stage, "json")
        if not record.exists():
            return None
        done = _read(record)
        self._load(_tensors(self._file(stage, "safetensors"), self._device))
        self.seconds += done["seconds"]
        self.steps[stage] = done["steps"]
        return {name: math.nan if value is None else value for name, value in done["losses"].items()}

    def finish(self, stage: str, losses: dict[str, float], seconds: float, steps: int) -> None:
        """Save the model after a stage, and remove the steps that were saved during it."""
        write_tensors(self._file(stage, "safetensors"), self._model_tensors())
        write_text(self._file(stage, "json"), json_text({"losses": losses, "seconds": seconds, "steps": steps}))
        self.steps[stage] = steps
        for file in self.folder.glob("step-*"):
            file.unlink()

    def save_step(self, stage: str, state: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Save the model, the tensors of the stage's state, and its facts, among them the number of steps, `step`."""
        old = list(self.folder.glob("step-*"))
        name = f"step-{facts['step']}"
        tensors = {f"model.{k}": v for k, v in self._model_tensors().items()}
        write_tensors(self.folder / f"{name}.safetensors", tensors | {f"work.{k}": v for k, v in state.items()})
        write_text(self.folder / f"{name}.json", json_text({"stage": stage, **facts}))
        for file in old:
            if file.stem != name:
                file.unlink()

    def load_step(self, stage: str) -> dict[str, Any] | None:
        """Load the model as it was at the last saved step of a stage.

        Returns the facts, with the tensors of the stage's state under "tensors", or None if no step was saved.
        """
        steps = sorted(self.folder.glob("step-*.json"), key=lambda file: int(file.stem.removeprefix("step-")))
        for record in reversed(steps):
            facts = _read(record)
            if facts.get("stage") == stage:
                tensors = _tensors(record.with_suffix(".safetensors"), self._device)
                self._load({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
                state = {k.removeprefix("work."): v for k, v in tensors.items() if k.startswith("work.")}
                return {**facts, "tensors": state}
        return None

    def remove(self) -> None:
        """Remove the folder, once the result is saved."""
        shutil.rmtree(self.folder)

    def _file(self, stage: str, ending: str) -> Path:
        return self.folder / f"{stage.replace(' ', '-')}.{ending}"

    def _model_tensors(self) -> dict[str, Tensor]:
        return {k: v.contiguous() for k, v in self.model.state_dict().items() if k not in _NOT_TRAINED}

    def _load(self, tensors: dict[str, Tensor]) -> None:
        self.model.load_state_dict(tensors, strict=False)


def _read(file: Path) -> dict[str, Any]:
    try:
        return dict(parse_json(file.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise _damaged(file, error) from error


def _tensors(file: Path, device: str) -> dict[str, Tensor]:
    try:
        return load_file(file, device=device)
    except (OSError, SafetensorError) as error:
        raise _damaged(file, error) from error


def _damaged(file: Path, error: Exception) -> CannotResume:
    todo = f"Remove the folder {file.parent}: the training then begins anew."
    return CannotResume(f"{file} of an interrupted training is damaged", brief(error), todo)
