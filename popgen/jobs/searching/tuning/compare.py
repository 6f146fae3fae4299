"""Fine-tunes the network of every row of a search's table with one recipe, so that the rows can be compared after training, too.

Every network sees the same images of the whole training split in the same order. Each number of epochs is a training of its own, because
the learning rate schedule depends on it; rows that hold the same network share the training. Gradients are clipped, because the first
steps would otherwise destroy a head that was refitted in closed form. No figure chooses anything. Finished trainings are kept in the run's
folder under a hash of all that they depend on, so that a resumed run does not repeat them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from safetensors import safe_open

from popgen.archs.beside import write_beside
from popgen.baselines.row import Finetuned, Row, unit_of
from popgen.configs.search import SearchConfig
from popgen.data import DataSet
from popgen.errors import BrokenFile, brief
from popgen.files import write_tensors, write_text
from popgen.fitness import Scored
from popgen.jobs.searching.checks import ArchSearch
from popgen.jobs.searching.folder import RunFolder
from popgen.jobs.searching.tuning.training import CLIP, Training, finetune_recipe
from popgen.json_text import json_text, parse_json
from popgen.networks.forward import task_score
from popgen.progress import duration


@dataclass(frozen=True)
class FinetuneRun:
    """Settings for the fine-tuning of the networks of one search."""

    arch: str
    data: DataSet
    epochs: tuple[int, ...]  # the numbers of epochs to compare, in growing order, each above 0
    training: Training

    @classmethod
    def of(cls, one: ArchSearch, config: SearchConfig) -> FinetuneRun:
        """The fine-tuning that the settings of a search ask for; `epochs` is empty where they ask for none."""
        recipe = finetune_recipe(config, one.fitness.spec, one.trained_parts(config))
        epochs = tuple(sorted(set(config.finetune.epochs) - {0}))
        return cls(one.arch, one.data, epochs, Training.of(config, recipe))

    def key(self, scored: Scored, epochs: int) -> str:
        """A hash of the network, the images and the recipe."""
        return self.training.key(scored.spec, scored.flat, self.data.sha256, epochs)


def finetune(
    rows: list[Row], run: FinetuneRun, folder: RunFolder, card: dict[str, str], say: Callable[[str], None]
) -> tuple[list[Row], dict[str, Any]]:
    """Fine-tune the rows' networks; returns the rows with their scores after it, and the record for result.json.

    Rows that are means over several networks stay as they are. The weights of the row `search` after the largest number of epochs
    are written to the run's folder with `card` in their metadata.

    Raises:
        BrokenFile: the file of finished trainings cannot be read.
    """
    kept, most = _Kept(folder, run.arch), run.epochs[-1]
    wanted = {
        run.key(row.scored, epochs): (row, epochs) for row in rows if row.scored is not None for epochs in run.epochs
    }
    [winner] = [key for key, (row, epochs) in wanted.items() if row.name == "search" and epochs == most]
    todo = {key: one for key, one in wanted.items() if not kept.has(key, most if key == winner else None)}
    if todo:
        _announce(list(todo.values()), run, say)
    for key, (row, epochs) in todo.items():
        kept.add(key, _train(row, epochs, key, run, folder if key == winner else None, card, say))
    tuned = [
        row
        if row.scored is None
        else replace(row, finetuned=[kept.figures[run.key(row.scored, epochs)] for epochs in run.epochs])
        for row in rows
    ]
    recipe = run.training.recipe.model_dump(exclude={"epochs"}) | {"clip": CLIP}
    weights = str(folder.finetuned_weights(run.arch, most))
    return tuned, {"epochs": list(run.epochs), "recipe": recipe, "device": run.training.device, "weights": weights}


def _announce(todo: list[tuple[Row, int]], run: FinetuneRun, say: Callable[[str], None]) -> None:
    epochs, images = sum(epochs for _, epochs in todo), len(run.data.train)
    first = todo[0][0].scored
    assert first is not None
    about = duration(epochs * images * run.training.seconds(first.spec, first.flat, run.data.train))
    say(f"{run.arch}: fine-tuning, {len(todo)} trainings of together {epochs} epochs of {images} images, about {about}")


def _train(
    row: Row,
    epochs: int,
    key: str,
    run: FinetuneRun,
    folder: RunFolder | None,
    card: dict[str, str],
    say: Callable[[str], None],
) -> Finetuned:
    """Train one row's network. Its weights are written before its figures, so that figures are never without weights."""
    assert row.scored is not None
    spec = row.scored.spec
    flat = run.training.run(spec, row.scored.flat, run.data.train, epochs)
    scores = [task_score(spec, flat, run.data, split) for split in ("val", "test")]
    found = Finetuned(epochs, scores[0], scores[1], unit_of(row.scored))
    said = "" if flat.isfinite().all() else ", and its weights are not finite any more: try a lower --finetune-lr"
    say(f"{run.arch}: {row.name} after {epochs} epochs: val {found.unit} {found.val_score:.3f}{said}")
    if folder is not None:
        recipe = run.training.recipe.model_copy(update={"epochs": epochs}).model_dump_json()
        state = spec.to_state(flat)
        file = folder.finetuned_weights(run.arch, epochs)
        write_tensors(file, state, card | {"finetuned": recipe, "finetune_key": key})
        write_beside(file, spec, state, run.data.classes)
    return found


class _Kept:
    """The figures of finished trainings by their keys, in a file that is written after each of them."""

    def __init__(self, folder: RunFolder, arch: str) -> None:
        self._folder, self._arch = folder, arch
        self._file = folder.finetuned(arch)
        self.figures: dict[str, Finetuned] = {}
        if self._file.exists():
            try:
                content = parse_json(self._file.read_text())
                self.figures = {key: Finetuned.from_json(one) for key, one in content.items()}
            except (ValueError, TypeError, AttributeError, KeyError) as error:
                raise BrokenFile(
                    f"{self._file} cannot be read", brief(error), "Delete it; fine-tuning is then repeated."
                ) from error

    def has(self, key: str, weights_after: int | None) -> bool:
        """Whether a training is finished, and its weights file (after so many epochs) exists where one is wanted."""
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
        content = {key: one.to_json() for key, one in self.figures.items()}
        write_text(self._file, json_text(content, indent=1) + "\n")
