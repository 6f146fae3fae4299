"""Trains a generator of directions alone, on a zoo that may have one network of each architecture: its base."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from popgen import __version__
from popgen.configs.generator import GeneratorConfig
from popgen.encoders.arch import ArchTextEncoder
from popgen.encoders.examples import ExampleEncoder, load_example_encoder
from popgen.generator.generator import Generator
from popgen.generator.model.conditions import arch_vectors
from popgen.generator.records import Provenance
from popgen.generator.texts import StoredTexts
from popgen.generator.training.data import OnData
from popgen.generator.training.episodes.data import EpisodeData
from popgen.generator.training.episodes.starts import Starts, find_starts, set_starts
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
    episodes = load_episodes(config, encoder, data_dir, on_data)
    starts = find_starts(zoo, config.episodes, episodes, on_step)
    generator = _untrained(zoo, config, encoder.dim, starts)
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
    several = {arch: own.ids for arch, own in starts.items() if len(own.ids) > 1}
    metrics["remarks"] = [f"directions for {arch} start from {', '.join(ids)}" for arch, ids in several.items()]
    made = _provenance(zoo, config, [record for own in starts.values() for record in own.records], metrics)
    generator.provenance = replace(made, starts=generator.provenance.starts)
    with torch.device("cpu"):
        generator.to_cpu()
        generator.save_pretrained(out)
    saved.remove()
    return generator


def _untrained(zoo: Zoo, config: GeneratorConfig, feature_dim: int, starts: dict[str, Starts]) -> Generator:
    """A generator with the starts, whose directions are zero."""
    specs = {arch: zoo.spec(arch) for arch in starts}
    scalings = {arch: Scaling.of(spec, starts[arch].networks[0], torch.ones(spec.size)) for arch, spec in specs.items()}
    texts = ArchTextEncoder.load(config.encoders.text)
    generator = Generator(config, specs, scalings, feature_dim, texts.dim)
    set_starts(generator, starts)
    vectors = [arch_vectors([spec], texts.encode)[0][: texts.dim] for spec in specs.values()]
    generator.texts = StoredTexts.of(config.encoders.text, specs.values(), vectors)
    return generator


def _provenance(zoo: Zoo, config: GeneratorConfig, records: list[Checkpoint], metrics: dict[str, Any]) -> Provenance:
    names = {record.classes for record in records}
    shared = list(names.pop()) if len(names) == 1 else []
    made = Provenance(zoo.name, zoo.sha256, shared, list(config.episodes.data), metrics, __version__)
    made.parents = parents_of(records)
    return made


def load_episodes(
    config: GeneratorConfig,
    encoder: ExampleEncoder,
    data_dir: str | None,
    on_data: OnData = lambda _done, _total: None,
) -> EpisodeData:
    """Read the data sets of the settings' episodes.

    Raises:
        BadInput, NotFound: as `EpisodeData.load`.
    """
    return EpisodeData.load(config.episodes, config.encoders, encoder, config.augment, data_dir, on_data)
