"""Fine-tunes the network of every row of a search's table with one recipe, so that the rows can be compared after training, too.

Every network sees the same images of the whole training split in the same order. Each number of epochs is a training of its own, because
the learning rate schedule depends on it; rows that hold the same network share the training. Gradients are clipped, because the first
steps would otherwise destroy a head that was refitted in closed form. No figure chooses anything. Finished trainings are kept in the run's
folder under a hash of all that they depend on, so that a resumed run does not repeat them.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from popgen.archs import ArchSpec, build
from popgen.archs.beside import write_beside
from popgen.archs.classifiers.inputs import SequenceInputs
from popgen.baselines.row import Finetuned, Row, unit_of
from popgen.configs.search import SearchConfig
from popgen.configs.spec import Recipe
from popgen.data import DataSet, Part
from popgen.errors import BrokenFile, brief
from popgen.files import write_tensors, write_text
from popgen.fitness import Scored
from popgen.jobs.searching.folder import RunFolder
from popgen.json_text import json_text, parse_json
from popgen.networks.forward import task_score
from popgen.networks.threads import threads
from popgen.networks.train import fit

_OF_NETWORKS = Recipe(optimizer="sgd", momentum=0.9, weight_decay=5e-4, lr=0.03, batch=50)
# With 64 labels of tweets' emotions ten epochs at .003 took LoRA from .642 to .71 on test texts, at .001 to .68.
_OF_ADAPTERS = Recipe(optimizer="adamw", weight_decay=0, lr=0.003, batch=16)
# With 64 labels of tweets' emotions six epochs took all of MiniLM, with a fitted head, from .475 to .62 on 200 test texts; SGD at
# .03, as for other networks, left it at .465.
_OF_TEXTS = Recipe(optimizer="adamw", weight_decay=0.01, lr=5e-5, batch=16)
_CLIP = 1.0  # the largest norm of a gradient
_TIMED = 3  # batches that are timed to estimate the time of all


@dataclass(frozen=True)
class FinetuneRun:
    """Settings for the fine-tuning of the networks of one search."""

    arch: str
    data: DataSet
    epochs: tuple[int, ...]  # the numbers of epochs to compare, in growing order, each above 0
    recipe: Recipe
    seed: int
    device: str

    @classmethod
    def of(
        cls,
        arch: str,
        data: DataSet,
        config: SearchConfig,
        spec: ArchSpec,
        parts: Sequence[str] = (),
    ) -> FinetuneRun:
        """The fine-tuning that the settings of a search ask for; `epochs` is empty where they ask for none.

        Args:
            spec: the architecture, whose kind has a recipe of its own.
            parts: names of the tensors that are trained; () stands for all.
        """
        recipe = finetune_recipe(config, spec, parts)
        epochs = tuple(sorted(set(config.finetune.epochs) - {0}))
        device = "cuda" if config.compute.gpus and torch.cuda.is_available() else "cpu"
        return cls(arch, data, epochs, recipe, config.seed, device)

    def key(self, scored: Scored, epochs: int) -> str:
        """A hash of the network, the images and the recipe."""
        recipe = self.recipe.model_dump(exclude=set() if self.recipe.parts else {"parts"})
        how = [scored.spec.config.to_json(), self.data.sha256, recipe, _CLIP, epochs, self.seed]
        return hashlib.sha256(scored.flat.cpu().numpy().tobytes() + json_text(how).encode()).hexdigest()

    def train(self, scored: Scored, epochs: int, batches: int | None = None) -> Tensor:
        """Weights (p,) after so many epochs on the training split, or on its first `batches` batches."""
        spec, part = scored.spec, self.data.train
        if batches is not None:
            part = part.take(torch.arange(min(len(part), batches * self.recipe.batch)))
        with threads(1):
            net = build(spec.config, seed=0)
            net.load_state_dict(spec.to_state(scored.flat.cpu()), strict=False)
            fit(
                net.to(self.device),
                spec.config,
                Part(part.inputs.to(self.device), part.targets.to(self.device)),
                self.recipe.model_copy(update={"epochs": epochs}),
                torch.Generator().manual_seed(self.seed),
                clip=_CLIP,
            )
        return spec.to_flat(net.cpu().state_dict())

    def seconds(self, scored: Scored) -> float:
        """An estimate of the seconds that an epoch takes."""
        self.train(scored, 1, batches=1)  # the first call fills caches
        began = time.perf_counter()
        self.train(scored, 1, batches=_TIMED)
        images = min(len(self.data.train), _TIMED * self.recipe.batch)
        return (time.perf_counter() - began) * len(self.data.train) / images


def finetune_recipe(config: SearchConfig, spec: ArchSpec, parts: Sequence[str] = ()) -> Recipe:
    """The recipe of that fine-tuning, whose epochs are set later."""
    recipe = _OF_TEXTS if spec.config.inputs.kind == SequenceInputs.kind else _OF_NETWORKS
    recipe = _OF_ADAPTERS if spec.is_adapter else recipe
    given = {"lr": config.finetune.lr, "batch": config.finetune.batch}
    own = {name: value for name, value in given.items() if value is not None}
    return recipe.model_copy(update={**own, "parts": list(parts)})


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
    recipe = run.recipe.model_dump(exclude={"epochs"}) | {"clip": _CLIP}
    weights = str(folder.finetuned_weights(run.arch, most))
    return tuned, {"epochs": list(run.epochs), "recipe": recipe, "device": run.device, "weights": weights}


def _announce(todo: list[tuple[Row, int]], run: FinetuneRun, say: Callable[[str], None]) -> None:
    epochs, images = sum(epochs for _, epochs in todo), len(run.data.train)
    assert todo[0][0].scored is not None
    seconds = epochs * run.seconds(todo[0][0].scored)
    about = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
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
    spec, flat = row.scored.spec, run.train(row.scored, epochs)
    scores = [task_score(spec, flat, run.data, split) for split in ("val", "test")]
    found = Finetuned(epochs, scores[0], scores[1], unit_of(row.scored))
    said = "" if flat.isfinite().all() else ", and its weights are not finite any more: try a lower --finetune-lr"
    say(f"{run.arch}: {row.name} after {epochs} epochs: val {found.unit} {found.val_score:.3f}{said}")
    if folder is not None:
        recipe = run.recipe.model_copy(update={"epochs": epochs}).model_dump_json()
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
