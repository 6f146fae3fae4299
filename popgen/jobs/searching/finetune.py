"""What the rows of a search's table are worth after more training: all of them with one recipe, from where they are.

Every network gets the same images in the same order, on the whole training split, for the same epochs; each number of
epochs is a training of its own with its own learning rate schedule, and rows of one network share it. Gradients are
clipped, or the first steps would throw a head that was refitted in closed form away. No figure chooses anything. What is
finished is kept in the run's folder under a hash of all that it depends on, so that a resumed run does not train it again.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from popgen.archs import build
from popgen.baselines.rivals import Finetuned, Row
from popgen.configs.search import SearchConfig
from popgen.configs.spec import Recipe
from popgen.data import DataSet, Part
from popgen.errors import BrokenFile, brief
from popgen.files import write_tensors, write_text
from popgen.fitness import Score
from popgen.jobs.searching.folder import RunFolder
from popgen.networks.forward import task_score
from popgen.networks.threads import threads
from popgen.networks.train import fit

_CLIP = 1.0  # the largest norm of a gradient
_TIMED = 3  # batches by which the time of all is estimated


@dataclass(frozen=True)
class Tuning:
    """How the networks of one search are trained on."""

    arch: str
    data: DataSet
    epochs: tuple[int, ...]  # growing, above 0
    recipe: Recipe
    seed: int
    device: str

    @classmethod
    def of(cls, arch: str, data: DataSet, config: SearchConfig) -> Tuning:
        recipe = Recipe(
            optimizer="sgd", momentum=0.9, weight_decay=5e-4, lr=config.finetune.lr, batch=config.finetune.batch
        )
        epochs = tuple(sorted(set(config.finetune.epochs) - {0}))
        device = "cuda" if config.compute.gpus and torch.cuda.is_available() else "cpu"
        return cls(arch, data, epochs, recipe, config.seed, device)

    def key(self, score: Score, epochs: int) -> str:
        """A hash of the network, the images and the recipe."""
        how = [score.spec.config.to_json(), self.data.sha256, self.recipe.model_dump(), _CLIP, epochs, self.seed]
        return hashlib.sha256(score.flat.cpu().numpy().tobytes() + json.dumps(how).encode()).hexdigest()

    def train(self, score: Score, epochs: int, batches: int | None = None) -> Tensor:
        """The weights (p,) after so many epochs on the training split, or on its first `batches` batches."""
        spec, part = score.spec, self.data.train
        if batches is not None:
            part = part.take(torch.arange(min(len(part), batches * self.recipe.batch)))
        with threads(1):
            net = build(spec.config, seed=0)
            net.load_state_dict(spec.to_state(score.flat.cpu()), strict=False)
            fit(
                net.to(self.device),
                spec.config,
                Part(part.inputs.to(self.device), part.targets.to(self.device)),
                self.recipe.model_copy(update={"epochs": epochs}),
                torch.Generator().manual_seed(self.seed),
                clip=_CLIP,
            )
        return spec.to_flat(net.cpu().state_dict())

    def seconds(self, score: Score) -> float:
        """About how long an epoch takes."""
        self.train(score, 1, batches=1)  # the first call pays for caches
        began = time.perf_counter()
        self.train(score, 1, batches=_TIMED)
        images = min(len(self.data.train), _TIMED * self.recipe.batch)
        return (time.perf_counter() - began) * len(self.data.train) / images


def finetune(
    rows: list[Row], tuning: Tuning, folder: RunFolder, card: dict[str, str], say: Callable[[str], None]
) -> tuple[list[Row], dict[str, Any]]:
    """The rows with their accuracies after fine-tuning, and what result.json says of it.

    Rows that are means over networks stay as they are. The weights of the row `search` after the most epochs are written
    to the run's folder with `card` in their metadata.

    Raises:
        BrokenFile: the figures that are kept cannot be read.
    """
    kept, most = _Kept(folder, tuning.arch), tuning.epochs[-1]
    wanted = {
        tuning.key(row.score, epochs): (row, epochs)
        for row in rows
        if row.score is not None
        for epochs in tuning.epochs
    }
    [winner] = [key for key, (row, epochs) in wanted.items() if row.name == "search" and epochs == most]
    todo = {key: one for key, one in wanted.items() if not kept.has(key, most if key == winner else None)}
    if todo:
        _announce(list(todo.values()), tuning, say)
    for key, (row, epochs) in todo.items():
        kept.add(key, _train(row, epochs, key, tuning, folder if key == winner else None, card, say))
    tuned = [
        row
        if row.score is None
        else replace(row, finetuned=[kept.figures[tuning.key(row.score, epochs)] for epochs in tuning.epochs])
        for row in rows
    ]
    recipe = tuning.recipe.model_dump(exclude={"epochs"}) | {"clip": _CLIP}
    weights = str(folder.finetuned_weights(tuning.arch, most))
    return tuned, {"epochs": list(tuning.epochs), "recipe": recipe, "device": tuning.device, "weights": weights}


def _announce(todo: list[tuple[Row, int]], tuning: Tuning, say: Callable[[str], None]) -> None:
    epochs, images = sum(epochs for _, epochs in todo), len(tuning.data.train)
    assert todo[0][0].score is not None
    seconds = epochs * tuning.seconds(todo[0][0].score)
    about = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
    say(
        f"{tuning.arch}: fine-tuning, {len(todo)} trainings of together {epochs} epochs of {images} images, about {about}"
    )


def _train(
    row: Row,
    epochs: int,
    key: str,
    tuning: Tuning,
    folder: RunFolder | None,
    card: dict[str, str],
    say: Callable[[str], None],
) -> Finetuned:
    """Train one row's network; the weights are written before their figures, so that figures never stand alone."""
    assert row.score is not None
    spec, flat = row.score.spec, tuning.train(row.score, epochs)
    found = Finetuned(epochs, *(task_score(spec, flat, part) for part in (tuning.data.val, tuning.data.test)))
    said = (
        "" if flat.isfinite().all() else ", and its weights are no finite numbers any more: try a lower --finetune-lr"
    )
    say(f"{tuning.arch}: {row.name} after {epochs} epochs: val accuracy {found.val_accuracy:.3f}{said}")
    if folder is not None:
        recipe = tuning.recipe.model_copy(update={"epochs": epochs}).model_dump_json()
        state = spec.to_state(flat)
        write_tensors(
            folder.finetuned_weights(tuning.arch, epochs), state, card | {"finetuned": recipe, "finetune_key": key}
        )
    return found


class _Kept:
    """Figures of finished trainings, by their keys, in a file that is written after each."""

    def __init__(self, folder: RunFolder, arch: str) -> None:
        self._folder, self._arch = folder, arch
        self._file = folder.finetuned(arch)
        self.figures: dict[str, Finetuned] = {}
        if self._file.exists():
            try:
                content = json.loads(self._file.read_text())
                self.figures = {key: Finetuned(**one) for key, one in content.items()}
            except (ValueError, TypeError, AttributeError) as error:
                raise BrokenFile(
                    f"{self._file} cannot be read", brief(error), "Delete it; fine-tuning is then repeated."
                ) from error

    def has(self, key: str, weights_after: int | None) -> bool:
        """Whether a training is finished, and its weights (after so many epochs) are there where they are wanted."""
        if key not in self.figures:
            return False
        if weights_after is None:
            return True
        file = self._folder.finetuned_weights(self._arch, weights_after)
        if not file.exists():
            return False
        with safe_open(file, framework="pt") as opened:
            return (opened.metadata() or {}).get("finetune_key") == key

    def add(self, key: str, figures: Finetuned) -> None:
        self.figures[key] = figures
        content = {
            key: {"epochs": one.epochs, "val_accuracy": one.val_accuracy, "test_accuracy": one.test_accuracy}
            for key, one in self.figures.items()
        }
        write_text(self._file, json.dumps(content, indent=1) + "\n")
