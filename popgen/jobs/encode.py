"""`popgen encode`: adds codes of further checkpoints to a generator, so that `popgen retrieve` can decode them."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from popgen.audit.compression import comparable
from popgen.data import DataSet, load_data
from popgen.errors import BadInput
from popgen.files import check_empty
from popgen.generator import Generator
from popgen.generator.fit_codes import CodeFit, fit_codes
from popgen.generator.records import Code
from popgen.hub.download import pinned
from popgen.hub.kinds import ZOO
from popgen.hub.names import is_hub_name
from popgen.networks.forward import task_score
from popgen.networks.threads import threads
from popgen.types import Flat
from popgen.zoo import Checkpoint, Zoo


@dataclass(frozen=True)
class Encoded:
    """The new codes of one architecture: their number, and mean validation scores of the originals and of the decoded networks."""

    arch: str
    codes: int
    original: float
    decoded: float

    def to_json(self) -> dict[str, Any]:
        """The keys of --json; they are stable."""
        return asdict(self)


def encode(
    zoo: str,
    out: str,
    *,
    generator: str = "digits",
    steps: int = CodeFit.steps,
    seed: int = 0,
    data_dir: str | None = None,
) -> list[Encoded]:
    """Write the generator with codes of all checkpoints of `zoo` that it lacks, held-out ones included, as the folder `out`.

    Args:
        steps: gradient steps that fit the codes, for which the checkpoints' training images are needed; 0: the
            encoder's codes.
        seed: seed of the draw of those images.
        data_dir: the folder of named data sets; None: POPGEN_DATA, else ./data.

    Raises:
        PopgenError: an unknown name, an `out` that is not empty, nothing to encode.
    """
    zoo = pinned(zoo, ZOO)
    made, found, folder = Generator.from_pretrained(generator), Zoo.open(zoo), Path(out)
    made.check_latents()
    if steps < 0:
        raise BadInput(f"--steps is {steps}", "it is 0 or more", "")
    check_empty(folder, "a generator")
    held = {code.id for code in made.records}
    todo = {a: [r for r in records if r.id not in held] for a, records in comparable(made, found, None).items()}
    if not any(todo.values()):
        raise BadInput(
            f"the generator holds codes of all checkpoints of the zoo {found.name!r} that it can decode",
            f"{len(held)} codes, known by their ids",
            "`popgen retrieve` gives them back.",
        )
    rows, before = [], len(made.records)
    with threads(1):
        for arch, records in todo.items():
            if records:
                data = [load_data(record.data, data_dir) for record in records]
                rows.append(_add(made, arch, records, data, found.matrix(records), CodeFit(steps, seed=seed)))
    entry = {"zoo": found.name, "zoo_sha256": found.sha256, "codes": len(made.records) - before}
    entry |= {"zoo_name": zoo} if is_hub_name(zoo) else {}
    made.provenance.metrics.setdefault("encoded", []).append(entry)
    made.save_pretrained(folder)
    return rows


def _add(
    made: Generator,
    arch: str,
    records: list[Checkpoint],
    data: list[DataSet],
    weights: Flat,
    fit: CodeFit,
) -> Encoded:
    """Add codes and records of checkpoints at the end of the generator's."""
    codes = made.encode(arch, weights)
    if fit.steps:
        codes = fit_codes(made, arch, weights, data, codes, fit)
    spec = made.spec(arch)

    def mean_accuracy(networks: Tensor) -> float:
        return statistics.fmean(task_score(spec, w, d) for w, d in zip(networks, data, strict=True))

    made.records += [Code.of(record, len(made.records) + i) for i, record in enumerate(records)]
    rest = made.residual(arch, weights, codes)
    made.codes, made.residual_codes = torch.cat([made.codes, codes]), torch.cat([made.residual_codes, rest])
    return Encoded(arch, len(records), mean_accuracy(weights), mean_accuracy(made.restore(arch, codes, rest)))
