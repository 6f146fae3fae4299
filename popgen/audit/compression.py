"""What a generator weighs beside its zoo, and what each smaller form of the zoo costs in accuracy.

Forms: the checkpoints as float32, as float16, as int8 (popgen/weights/quantise.py) under zstd, and as codes of the generator.
Every network of every form is evaluated. Points are hundredths of accuracy; a negative loss is a gain.
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
from popgen.data import Part, load_data
from popgen.errors import BadInput, unknown_name
from popgen.generator.generator import Generator
from popgen.networks.forward import task_score
from popgen.types import Flat
from popgen.weights.quantise import quantise
from popgen.zoo import Checkpoint, Zoo

SPLITS = ("train", "val", "test")
# Tensors that only encode, sample or read data sets: a stored code is decoded without them.
_NOT_FOR_RETRIEVAL = (
    *(f"vae.{name}" for name in ("queries", "read_token", "read_position", "encoder", "to_posterior")),
    *("data_encoder", "data_vectors", "prior"),
)


@dataclass(frozen=True)
class Lost:
    """Accuracy lost (0 to 1) over checkpoints: on average, and by the one that loses most."""

    mean: float
    worst: float


@dataclass(frozen=True)
class Form:
    """One way to keep the checkpoints: its size in bytes and what it loses, in all and by architecture."""

    name: str
    bytes: int
    loss: Lost
    archs: dict[str, Lost]


@dataclass(frozen=True)
class Compression:
    """Sizes and losses of all forms; `original` is the checkpoints' mean accuracy by architecture."""

    split: str
    checkpoints: int
    encoded: int  # of them were no codes of the generator and were encoded for this report
    original: dict[str, float]
    forms: list[Form]
    retrieval_bytes: int  # decoder, codes and their records alone

    def form(self, name: str) -> Form:
        """A form by its name: float32, float16, int8+zstd or generator."""
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
    generator: Generator,
    zoo: Zoo,
    split: str = "val",
    *,
    held_out: bool | None = False,
    refine: Callable[[str, Flat, list[Checkpoint]], Tensor] | None = None,
    data_dir: str | None = None,
) -> Compression:
    """Measure a generator against a zoo, which need not be the one that it was trained on.

    The generator's bytes include codes of all networks that are compared: those that it does not hold are added, two bytes
    a number, their records left out.

    Args:
        split: that networks are evaluated on. `test` is for benches and final tables.
        held_out: which checkpoints: False: those of training, True: the others, None: all.
        refine: (architecture, weights (n, p), records) to codes (n, k, d), for checkpoints that the generator does not
            hold; None: its encoder.
        data_dir: the folder of named data sets; None: POPGEN_DATA, else ./data.

    Raises:
        NotFound: no such split, or a data set of the zoo that does not exist.
        BadInput: no checkpoints of the generator's architectures in the zoo.
    """
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    held = {code.id: code.row for code in generator.records}
    more = [str(entry["zoo_sha256"]) for entry in generator.provenance.metrics.get("encoded", [])]  # by `popgen encode`
    same_zoo = zoo.sha256 in (generator.provenance.zoo_sha256, *more)
    sizes = {"float32": 0, "float16": 0, "int8+zstd": 0}
    lost: dict[str, dict[str, list[float]]] = {name: {} for name in (*sizes, "generator")}
    original, encoded = {}, 0
    for arch, records in comparable(generator, zoo, held_out).items():
        spec, weights = generator.spec(arch), zoo.matrix(records)
        new = [i for i, r in enumerate(records) if not (same_zoo and r.id in held)]
        rows = [0 if i in new else held[r.id] for i, r in enumerate(records)]
        latents, residual = generator.codes[rows], generator.residual_codes[rows]
        if new:
            chosen = [records[i] for i in new]
            latents[new] = (
                generator.encode(arch, weights[new]) if refine is None else refine(arch, weights[new], chosen)
            )
            residual[new] = generator.residual(arch, weights[new], latents[new])
        encoded += len(new)
        small = quantise(spec, weights)
        sizes["float32"] += 4 * weights.numel()
        sizes["float16"] += 2 * weights.numel()
        sizes["int8+zstd"] += small.compressed()
        parts = [getattr(load_data(record.data, data_dir), split) for record in records]
        before = _accuracies(spec, weights, parts)
        original[arch] = statistics.fmean(before)
        forms = {"float16": weights.half().float(), "int8+zstd": small.weights(), "generator": None}
        lost["float32"][arch] = [0.0] * len(records)
        for name, networks in forms.items():
            networks = generator.restore(arch, latents, residual) if networks is None else networks
            after = _accuracies(spec, networks, parts)
            lost[name][arch] = [a - b for a, b in zip(before, after, strict=True)]
    whole, part = generator_bytes(generator)
    extra = 2 * encoded * (generator.latent_mean[0].numel() + generator.residual_codes.shape[1])
    sizes["generator"] = whole + extra
    results = [_form(name, sizes[name], lost[name]) for name in lost]
    count = sum(len(values) for values in lost["float32"].values())
    return Compression(split, count, encoded, original, results, part + extra)


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


def compression_rows(report: Compression) -> tuple[list[str], list[list[str]]]:
    """Column titles and rows of the table of forms: size, how much smaller than float32, mean and worst loss in points."""
    full, rows = report.form("float32").bytes, []
    for form in report.forms:
        size, losses = [f"{form.bytes / 1e6:.2f}", f"{full / form.bytes:.1f}x"], [form.loss.mean, form.loss.worst]
        rows.append([form.name, *size, *map(_points, losses)])
    bare = report.retrieval_bytes
    rows.append(["decoder + codes", f"{bare / 1e6:.2f}", f"{full / bare:.1f}x", *rows[-1][3:]])
    return ["", "MB", "smaller", "points lost", "worst"], rows


def arch_rows(report: Compression) -> tuple[list[str], list[list[str]]]:
    """Column titles and rows of the table of architectures: accuracy, points lost by each form, the generator's worst."""
    lossy = [form for form in report.forms if form.name != "float32"]
    rows = []
    for arch, original in report.original.items():
        lost = [_points(form.archs[arch].mean) for form in lossy]
        rows.append([arch, f"{original:.4f}", *lost, _points(lossy[-1].archs[arch].worst)])
    return ["", "accuracy", *(form.name for form in lossy), "worst"], rows


def _points(loss: float) -> str:
    return f"{round(100 * loss, 2) + 0.0:.2f}"


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


def _accuracies(spec: ArchSpec, weights: Flat, parts: list[Part]) -> list[float]:
    return [task_score(spec, flat, part) for flat, part in zip(weights, parts, strict=True)]


def _form(name: str, size: int, lost: dict[str, list[float]]) -> Form:
    every = [value for values in lost.values() for value in values]
    archs = {arch: Lost(statistics.fmean(values), max(values)) for arch, values in lost.items()}
    return Form(name, size, Lost(statistics.fmean(every), max(every)), archs)
