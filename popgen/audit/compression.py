"""Measures the size of a generator beside its zoo, and the accuracy that each smaller form of the zoo costs.

The forms are the checkpoints as float32, as float16, as int8 (popgen/weights/quantise.py) under zstd, in each codec of archives
(popgen/zoo/archive), and as codes of the generator. Every network of every form is evaluated. Points are hundredths of accuracy, or percent of a
perplexity; a negative loss is a gain.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.data import DataSet, load_data
from popgen.errors import BadInput, unknown_name
from popgen.generator.generator import Generator
from popgen.networks.forward import fewer, task_score
from popgen.tasks import get_task, lost
from popgen.types import Flat
from popgen.weights.quantise import quantise
from popgen.zoo import Checkpoint, Zoo
from popgen.zoo.archive.codecs.table import CODECS
from popgen.zoo.archive.compare import each_codec

SPLITS = ("train", "val", "test")
_GENERATOR = "generator"
# Beginnings of the names of tensors that only encode, sample or read data sets. A stored code is decoded without them.
_NOT_FOR_RETRIEVAL = (
    *(f"vae.{name}" for name in ("queries", "read_token", "read_position", "encoder", "to_posterior")),
    *("data_encoder", "data_vectors", "prior"),
)

EncodeNew = Callable[[str, Flat, list[Checkpoint]], Tensor]  # architecture, weights (n, p), records -> codes (n, k, d)


@dataclass(frozen=True)
class Lost:
    """Accuracy (0 to 1) that checkpoints lose, or nats where the score is a perplexity: their mean loss, and the loss of the one that loses most."""

    mean: float
    worst: float


@dataclass(frozen=True)
class Form:
    """One way to keep the checkpoints: its size in bytes, and the accuracy it loses, in all and by architecture."""

    name: str
    bytes: int
    loss: Lost
    archs: dict[str, Lost]


@dataclass(frozen=True)
class Compression:
    """Sizes and losses of all forms; `original` is the checkpoints' mean accuracy by architecture."""

    split: str  # the split that networks are evaluated on
    checkpoints: int
    encoded: int  # checkpoints that had no code in the generator and were encoded for this comparison
    original: dict[str, float]
    forms: list[Form]
    retrieval_bytes: int | None  # bytes of the decoder, the codes and their records alone; None without a generator

    def form(self, name: str) -> Form:
        """A form by its name: float32, float16, int8+zstd, `archive CODEC` or generator."""
        return next(form for form in self.forms if form.name == name)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Compression:
        """The inverse of `to_json`."""
        forms = [
            Form(f["name"], f["bytes"], Lost(**f["loss"]), {arch: Lost(**loss) for arch, loss in f["archs"].items()})
            for f in content["forms"]
        ]
        return cls(**{**content, "forms": forms})

    def to_json(self) -> dict[str, Any]:
        """The keys of metrics["compression"] and of --json; they are stable."""
        return asdict(self)


def measure_compression(
    generator: Generator | None,
    zoo: Zoo,
    split: str = "val",
    *,
    held_out: bool | None = False,
    encode_new: EncodeNew | None = None,
    codecs: bool = False,
    data_dir: str | None = None,
    on_progress: Callable[[int, int], None] = lambda *_: None,
) -> Compression:
    """Measure a generator against a zoo, which need not be the one that it was trained on, or the zoo's other forms alone.

    The generator's bytes include codes of all networks that are compared. A code that it does not hold counts two bytes a number,
    without a record.

    Args:
        split: the split that networks are evaluated on; `test` is for benches and final tables.
        held_out: False compares the training checkpoints, True the held-out ones, None all of them.
        codecs: whether the codecs of archives are among the forms.
        encode_new: computes codes of checkpoints that the generator does not hold; None: its encoder does.
        data_dir: the folder of named data sets; None: POPGEN_DATA, else ./data.
        on_progress: called with the number of evaluated networks, and how many there will be at most.

    Raises:
        NotFound: no such split, or a data set of the zoo that does not exist.
        BadInput: no checkpoints of the generator's architectures in the zoo.
    """
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    chosen = _by_arch(zoo, held_out) if generator is None else comparable(generator, zoo, held_out)
    checkpoints = sum(map(len, chosen.values()))
    count = _Count(checkpoints * (3 + (generator is not None) + codecs * len(CODECS)), on_progress)
    measured = {arch: _originals(zoo, arch, records, split, data_dir, count) for arch, records in chosen.items()}
    for arch, records in chosen.items():
        for one in each_codec(zoo, records) if codecs else ():
            measured[arch].add(f"archive {one.codec}", one.bytes, one.weights)
        if generator is not None:
            _add_generator(measured[arch], generator, zoo, arch, records, encode_new)
    count.finish()
    encoded = sum(one.encoded for one in measured.values())
    whole, decoding = (0, None) if generator is None else _sizes(generator, encoded)
    return Compression(
        split=split,
        checkpoints=checkpoints,
        encoded=encoded,
        original={arch: one.accuracy for arch, one in measured.items()},
        forms=_forms(measured, whole),
        retrieval_bytes=decoding,
    )


class _Count:
    """Counts evaluated networks, and says so."""

    def __init__(self, total: int, on_progress: Callable[[int, int], None]) -> None:
        self._total, self._on_progress, self._done = total, on_progress, 0
        on_progress(0, total)

    def one_more(self) -> None:
        """Count a network."""
        self._done += 1
        self._on_progress(self._done, self._total)

    def finish(self) -> None:
        """Say that all are done: some architectures cannot be written in every codec."""
        if self._done < self._total:
            self._on_progress(self._total, self._total)


class _Measured:
    """The checkpoints of one architecture: bytes of each stored form, accuracy lost by each checkpoint in each form.

    Args:
        data: the data set of each checkpoint.
        weights: the checkpoints (n, p).
        count: counts the networks that are evaluated.
    """

    def __init__(self, spec: ArchSpec, data: list[DataSet], split: str, weights: Flat, count: _Count) -> None:
        self._spec, self._data, self._split, self._count = spec, data, split, count
        self._unit = get_task(spec.config.task).unit
        self._before = self._accuracies(weights)
        self.accuracy = statistics.fmean(self._before)
        self.encoded = 0
        self.bytes, self.lost = {"float32": 4 * weights.numel()}, {"float32": [0.0] * len(weights)}
        small = quantise(spec, weights)
        self.add("float16", 2 * weights.numel(), weights.half().float())
        self.add("int8+zstd", small.compressed_bytes(), small.weights())

    def add(self, name: str, size: int, decoded: Flat) -> None:
        """Evaluate all checkpoints in a form of `size` bytes, decoded (n, p)."""
        after = self._accuracies(decoded)
        self.bytes[name] = size
        self.lost[name] = [lost(self._unit, *pair) for pair in zip(self._before, after, strict=True)]

    def _accuracies(self, weights: Flat) -> list[float]:
        found = []
        for flat, data in zip(weights, self._data, strict=True):
            found.append(task_score(self._spec, flat, data, self._split))
            self._count.one_more()
        return found


def _originals(
    zoo: Zoo, arch: str, records: list[Checkpoint], split: str, data_dir: str | None, count: _Count
) -> _Measured:
    spec = zoo.spec(arch)
    data = [fewer(load_data(record.data, data_dir), spec, split) for record in records]
    return _Measured(spec, data, split, zoo.matrix(records), count)


def _add_generator(
    measured: _Measured,
    generator: Generator,
    zoo: Zoo,
    arch: str,
    records: list[Checkpoint],
    encode_new: EncodeNew | None,
) -> None:
    """Evaluate the checkpoints of an architecture as codes of the generator, whose own bytes are counted once for all."""
    weights = zoo.matrix(records)
    latents, residuals, measured.encoded = _codes(generator, zoo, arch, records, weights, encode_new)
    measured.add(_GENERATOR, 0, generator.restore(arch, latents, residuals))


def _forms(measured: dict[str, _Measured], generator: int) -> list[Form]:
    """All forms of all architectures, the generator of so many bytes last. What an architecture cannot be written in counts as float32."""
    names = dict.fromkeys(name for one in measured.values() for name in one.bytes)
    forms = []
    for name in sorted(names, key=lambda name: name == _GENERATOR):
        size = sum(one.bytes.get(name, one.bytes["float32"]) for one in measured.values())
        losses = {arch: one.lost.get(name, one.lost["float32"]) for arch, one in measured.items()}
        forms.append(_form(name, generator if name == _GENERATOR else size, losses))
    return forms


def _codes(
    generator: Generator, zoo: Zoo, arch: str, records: list[Checkpoint], weights: Flat, encode_new: EncodeNew | None
) -> tuple[Tensor, Tensor, int]:
    """Latents (n, k, d) and residual codes (n, r) of the checkpoints, and how many of them were encoded now."""
    held = {code.id: code.row for code in generator.records}
    added = [
        str(entry["zoo_sha256"]) for entry in generator.provenance.metrics.get("encoded", [])
    ]  # by `popgen encode`
    same_zoo = zoo.sha256 in (generator.provenance.zoo_sha256, *added)
    new = [i for i, record in enumerate(records) if not (same_zoo and record.id in held)]
    rows = [0 if i in new else held[record.id] for i, record in enumerate(records)]
    latents, residuals = generator.codes[rows], generator.residual_codes[rows]
    if new:
        chosen = weights[new]
        latents[new] = (
            generator.encode(arch, chosen)
            if encode_new is None
            else encode_new(arch, chosen, [records[i] for i in new])
        )
        residuals[new] = generator.residual(arch, chosen, latents[new])
    return latents, residuals, len(new)


def _sizes(generator: Generator, encoded: int) -> tuple[int, int]:
    """Bytes of the generator and of its decoder with codes, if so many codes are added."""
    whole, decoding = generator_bytes(generator)
    extra = 2 * encoded * (generator.latent_mean[0].numel() + generator.residual_codes.shape[1])
    return whole + extra, decoding + extra


def generator_bytes(generator: Generator) -> tuple[int, int]:
    """Bytes of the saved folder, and of what retrieval needs of it: decoder, codes, their records and the settings."""
    with tempfile.TemporaryDirectory() as folder:
        sizes = {file.name: file.stat().st_size for file in generator.save_pretrained(folder).iterdir()}
        with safe_open(Path(folder) / "model.safetensors", framework="pt") as file:
            tensors = {name: file.get_tensor(name).nbytes for name in file.keys()}  # noqa: SIM118 - it is no dict
    spared = sum(
        size
        for name, size in tensors.items()
        if name.startswith(_NOT_FOR_RETRIEVAL) or (name.startswith("remainders.") and ".read" in name)
    )
    whole = sum(sizes.values())
    return whole, whole - spared


def compression_rows(measured: Compression) -> tuple[list[str], list[list[str]]]:
    """Column titles and rows of the table of forms: size, how much smaller than float32, mean and worst loss in points."""
    full, rows = measured.form("float32").bytes, []
    for form in measured.forms:
        size, losses = [f"{form.bytes / 1e6:.2f}", f"{full / form.bytes:.1f}x"], [form.loss.mean, form.loss.worst]
        rows.append([form.name, *size, *map(_points, losses)])
    bare = measured.retrieval_bytes
    if bare is not None:
        rows.append(["decoder + codes", f"{bare / 1e6:.2f}", f"{full / bare:.1f}x", *rows[-1][3:]])
    return ["", "MB", "smaller", "points lost", "worst"], rows


def arch_rows(measured: Compression) -> tuple[list[str], list[list[str]]]:
    """Column titles and rows of the table of architectures: accuracy, points lost by each form, the last form's worst."""
    lossy = [form for form in measured.forms if form.name != "float32"]
    archs = list(measured.original)
    rows = [["accuracy", *(f"{measured.original[arch]:.4f}" for arch in archs)]]
    rows += [[form.name, *(_points(form.archs[arch].mean) for arch in archs)] for form in lossy]
    rows.append([f"{lossy[-1].name}, worst", *(_points(lossy[-1].archs[arch].worst) for arch in archs)])
    return ["", *archs], rows


def _points(loss: float) -> str:
    return f"{round(100 * loss, 2) + 0.0:.2f}"


def _by_arch(zoo: Zoo, held_out: bool | None) -> dict[str, list[Checkpoint]]:
    """All checkpoints of a zoo that are held out, that are not, or all of them, by architecture."""
    found = {arch: zoo.select(arch=arch, held_out=held_out) for arch in zoo.archs}
    if not any(found.values()):
        which = "held-out " if held_out else ""
        raise BadInput(f"the zoo {zoo.name!r} has no {which}checkpoints", "there is nothing to measure", "")
    return {arch: records for arch, records in found.items() if records}


def comparable(generator: Generator, zoo: Zoo, held_out: bool | None) -> dict[str, list[Checkpoint]]:
    """The zoo's checkpoints of architectures that the generator decodes, its own tensors under the same name."""
    found = {}
    for arch, spec in generator.specs.items():
        records = [r for r in zoo.select(arch=arch, held_out=held_out) if r.fingerprint == spec.fingerprint]
        if records:
            found[arch] = records
    if not found:
        raise BadInput(
            f"the zoo {zoo.name!r} has no such checkpoints of this generator's architectures",
            f"it holds {', '.join(zoo.archs) or 'nothing'}; the generator decodes {', '.join(generator.specs)}",
            "Name the zoo that the generator was trained on, or another of the same architectures.",
        )
    return found


def _form(name: str, size: int, lost: dict[str, list[float]]) -> Form:
    every = [value for values in lost.values() for value in values]
    archs = {arch: Lost(statistics.fmean(values), max(values)) for arch, values in lost.items()}
    return Form(name, size, Lost(statistics.fmean(every), max(every)), archs)
