"""Trains a generator on a zoo: the stages in order, the gate between them, and the figures that are kept with the result."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from popgen import __version__
from popgen.configs.generator import GeneratorConfig
from popgen.encoders.examples import load_example_encoder
from popgen.generator.family.look import reference_of
from popgen.generator.generator import Generator
from popgen.generator.records import Code, Provenance
from popgen.generator.texts import StoredTexts
from popgen.generator.training.choose_prior import CLOSED_FORM, choose_prior
from popgen.generator.training.codes import store_codes, store_residual_codes
from popgen.generator.training.data import OnData, TrainingData, check_episodes
from popgen.generator.training.directions import load_episodes, train_directions
from popgen.generator.training.episodes.data import EpisodeData
from popgen.generator.training.episodes.starts import find_starts, set_starts
from popgen.generator.training.log import Log
from popgen.generator.training.loop import Loop, OnStep
from popgen.generator.training.reconstruction import check_gate, reconstruction_scores
from popgen.generator.training.robust import read_robust
from popgen.generator.training.saved_progress import NOT_SETTINGS, SavedProgress
from popgen.generator.training.stages.data_encoder import data_encoder_stage
from popgen.generator.training.stages.descriptions import descriptions_stage
from popgen.generator.training.stages.episodes import episodes_stage
from popgen.generator.training.stages.prior import draw_embeddings, prior_stage
from popgen.generator.training.stages.restoring import restoring_stage
from popgen.generator.training.stages.tuning import tuning_stage
from popgen.generator.training.stages.vae import vae_stage
from popgen.generator.training.workers import Workers
from popgen.networks.threads import threads
from popgen.zoo import Zoo
from popgen.zoo.parents import parents_of
from popgen.zoo.stand_in import data_reader


def train_generator(
    zoo: Zoo,
    config: GeneratorConfig,
    out: Path,
    on_step: OnStep,
    device: str | None = None,
    data_dir: str | None = None,
    on_data: OnData = lambda _done, _total: None,
) -> Generator:
    """Train and save a generator. Steps that an interrupted training in `out` has saved are not done again.

    In a process group of torch.distributed, each process calls this with the same arguments and computes its share of
    every step.

    Args:
        on_step: called after every step with the stage, the step, the number of steps, and the smoothed losses, among
            them the accuracy of some held-out checkpoints after reconstruction.
        device: None: as `config.device` says.
        data_dir, on_data: as in `TrainingData.load`.

    Returns:
        The generator on the CPU. In a process that is not the first of its group it has no codes and is not saved.

    Raises:
        PopgenError: reconstruction costs more accuracy on held-out lineages than `config.vae.gate`.
        BadInput: the micro-batches of a step cannot be divided among the processes, or there is no such device.
        CannotResume: `out` holds an interrupted training with other settings or of another zoo.
    """
    workers = Workers.find(config, device)
    with torch.random.fork_rng(), threads(config.threads), torch.device(workers.device):
        began = time.monotonic()
        torch.manual_seed(config.seed)
        if not config.vae.steps:
            return train_directions(zoo, config, out, on_step, workers, data_dir, on_data)
        robust = read_robust(config.robust, zoo)
        data = load_training_data(zoo, config, workers.device, data_dir, on_data)
        generator = _untrained(config, data)
        generator.robust = robust
        episodes = _episodes(generator, zoo, workers.device, data_dir, on_step) if config.episodes.steps else None
        settings = {"config": config.model_dump(exclude=NOT_SETTINGS), "zoo_sha256": zoo.sha256}
        saved = SavedProgress(generator, out, settings, workers.device)
        log = Log(out / "log")
        loop = Loop(config.seed, config.accumulate, config.save_every, workers, saved, log, on_step, config.flat)
        losses = _run_stages(generator, data, episodes, loop)
        if not workers.is_first:
            return generator
        _complete(generator, data, zoo)
        _save(generator, zoo, data, workers.metrics(saved.seconds + time.monotonic() - began, losses, saved.steps), out)
        saved.remove()
        return generator


def _episodes(generator: Generator, zoo: Zoo, device: str, data_dir: str | None, on_step: OnStep) -> EpisodeData:
    """Read the data sets of episodes, and give the generator the networks that directions start from."""
    config = generator.config
    encoder = load_example_encoder(config.encoders.images, device, with_open_clip=True)
    episodes = load_episodes(config, encoder, data_dir)
    set_starts(generator, find_starts(zoo, config.episodes, episodes, on_step))
    return episodes


def load_training_data(
    zoo: Zoo,
    config: GeneratorConfig,
    device: str = "cpu",
    data_dir: str | None = None,
    on_data: OnData = lambda _done, _total: None,
) -> TrainingData:
    """Read the zoo, and the data sets without checkpoints that `config.tune.tasks` names."""
    extra = [name for grid in config.tune.tasks for name in grid.names]
    known = {record.data for record in zoo.select(held_out=False)}
    more = [name for name in dict.fromkeys(extra) if name not in known]
    read = data_reader(zoo, config.stand_in, data_dir)
    data = TrainingData.load(zoo, config.encoders, more, config.memory, device, config.augment, read, on_data)
    check_episodes(data.archs, config.tune.episodes)
    return data


def _untrained(config: GeneratorConfig, data: TrainingData) -> Generator:
    specs = {name: own.spec for name, own in data.archs.items()}
    scalings = {name: own.scaling for name, own in data.archs.items()}
    ranks = {name: len(own.records) for name, own in data.archs.items()}
    generator = Generator(config, specs, scalings, data.feature_dim, data.text_dim, ranks)
    generator.prior.set_archs(torch.stack([own.vector for own in data.archs.values()]))
    return generator


def _run_stages(
    generator: Generator, data: TrainingData, episodes: EpisodeData | None, loop: Loop
) -> dict[str, dict[str, float]]:
    """Run all stages in their order; returns the smoothed losses at the end of each."""
    config, losses = generator.config, {}
    losses["vae"] = loop.run("vae", lambda: vae_stage(generator, data))
    codes = store_codes(generator, data)
    check_gate(generator, data)
    losses["data set encoder"] = loop.run("data set encoder", lambda: data_encoder_stage(generator, data, codes))
    if config.prior.kind not in CLOSED_FORM:
        torch.manual_seed(config.seed)  # The draws are the same whether the stage before was run or loaded.
        embeddings = draw_embeddings(generator, data)
        losses["prior"] = loop.run("prior", lambda: prior_stage(generator, data, codes, embeddings))
        losses["tuning"] = loop.run("tuning", lambda: tuning_stage(generator, data, codes))
    generator.data_encoder.eval()
    losses["descriptions"] = loop.run("descriptions", lambda: descriptions_stage(generator, data))
    losses["restoring"] = loop.run("restoring", lambda: restoring_stage(generator, data))
    if episodes is not None:
        losses["episodes"] = loop.run("episodes", lambda: episodes_stage(generator, episodes))
    return losses


def _complete(generator: Generator, data: TrainingData, zoo: Zoo) -> None:
    """Freeze the trained generator, and store what it keeps of the zoo: embeddings of data sets, residual codes, networks, records."""
    generator.eval().requires_grad_(False)
    torch.manual_seed(generator.config.seed)
    generator.data_vectors = torch.stack([drawn.mean(0) for drawn in draw_embeddings(generator, data).values()])
    store_residual_codes(generator, data)
    vectors = [own.vector[: data.text_dim] for own in data.archs.values()]
    generator.texts = StoredTexts.of(generator.config.encoders.text, generator.specs.values(), vectors)
    if not generator.bases:
        generator.bases = {arch: base for arch in generator.specs if (base := zoo.base(arch)) is not None}
    trained = [record for own in data.archs.values() for record in own.records]
    generator.records = [Code.of(record, row) for row, record in enumerate(trained)]


def _save(generator: Generator, zoo: Zoo, data: TrainingData, metrics: dict[str, Any], out: Path) -> None:
    """Measure a complete generator, choose its prior, and save it; it is on the CPU afterwards."""
    starts = generator.provenance.starts
    metrics |= {"retrieval": reconstruction_scores(generator, data)}
    generator.provenance = replace(_provenance(zoo, data, metrics, generator.config), starts=starts)
    with torch.device("cpu"):
        generator.to_cpu()
        generator.reference = None if data.words else reference_of(data.features.values())
        generator.provenance.metrics["priors"] = choose_prior(generator, data)
        generator.save_pretrained(out)


def _provenance(zoo: Zoo, data: TrainingData, metrics: dict[str, Any], config: GeneratorConfig) -> Provenance:
    classes = {one.classes for one in data.data_sets.values()}
    shared = list(classes.pop()) if len(classes) == 1 else []
    made = Provenance(zoo.name, zoo.sha256, shared, data.with_checkpoints, metrics, __version__, foreign=data.foreign)
    if data.words:
        made.descriptions = {name: data.data_sets[name].description for name in data.with_checkpoints}
    trained = [record for own in data.archs.values() for record in own.records]
    made.parents = parents_of(trained, config.robust)
    return made
