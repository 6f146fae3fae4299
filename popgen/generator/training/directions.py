"""Trains a generator of directions alone, on a zoo that may have one network of each architecture: its base."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from popgen import __version__
from popgen.configs.generator import GeneratorConfig
from popgen.encoders.arch import ArchTextEncoder
from popgen.encoders.examples import ExampleEncoder, load_example_encoder
from popgen.errors import BadInput
from popgen.generator.generator import Generator
from popgen.generator.model.conditions import arch_vectors
from popgen.generator.records import Provenance
from popgen.generator.texts import StoredTexts
from popgen.generator.training.data import OnData
from popgen.generator.training.episodes import EpisodeData
from popgen.generator.training.log import Log
from popgen.generator.training.loop import Loop, OnStep
from popgen.generator.training.saved_progress import NOT_SETTINGS, SavedProgress
from popgen.generator.training.stages.episodes import episodes_stage
from popgen.generator.training.workers import Workers
from popgen.weights import Scaling
from popgen.zoo import Checkpoint, Zoo
from popgen.zoo.parents import parents_of

_DRAWS = 32  # conditions that a data set's embedding is the mean of


def train_directions(
    zoo: Zoo,
    config: GeneratorConfig,
    out: Path,
    on_step: OnStep,
    workers: Workers,
    data_dir: str | None,
    on_data: OnData,
) -> Generator:
    """Train and save a generator that has directions from the base of each architecture, and no latents.

    Raises:
        BadInput: the zoo's architectures have no base, or a data set does not fit.
        CannotResume: `out` holds an interrupted training with other settings or of another zoo.
    """
    began = time.monotonic()
    encoder = load_example_encoder(config.encoders.images, workers.device, with_open_clip=True)
    generator = _untrained(zoo, config, encoder.dim)
    episodes = load_episodes(generator, encoder, data_dir, on_data)
    settings = {"config": config.model_dump(exclude=NOT_SETTINGS), "zoo_sha256": zoo.sha256}
    saved = SavedProgress(generator, out, settings, workers.device)
    log = Log(out / "log")
    loop = Loop(config.seed, config.accumulate, config.save_every, workers, saved, log, on_step)
    losses = {"episodes": loop.run("episodes", lambda: episodes_stage(generator, episodes))}
    if not workers.is_first:
        return generator
    generator.eval().requires_grad_(False)
    torch.manual_seed(config.seed)
    count = len(config.episodes.data)
    generator.data_vectors = torch.stack([episodes.embedding(generator.data_encoder, i, _DRAWS) for i in range(count)])
    metrics = workers.metrics(saved.seconds + time.monotonic() - began, losses, saved.steps)
    generator.provenance = _provenance(zoo, config, metrics)
    with torch.device("cpu"):
        generator.to_cpu()
        generator.save_pretrained(out)
    saved.remove()
    return generator


def _untrained(zoo: Zoo, config: GeneratorConfig, feature_dim: int) -> Generator:
    """A generator with the zoo's bases, whose directions are zero."""
    bases = find_bases(zoo, config.episodes.bases)
    specs = {arch: zoo.spec(arch) for arch in bases}
    scalings = {arch: Scaling.of(spec, bases[arch], torch.ones(spec.size)) for arch, spec in specs.items()}
    texts = ArchTextEncoder.load(config.encoders.text)
    generator = Generator(config, specs, scalings, feature_dim, texts.dim)
    generator.bases = bases
    vectors = [arch_vectors([spec], texts.encode)[0][: texts.dim] for spec in specs.values()]
    generator.texts = StoredTexts.of(config.encoders.text, specs.values(), vectors)
    return generator


def _provenance(zoo: Zoo, config: GeneratorConfig, metrics: dict[str, Any]) -> Provenance:
    records = [_recorded(zoo, arch, config.episodes.bases) for arch in zoo.archs]
    names = {record.classes for record in records}
    shared = list(names.pop()) if len(names) == 1 else []
    made = Provenance(zoo.name, zoo.sha256, shared, list(config.episodes.data), metrics, __version__)
    made.parents = parents_of(records)
    return made


def load_episodes(
    generator: Generator,
    encoder: ExampleEncoder,
    data_dir: str | None,
    on_data: OnData = lambda _done, _total: None,
) -> EpisodeData:
    """Read the data sets of the settings' episodes.

    Raises:
        BadInput, NotFound: as `EpisodeData.load`.
    """
    config = generator.config
    return EpisodeData.load(config.episodes, config.encoders, encoder, config.augment, data_dir, on_data)


def find_bases(zoo: Zoo, named: Sequence[str]) -> dict[str, Tensor]:
    """Return the weights (p,) that directions start from, by architecture: the zoo's base, else the network of `base_record`.

    Raises:
        BadInput, NotFound: as `base_record`.
    """
    for one in named:
        zoo.record(one)
    bases = {}
    for arch in zoo.archs:
        start = None if _is_named(zoo, arch, named) else zoo.base(arch)
        bases[arch] = zoo.matrix([base_record(zoo, arch, named)])[0] if start is None else start
    return bases


def _is_named(zoo: Zoo, arch: str, named: Sequence[str]) -> bool:
    return any(zoo.record(one).arch == arch for one in named)


def _recorded(zoo: Zoo, arch: str, named: Sequence[str]) -> Checkpoint:
    """The record that tells where the base of an architecture is from: its own, or that of any network that starts from it."""
    if zoo.base(arch) is None or _is_named(zoo, arch, named):
        return base_record(zoo, arch, named)
    return zoo.select(arch=arch)[0]


def base_record(zoo: Zoo, arch: str, named: Sequence[str]) -> Checkpoint:
    """Return the network of an architecture that directions start from: the named one, the only one, or that with the best score.

    Raises:
        BadInput: two of one architecture are named, or none, and the zoo recorded no validation scores.
        NotFound: the zoo has no network of that id.
    """
    chosen = [record for record in map(zoo.record, named) if record.arch == arch]
    if len(chosen) > 1:
        raise BadInput(
            f"generator.episodes.bases names {chosen[0].id} and {chosen[1].id}", f"both are {arch}", "Name one."
        )
    records = chosen or zoo.select(arch=arch, held_out=False)
    if len(records) == 1:
        return records[0]
    scored = [record for record in records if record.score("val") is not None]
    if not scored:
        raise BadInput(
            f"the zoo {zoo.name!r} has {len(records)} networks of {arch!r} that directions could start from",
            "it recorded no validation scores to choose by",
            f"Name one: generator: {{episodes: {{bases: [{records[0].id if records else 'ID'}]}}}}",
        )
    return max(scored, key=lambda record: record.score("val") or 0.0)
