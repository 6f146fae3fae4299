"""`popgen generate`: a population of networks for an architecture and a data set, without a search."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from popgen import __version__
from popgen.archs import trust_named
from popgen.baselines.starts import repaired
from popgen.baselines.unseen import Untrained, untrained
from popgen.data import DataSet, load_data
from popgen.errors import BadInput
from popgen.files import check_empty, safe_name, write_tensors
from popgen.generator import Generator
from popgen.generator.model.conditions import Description
from popgen.generator.strength import Strength
from popgen.generator.unseen import Target, find_target
from popgen.jobs.searching.origin import open_zoo
from popgen.networks.forward import accuracy
from popgen.networks.threads import threads
from popgen.types import Flat
from popgen.weights.mask import Parts, check_parts, read_parts


@dataclass(frozen=True)
class Generated:
    """One network that was written, with its accuracy (0 to 1) on the validation split where its head fits."""

    arch: str
    data: str
    index: int
    weights: str
    val_accuracy: float | None
    untrained: Untrained | None = None  # where the generator was not trained on the architecture

    def to_json(self) -> dict[str, Any]:
        """The keys of --json; they are stable."""
        return asdict(self) | {"untrained": None if self.untrained is None else self.untrained.to_json()}


def generate(
    archs: list[str],
    data: str | None,
    out: str,
    n: int = 16,
    *,
    describe: str | None = None,
    generator: str = "digits",
    seed: int = 0,
    prior: str | None = None,
    sampler: str | None = None,
    guidance: float | None = None,
    strength: float | None = None,
    steps: int | None = None,
    parts: Sequence[str] = (),
    base: str | None = None,
    address: str | None = None,
    data_dir: str | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> list[Generated]:
    """Sample `n` networks for each architecture and write them as `out/ARCH/00.safetensors`, ...

    They are conditioned on training images of `data`, or on the words of `describe`; `data` is then only what they are
    scored on, if it is given. An architecture that the generator was not trained on (`cnn-s/channels:12-24`) is made from
    the nearest trained one, and `say` is told what that is worth.

    Args:
        prior, sampler, guidance, strength, steps: of Generator.sample.
        parts: `head` or globs of tensors' names: only these are generated; the others are those of the safetensors file `base`.
        address: of a Ray cluster: each architecture is sampled on one of its CPUs. The files are the same and are written
            here; the nodes need popgen, but neither the generator nor the data set.

        data_dir: the folder of named data sets; None: POPGEN_DATA, else ./data.

    Raises:
        PopgenError: an unknown name, or an `out` that is not empty.
        SearchError: no cluster at `address`.
    """
    trust_named(archs)
    made = Generator.from_pretrained(generator)
    targets = {arch: find_target(made, arch) for arch in archs}
    if len(set(archs)) < len(archs):
        raise BadInput(f"--arch names one architecture twice: {', '.join(archs)}", "", "Name each once.")
    if data is None and describe is None:
        raise BadInput("there is nothing to generate for", "neither a data set nor a description is given", "Give one.")
    made.prior_name(prior)
    for name, value, least in (
        ("steps", steps, 1),
        ("guidance", guidance, 0),
        ("strength", strength, 0),
        ("seed", seed, 0),
    ):
        if value is not None and not value >= least:
            raise BadInput(f"--{name} is {value}", f"it is {least} or more", "")
    check_parts(archs, parts, base)
    kept = None if base is None else read_parts(targets[archs[0]].spec, parts, base)
    if n < 1:
        raise BadInput(f"-n is {n}", "at least one network is generated", "Give a number such as 16.")
    folder = Path(out)
    check_empty(folder, "a population")
    data_set = None if data is None else load_data(data, data_dir)
    if data_set is not None:
        made.check_data(data_set)
    made.load_encoders()
    condition = data_set if describe is None else Description(describe)
    assert condition is not None
    options = {
        "seed": seed,
        "prior": prior,
        "sampler": sampler,
        "guidance": guidance,
        "strength": strength,
        "steps": steps,
    }
    sampling = _Sampler(made, condition, data_set, n, options, kept)
    rows = []
    for arch, sampled in zip(archs, _sample_all(sampling, archs, address), strict=True):
        place, spec, evidence = folder / safe_name(arch), targets[arch].spec, None
        if sampled.remark:
            say(sampled.remark)
        if not targets[arch].is_trained:
            evidence = (
                _evidence(made, targets[arch], data_set, sampled.networks, seed)
                if sampled.val_accuracies[0] is not None
                else None
            )
            say(evidence.text() if evidence else _unscored(targets[arch]))
        for i, flat in enumerate(sampled.networks):
            file = place / f"{i:02d}.safetensors"
            card = {"format": "pt", "popgen": __version__, "arch": arch, "data": data or "", "describe": describe or ""}
            write_tensors(file, spec.to_state(flat), card)
            rows.append(Generated(arch, data or "", i, str(file), sampled.val_accuracies[i], evidence))
        write_tensors(place / "latents.safetensors", {"latents": sampled.latents})
    return rows


def _evidence(made: Generator, target: Target, data: DataSet | None, networks: Flat, seed: int) -> Untrained:
    assert data is not None
    return untrained(target, networks, open_zoo(None, made), data, made.closest(target.source, data), seed)


def _unscored(target: Target) -> str:
    changes = "" if target.transplant is None else target.transplant.changes.text()
    return (
        f"untrained architecture: the generator was not trained on {target.spec.name}; networks of {target.source} were generated "
        f"and {changes}.\nThey were not compared with other starts: give --data with the zoo's classes for that."
    )


@dataclass(frozen=True)
class _Sampled:
    """A population of one architecture: latents (n, k, d), flat weights (n, parameters), accuracies (n)."""

    latents: Tensor
    networks: Tensor
    val_accuracies: list[float | None]
    remark: str = ""


@dataclass(frozen=True)
class _Sampler:
    """Samples an architecture, in this process or in another."""

    generator: Generator
    condition: DataSet | Description
    data: DataSet | None  # to score on
    n: int
    options: dict[str, Any]  # of Generator.sample
    parts: Parts | None = None

    def __call__(self, arch: str) -> _Sampled:
        with threads(1):
            target = find_target(self.generator, arch)
            strength = self._strength(target.source)
            options = {**self.options, "strength": strength.value}
            latents, spec = self.generator.sample(target.source, self.condition, self.n, **options), target.spec
            networks = target.decoder(self.generator).weights_of_many(latents.flatten(1))
            if not target.is_trained and isinstance(self.condition, DataSet):
                networks = repaired(spec, networks, self.condition)
            networks = networks if self.parts is None else self.parts.compose(networks)
            fits = self.data is not None and list(self.data.classes) == self.generator.provenance.classes
            part = self.data.val if self.data is not None and fits else None
            accuracies = [None if part is None else accuracy(spec, flat, part) for flat in networks]
        said = f"{arch}: {strength.text()}" if strength.information else ""
        return _Sampled(torch.as_tensor(latents).contiguous(), torch.as_tensor(networks), accuracies, said)

    def _strength(self, arch: str) -> Strength:
        given = self.options["strength"]
        return (
            self.generator.strength_for(arch, self.condition, self.options["prior"])
            if given is None
            else Strength(given, {})
        )


def _sample_all(sampler: _Sampler, archs: list[str], address: str | None) -> Iterable[_Sampled]:
    if address is None:
        return map(sampler, archs)
    from search.pools.ray_map import ray_map  # noqa: PLC0415 - Ray is imported only where it is used

    return ray_map(sampler, archs, address)
