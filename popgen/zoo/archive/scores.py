"""Scores of coded networks on validation images, kept in a file by the hash of the weights, so that an interrupted archive goes on."""

from __future__ import annotations

import math
import time
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.data import Part, load_data
from popgen.errors import BadInput, BrokenFile
from popgen.files import append_text, write_text
from popgen.json_text import json_text, parse_json
from popgen.networks.passes import Passes
from popgen.tasks import get_task, lost
from popgen.zoo.record import Checkpoint, weights_sha256
from popgen.zoo.store import Zoo

_KEPT = 32  # data sets whose prepared images are kept
_WRITE_SECONDS = 2.0  # what an interrupted archive loses at most
_BATCH, _ROUNDING = 50, 1e-6  # images of a batch; images by which sums of floats may be off
_COSTLY = 200  # images where an architecture's inputs are costly, unless the user says otherwise


class Scores:
    """Scores networks of a zoo on the validation images of their own data sets.

    Args:
        images: images at most for each network; None takes all, or 200 where an architecture's inputs are costly.
        data_dir: the folder of named data sets; None: POPGEN_DATA, else ./data.
        file: where scores are kept; None keeps them in memory alone.
    """

    def __init__(
        self, zoo: Zoo, images: int | None = None, data_dir: str | None = None, file: Path | None = None
    ) -> None:
        self._zoo, self._images, self._data_dir, self._file = zoo, images, data_dir, file
        self._known = {} if file is None else _read(file)
        self._waiting: list[str] = []
        self._last: tuple[str, Tensor] | None = (
            None  # the checkpoint that was scored last, and which images it answers right
        )
        self._written = time.monotonic()
        self._inputs = lru_cache(maxsize=_KEPT)(self._prepare)

    def check_data(self, names: list[str]) -> None:
        """Load every data set once, so that a missing one is an error before long work.

        Raises:
            NotFound: a data set does not exist.
            BadInput: one has no validation images.
        """
        for name in names:
            if not len(load_data(name, self._data_dir).val):
                raise BadInput(
                    f"data set {name!r} has no validation images",
                    "what a coded network loses is measured on them",
                    "Use --lossless.",
                )

    def score(self, record: Checkpoint, flat: Tensor) -> float:
        """The score of weights (p,) in the place of a checkpoint's, in the unit of its task."""
        key = self._key(record, flat)
        if key not in self._known:
            spec, passes, targets = self._inputs(record.arch, record.data)
            self._keep(key, get_task(spec.config.task).score(passes.outputs(flat), targets))
        return self._known[key]

    def write(self) -> None:
        """Write the scores that are not in the file yet."""
        if self._file is not None and self._waiting:
            append_text(self._file, "".join(self._waiting))
        self._waiting, self._written = [], time.monotonic()

    def within(self, record: Checkpoint, before: Tensor, after: Tensor, most: float) -> float | None:
        """The points that are lost, as `lost`, or None if the weights `after` (p,) do more harm than `most` points.

        The harm to a classifier is the share of images that were right and became wrong. It is never less than what is lost, and does not
        let images that became right by chance pay for it: the smallest of many forms would otherwise be one that was lucky on these images.
        Images are looked at in batches, until it is certain that there is too much harm.
        """
        if get_task(record.arch_config.task).unit == "accuracy" and self._harm(record, before, after, most) > most:
            return None
        loss = self.lost(record, before, after)
        return loss if loss <= most else None

    def _harm(self, record: Checkpoint, before: Tensor, after: Tensor, most: float) -> float:
        """Points of images that were right and became wrong; once it is more than `most`, any number that is."""
        key = f"{self._key(record, after)} harm"
        if key in self._known:
            return self._known[key]
        _, passes, targets = self._inputs(record.arch, record.data)
        right = self._right(record, before)
        allowed, harmed, correct = len(targets) * most / 100 + _ROUNDING, 0, 0
        for first in range(0, len(targets), _BATCH):
            labels = targets[first : first + _BATCH]
            now = passes.outputs(after, first, first + len(labels)).argmax(1) == labels
            harmed += int((right[first : first + len(labels)] & ~now).sum())
            correct += int(now.sum())
            if harmed > allowed:
                return math.inf
        self._keep(self._key(record, after), correct / len(targets))
        self._keep(key, 100 * harmed / len(targets))
        return self._known[key]

    def _right(self, record: Checkpoint, before: Tensor) -> Tensor:
        """Which validation images (n,) the checkpoint answers right."""
        if self._last is None or self._last[0] != record.id:
            _, passes, targets = self._inputs(record.arch, record.data)
            self._last = record.id, passes.outputs(before).argmax(1) == targets
        return self._last[1]

    def lost(self, record: Checkpoint, before: Tensor, after: Tensor) -> float:
        """Points that the weights `after` (p,) lose against `before`: hundredths of accuracy, or percent of a perplexity."""
        unit = get_task(record.arch_config.task).unit
        return 100 * lost(unit, self.score(record, before), self.score(record, after))

    def _keep(self, key: str, score: float) -> None:
        self._known[key] = score
        self._waiting.append(json_text([key, score]) + "\n")
        if time.monotonic() - self._written > _WRITE_SECONDS:
            self.write()

    def _key(self, record: Checkpoint, flat: Tensor) -> str:
        return f"{weights_sha256(flat)} {record.data} {self._images} {self._data_dir}"

    def _prepare(self, arch: str, name: str) -> tuple[ArchSpec, Passes, Tensor]:
        data = load_data(name, self._data_dir)
        spec = self._zoo.spec(arch).for_classes(data.label_phrases)
        most = self._images or (_COSTLY if spec.config.inputs.costly else len(data.val))
        part = _some(data.val, most)
        return spec, Passes(spec, spec.config.inputs.prepare(part.inputs)), part.targets


def _some(part: Part, most: int) -> Part:
    """At most so many random examples, always the same ones."""
    if len(part) <= most:
        return part
    return part.take(torch.randperm(len(part), generator=torch.Generator().manual_seed(0))[:most])


def _read(file: Path) -> dict[str, float]:
    """The scores in a file, which is made if there is none; an incomplete last line is removed.

    Raises:
        BrokenFile: a complete line is no score.
    """
    if not file.exists():
        write_text(file, "")
        return {}
    text = file.read_text(encoding="utf-8")
    complete = text[: text.rfind("\n") + 1]
    if complete != text:
        write_text(file, complete)
    try:
        return {str(key): float(score) for key, score in map(parse_json, complete.splitlines())}
    except (TypeError, ValueError) as error:
        raise BrokenFile(
            f"{file} cannot be read", str(error), "Remove it; the scores are then measured again."
        ) from error
