"""Stages of an interrupted training, kept in a folder of their own so that they need not be done again.

Every stage starts from its own random seed, so that a training that was interrupted gives what it would have given.
"""

from __future__ import annotations

import json
import shutil
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from popgen.errors import CannotResume

_NOT_TRAINED = (
    "codes",
    "remainder_codes",
    "data_vectors",
    "latent_mean",
    "latent_std",
)  # derived from the trained parts between the stages


class FinishedStages:
    """`run` does a stage, or loads what it left. `seconds` is what the loaded stages had taken."""

    def __init__(self, model: nn.Module, out: Path, settings: dict[str, Any]) -> None:
        self.model, self.folder, self.seconds = model, out / "unfinished", 0.0
        self._seed = int(settings["config"]["seed"])
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / "settings.json"
        text = json.dumps(settings, indent=1, sort_keys=True)
        if not file.exists():
            file.write_text(text)
        elif file.read_text() != text:
            before = json.loads(file.read_text())
            changed = [key for key in settings if settings[key] != before.get(key)]
            raise CannotResume(
                f"{out} holds an interrupted training with another {' and '.join(changed)}",
                "its finished stages cannot be used",
                f"Restore the settings, choose another --out, or remove {self.folder}.",
            )

    def run(self, name: str, stage: Callable[[], dict[str, float]]) -> dict[str, float]:
        """The stage's losses at its end."""
        weights, record = self.folder / f"{name}.safetensors", self.folder / f"{name}.json"
        if record.exists():
            done = json.loads(record.read_text())
            self.model.load_state_dict(load_file(weights), strict=False)
            self.seconds += done["seconds"]
            return dict(done["losses"])
        torch.manual_seed(self._seed + zlib.crc32(name.encode()))
        began = time.monotonic()
        losses = stage()
        state = {k: v.contiguous() for k, v in self.model.state_dict().items() if k not in _NOT_TRAINED}
        save_file(state, weights)
        record.write_text(json.dumps({"losses": losses, "seconds": time.monotonic() - began}))
        return losses

    def remove(self) -> None:
        """Forget the stages: the result is saved."""
        shutil.rmtree(self.folder)
