"""`popgen generate`: samples networks for an architecture and a data set, without a search."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from popgen import __version__
from popgen.adaptation.entropy import EntropySteps, minimise_entropy
from popgen.archs import ArchSpec, trust_named
from popgen.archs.beside import write_beside
from popgen.baselines.starts import repaired
from popgen.baselines.unseen import Untrained, untrained
from popgen.cards.make import keep_card
from popgen.configs.generate import GenerateConfig
from popgen.configs.sampling import Sampling
from popgen.data import DataSet, load_data
from popgen.data.names import trust_sources
from popgen.errors import BadInput
from popgen.files import check_empty, safe_name, write_tensors, write_text
from popgen.fitness.batch_norm import BatchNorm, Chosen, checked, choose_batch_norm, treated
from popgen.fitness.finish import with_phrase_head
from popgen.generator import Generator
from popgen.generator.family.look import look
from popgen.generator.family.verdict import Family
from popgen.generator.model.conditions import Description
from popgen.generator.unseen import Target, find_target
from popgen.hub.kinds import GENERATED
from popgen.jobs.parents import made_from, with_commits
from popgen.jobs.searching.origin import open_zoo
from popgen.json_text import json_text
from popgen.networks.forward import task_score
from popgen.networks.threads import threads
from popgen.tasks import CLASSIFICATION, get_task, keyed_scores
from popgen.types import Flat
from popgen.weights.mask import Mask, check_mask, read_mask


@dataclass(frozen=True)
class Generated:
    """A network that was written; its validation score is None where its classes are not those of the data set."""

    arch: str
    data: str
    index: int
    weights: str
    val_score: float | None
    untrained: Untrained | None = None  # the comparison for an architecture that the generator was not trained on
    unit: str = "accuracy"
    batch_norm: BatchNorm = "keep"  # none where the architecture has no batch norm; `finish`, where that was asked for
    chosen: Chosen | None = None  # the measurements by which the treatment of batch norm was chosen
    family: Family | None = None  # the data set's place beside the generator's training data sets

    def to_json(self) -> dict[str, Any]:
        """The keys of --json; they are stable."""
        plain = {"arch": self.arch, "data": self.data, "index": self.index, "weights": self.weights}
        untrained = None if self.untrained is None else self.untrained.to_json()
        content = {**plain, **keyed_scores(self.unit, val=self.val_score), "untrained": untrained}
        chosen = {} if self.chosen is None else {"batch_norm_choice": self.chosen.to_json()}
        family = {} if self.family is None else {"family": self.family.to_json()}
        return {**content, "batch_norm": self.batch_norm, **chosen, **family}


def generate(config: GenerateConfig, out: str, say: Callable[[str], None] = lambda _: None) -> list[Generated]:
    """Sample networks for each architecture and write them as `out/ARCH/00.safetensors`, ..., with result.json and a card.

    An architecture that the generator was not trained on (`cnn-s/channels:12-24`) is made from the nearest trained one, and
    `say` is called with a warning. With an address, nodes of a Ray cluster do the work, and the same files are written here;
    the nodes need popgen, but neither the generator nor the data set.

    Raises:
        PopgenError: an unknown name, settings that do not go together, or an `out` that is not empty.
        SearchError: no cluster at the address.
    """
    config = with_commits(config, say)
    sampler, targets = _checked(config, Path(out))
    for text in () if sampler.data is None else sampler.data.remarks:
        say(f"{config.data}: {text}")
    made = []
    for arch, sampled in zip(config.archs, _sample_all(sampler, config), strict=True):
        for remark in sampled.remarks:
            say(remark)
        evidence = None if targets[arch].is_trained else _evidence(sampler, targets[arch], sampled, config.seed)
        if not targets[arch].is_trained:
            say(_unscored(targets[arch]) if evidence is None else evidence.text())
        folder = Path(out) / safe_name(arch)
        family = _family(sampler, targets[arch], sampled, say)
        written = _write(config, targets[arch].spec, sampled, folder, evidence)
        made += [replace(network, family=family) for network in written]
        _write_folders(targets[arch].spec, sampled, folder, sampler)
    content = {
        "popgen": __version__,
        "settings": config.model_dump(mode="json"),
        "made_from": made_from(sampler.generator, None, config.generator),
        "networks": [network.to_json() for network in made],
    }
    write_text(Path(out) / "result.json", json_text(content, indent=1) + "\n")
    keep_card(Path(out), GENERATED)
    return made


def _checked(config: GenerateConfig, folder: Path) -> tuple[_Sampler, dict[str, Target]]:
    """Refuse settings that do not fit, and load what sampling needs."""
    trust_named(config.archs)
    trust_sources([config.data] if config.data else [])
    generator = Generator.from_pretrained(config.generator)
    targets = {arch: find_target(generator, arch) for arch in config.archs}
    if len(set(config.archs)) < len(config.archs):
        raise BadInput(f"--arch names one architecture twice: {', '.join(config.archs)}", "", "Name each once.")
    if config.data is None and config.describe is None:
        raise BadInput("there is nothing to generate for", "neither a data set nor a description is given", "Give one.")
    generator.prior_name(config.sampling.prior)
    _check_finish(config, targets)
    check_mask(config.archs, config.parts, config.base)
    mask = None if config.base is None else read_mask(targets[config.archs[0]].spec, config.parts, config.base)
    if config.data is None and checked(config.batch_norm) != "keep":
        raise BadInput(
            f"--batch-norm {config.batch_norm} is given without --data",
            "statistics are measured on images, and a description has none",
            "Add --data, or leave --batch-norm out.",
        )
    for arch, target in targets.items():
        if config.batch_norm == "auto" and target.spec.config.task != CLASSIFICATION:
            raise BadInput(
                f"--batch-norm auto is for classification, {arch!r} does {target.spec.config.task}",
                "it compares the predictions of classes",
                "Give keep, reestimate or a share.",
            )
    check_empty(folder, "a population")
    data = None if config.data is None else load_data(config.data, config.data_dir)
    if data is not None:
        generator.check_data(data)
    generator.load_encoders(described=config.describe is not None)
    phrases = _phrases(config, data, targets)
    condition = data if config.describe is None else Description(config.describe, phrases)
    assert condition is not None
    targets = (
        {arch: replace(one, spec=one.spec.for_classes(phrases)) for arch, one in targets.items()}
        if phrases
        else targets
    )
    return _Sampler(generator, condition, data, config, mask), targets


def _phrases(config: GenerateConfig, data: DataSet | None, targets: dict[str, Target]) -> tuple[str, ...]:
    """A phrase for each class of a task of texts: as given, else the data set's; () where architectures have heads of their own."""
    adapters = [arch for arch, target in targets.items() if target.spec.is_adapter]
    given = tuple(config.phrases)
    if given and (len(given) < 2 or len(set(given)) < len(given)):
        raise BadInput(f"--phrase is given {len(given)} times", "there are two classes or more, each with its own", "")
    if given and not adapters:
        raise BadInput(
            "--phrase is for adapters of language encoders", f"{', '.join(targets)} is none", "Leave it out."
        )
    if given and data is not None and len(given) != len(data.classes):
        raise BadInput(f"--phrase is given {len(given)} times", f"{data.name!r} has {len(data.classes)} classes", "")
    if not adapters:
        return ()
    return given or (() if data is None else data.label_phrases)


def _check_finish(config: GenerateConfig, targets: dict[str, Target]) -> None:
    """Refuse entropy minimisation of what has no predictions of classes, no images, or tensors that are kept."""
    if config.finish is None:
        return
    EntropySteps.parse(config.finish)
    without = [arch for arch, target in targets.items() if not target.spec.has_batch_norm]
    other = [arch for arch, target in targets.items() if target.spec.config.task != CLASSIFICATION]
    reasons = {
        "it minimises the entropy of predictions for images, and --data gives none": config.data is None,
        f"it trains batch norm, and there is none in {', '.join(without)}": bool(without),
        f"it is for classification, which is not what {', '.join(other)} does": bool(other),
        "--parts keeps the tensors of --base": config.base is not None,
    }
    for reason, holds in reasons.items():
        if holds:
            raise BadInput(f"--finish {config.finish} cannot be done", reason, "Leave --finish out.")


def _write(
    config: GenerateConfig, spec: ArchSpec, sampled: _Sampled, folder: Path, evidence: Untrained | None
) -> list[Generated]:
    """Write the networks of one architecture, and their latents beside them."""
    made, data = [], config.data or ""
    unit = get_task(spec.config.task).unit
    card = {"format": "pt", "popgen": __version__, "data": data, "describe": config.describe or ""}
    card["arch"] = sampled.arch
    for i, (network, score) in enumerate(zip(sampled.networks, sampled.val_scores, strict=True)):
        batch_norm, (finished, flat) = sampled.batch_norms[i], with_phrase_head(spec, network)
        state, own = finished.to_state(flat), {**card, "batch_norm": str(batch_norm)}
        own |= {"arch_config": json_text(finished.config.to_json())} if spec.is_adapter else {}
        file = write_tensors(folder / f"{i:02d}.safetensors", state, own)
        made.append(Generated(sampled.arch, data, i, str(file), score, evidence, unit, batch_norm, sampled.chosen))
    write_tensors(folder / "latents.safetensors", {"latents": sampled.latents})
    return made


def _write_folders(spec: ArchSpec, sampled: _Sampled, folder: Path, sampler: _Sampler) -> None:
    """Write networks for the library that they are from as well: adapters with the head of the data set's label phrases."""
    data, classes = sampler.data, tuple(sampler.generator.provenance.classes)
    if spec.is_adapter:
        phrases, classes = ((), ()) if data is None else (data.label_phrases, data.classes)
        spec = spec.for_classes(tuple(phrases))
    for i, flat in enumerate(sampled.networks):
        write_beside(folder / f"{i:02d}.safetensors", spec, spec.to_state(flat), classes)


def _family(sampler: _Sampler, target: Target, sampled: _Sampled, say: Callable[[str], None]) -> Family | None:
    """Say where the data set is outside the generator's family; None where there is only a description."""
    if sampler.data is None:
        return None
    family = look(sampler.generator, target.source, sampler.data, target.spec, sampled.networks[0])
    if family is not None and family.before_text():
        say(f"{sampled.arch}: {family.before_text()}")
    return family


def _evidence(sampler: _Sampler, target: Target, sampled: _Sampled, seed: int) -> Untrained | None:
    """Compare networks of an untrained architecture with other starts; None where they could not be scored."""
    if sampler.data is None or sampled.val_scores[0] is None:
        return None
    generator, data = sampler.generator, sampler.data
    closest = generator.closest(target.source, data)
    return untrained(target, sampled.networks, open_zoo(None, generator), data, closest, seed)


def _unscored(target: Target) -> str:
    changes = "" if target.transplant is None else target.transplant.changes.text()
    return (
        f"untrained architecture: the generator was not trained on {target.spec.name}; networks of {target.source} were generated "
        f"and {changes}.\nThey were not compared with other starts: give --data with the zoo's classes for that."
    )


@dataclass(frozen=True)
class _Sampled:
    """A population of one architecture: latents (n, k, d), flat weights (n, p), scores (n)."""

    arch: str
    latents: Tensor
    networks: Tensor
    val_scores: list[float | None]
    batch_norms: list[BatchNorm]
    chosen: Chosen | None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Sampler:
    """Samples an architecture, in this process or in another."""

    generator: Generator
    condition: DataSet | Description
    data: DataSet | None  # the data set that networks are scored on
    config: GenerateConfig
    mask: Mask | None = None

    def __call__(self, arch: str) -> _Sampled:
        with threads(1):
            target, n, seed = find_target(self.generator, arch), self.config.n, self.config.seed
            strength = self.generator.strength_for(target.source, self.condition, self.config.sampling)
            sampling = Sampling(strength=strength.value).over(self.config.sampling)
            latents = self.generator.sample(target.source, self.condition, n, seed=seed, sampling=sampling)
            networks = target.decoder(self.generator).weights_of_many(latents.flatten(1))
            networks, batch_norms, chosen = self._finished(target, networks)
            if self.config.finish is not None:
                networks = self._with_entropy(target.spec, networks, EntropySteps.parse(self.config.finish))
                batch_norms, chosen = [self.config.finish] * n, None
            scores = self._scores(target.spec, networks)
        texts = (strength.text() if strength.information else "", "" if chosen is None else chosen.text())
        remarks = tuple(f"{arch}: {text}" for text in texts if text)
        latents, networks = torch.as_tensor(latents).contiguous(), torch.as_tensor(networks)
        return _Sampled(arch, latents, networks, scores, batch_norms, chosen, remarks)

    def _finished(self, target: Target, networks: Flat) -> tuple[Flat, list[BatchNorm], Chosen | None]:
        """The networks (n, p) with a base's parts and batch norm treated, the treatments, and the measurements that chose.

        `auto` chooses by the first network, so that the choice does not depend on how many are generated. It keeps a base's
        statistics, as a search does. Networks of an untrained architecture are repaired where statistics are kept.
        """
        spec, n, generated = target.spec, len(networks), networks
        treatment, chosen = checked(self.config.batch_norm), None
        if treatment == "keep" and not target.is_trained and isinstance(self.condition, DataSet):
            networks = repaired(spec, networks, self.condition)
        is_kept = [new.equal(old) for new, old in zip(networks, generated, strict=True)]
        networks = networks if self.mask is None else self.mask.compose(networks)
        if not spec.has_batch_norm:
            return networks, ["none"] * n, None
        if self.data is None or treatment == "keep" or (treatment == "auto" and self.mask is not None):
            return networks, ["keep" if kept else "reestimate" for kept in is_kept], None
        train, val = (spec.config.inputs.prepare(part.inputs) for part in (self.data.train, self.data.val))
        if treatment == "auto":
            chosen = choose_batch_norm(spec, networks[0], train, val)
            treatment = chosen.treatment
        return torch.stack([treated(spec, flat, train, treatment) for flat in networks]), [treatment] * n, chosen

    def _with_entropy(self, spec: ArchSpec, networks: Flat, steps: EntropySteps) -> Flat:
        assert self.data is not None
        inputs = spec.config.inputs.prepare(self.data.train.inputs)
        return torch.stack([minimise_entropy(spec, flat, inputs, steps, self.config.seed) for flat in networks])

    def _scores(self, spec: ArchSpec, networks: Flat) -> list[float | None]:
        """Validation scores; None where the networks' classes are not the data set's."""
        known = spec.is_adapter or (
            self.data is not None and list(self.data.classes) == self.generator.provenance.classes
        )
        if self.data is None or not known:
            return [None] * len(networks)
        return [task_score(spec, flat, self.data) for flat in networks]


def _sample_all(sampler: _Sampler, config: GenerateConfig) -> Iterable[_Sampled]:
    if config.address is None:
        return map(sampler, config.archs)
    from search.pools.ray_map import ray_map  # noqa: PLC0415 - Ray is imported only where it is used

    return ray_map(sampler, config.archs, config.address)
