"""`popgen retrieve`: gives a checkpoint back, from a generator without its zoo, or from a zoo or archive."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from popgen import __version__
from popgen.archs import ArchSpec, trust_named
from popgen.archs.beside import write_beside
from popgen.data import load_data
from popgen.errors import BadInput, NotFound, near_matches
from popgen.files import safe_name, write_tensors
from popgen.generator import Generator
from popgen.generator.names import no_checkpoint
from popgen.generator.records import Code
from popgen.networks.forward import task_score
from popgen.tasks import keyed_scores, score_key
from popgen.zoo import Zoo


@dataclass(frozen=True)
class Retrieved:
    """A network decoded from a stored code, or read from a zoo; scores are in the unit of the task, the original's as the zoo recorded them."""

    id: str
    arch: str
    data: str
    seed: int
    weights: str
    val_score: float
    test_score: float
    original_val_score: float | None  # None where the zoo recorded none
    original_test_score: float | None
    unit: str = "accuracy"

    def to_json(self) -> dict[str, Any]:
        """The keys of --json; they are stable."""
        plain = {"id": self.id, "arch": self.arch, "data": self.data, "seed": self.seed, "weights": self.weights}
        scores = keyed_scores(self.unit, val=self.val_score, test=self.test_score)
        return {
            **plain,
            **scores,
            f"original_{score_key(self.unit, 'val')}": self.original_val_score,
            f"original_{score_key(self.unit, 'test')}": self.original_test_score,
        }


def retrieve(
    arch: str,
    data: str,
    out: str | None = None,
    *,
    generator: str = "digits",
    zoo: str | None = None,
    seed: int | None = None,
    data_dir: str | None = None,
) -> Retrieved:
    """Give back the best training checkpoint of `arch` on `data` (or the one with `seed`), decoded from its code.

    Args:
        zoo: a zoo or archive that it is read from instead; there it may be held out, too.

    Raises:
        NotFound: the generator was not trained on such a checkpoint, or the zoo has none.
        BadInput: `out` is a folder.
    """
    trust_named([arch])
    find = _stored_code if zoo is None else _checkpoint
    spec, flat, code = find(arch, data, seed, generator if zoo is None else zoo)
    data_set = load_data(data, data_dir)
    file = Path(out or safe_name(f"{arch}-{data}.safetensors"))
    if file.is_dir():
        raise BadInput(
            f"{file} is a folder", "--out names the file to write", f"For example --out {file / 'expert.safetensors'}."
        )
    card = {"format": "pt", "popgen": __version__, "arch": arch, "data": data, "code": code.id}
    write_tensors(file, spec.to_state(flat), card)
    write_beside(file, spec.for_classes(data_set.label_phrases), spec.to_state(flat), data_set.classes)
    scores = task_score(spec, flat, data_set), task_score(spec, flat, data_set, "test")
    return Retrieved(code.id, arch, data, code.seed, str(file), *scores, code.val_score, code.test_score, code.unit)


def _stored_code(arch: str, data: str, seed: int | None, generator: str) -> tuple[ArchSpec, Tensor, Code]:
    """The architecture, the decoded weights (p,) and the record of a checkpoint whose code a generator holds."""
    made = Generator.from_pretrained(generator)
    spec = made.spec(arch)
    found = [(code, latent) for code, latent in made.stored(arch, data) if seed is None or code.seed == seed]
    if not found and made.stored(arch, data):
        seeds = ", ".join(str(code.seed) for code, _ in made.stored(arch, data))
        raise NotFound(
            f"the generator holds no {arch} checkpoint for {data!r} with seed {seed}", f"it holds the seeds {seeds}", ""
        )
    if not found:
        raise no_checkpoint(arch, data, {code.data for code in made.records if code.arch == arch})
    code, latent = found[0]
    return spec, made.restore(arch, latent[None], made.residual_codes[code.row][None])[0], code


def _checkpoint(arch: str, data: str, seed: int | None, zoo: str) -> tuple[ArchSpec, Tensor, Code]:
    """The architecture, the weights (p,) and the record of a checkpoint in a zoo or archive."""
    opened = Zoo.open(zoo)
    spec, every = opened.spec(arch), opened.select(arch=arch, data=data)
    records = [record for record in every if seed is None or record.seed == seed]
    if not records:
        names = sorted({record.data for record in opened.select(arch=arch)})
        known = f"it has the seeds {', '.join(str(r.seed) for r in every)}" if every else near_matches(data, names)
        which = f"for {data!r}" + (f" with seed {seed}" if every else "")
        raise NotFound(f"the zoo {zoo} has no {arch} checkpoint {which}", known, f"popgen zoo list {zoo} shows all.")
    best = max(records, key=lambda record: record.goodness("val"))
    return spec, opened.matrix([best])[0], Code.of(best, 0)
