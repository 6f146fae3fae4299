"""`popgen retrieve`: gives a checkpoint of the zoo back from the generator, without the zoo."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from popgen import __version__
from popgen.archs import trust_named
from popgen.archs.beside import write_beside
from popgen.data import load_data
from popgen.errors import BadInput, NotFound
from popgen.files import safe_name, write_tensors
from popgen.generator import Generator
from popgen.generator.names import no_checkpoint
from popgen.networks.forward import task_score
from popgen.tasks import keyed_scores, score_key


@dataclass(frozen=True)
class Retrieved:
    """A network decoded from a stored code; scores are in the unit of the task, the original's as the zoo recorded them."""

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
    seed: int | None = None,
    data_dir: str | None = None,
) -> Retrieved:
    """Decode the code of the best training checkpoint of `arch` on `data` (or of the one with `seed`).

    Raises:
        NotFound: the generator was not trained on such a checkpoint.
    """
    trust_named([arch])
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
    flat = made.restore(arch, latent[None], made.residual_codes[code.row][None])[0]
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
