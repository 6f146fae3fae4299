"""Trains a generator on a zoo: the stages in order, the gate between them, the figures that are kept with the result."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from popgen import __version__
from popgen.errors import PopgenError
from popgen.generator.bundle import Code, Generator, Provenance
from popgen.generator.config import GeneratorConfig
from popgen.generator.training import stages
from popgen.generator.training.choose import CHEAP, choose_prior
from popgen.generator.training.finished import FinishedStages
from popgen.generator.training.stage import Report
from popgen.generator.training.tasks import Tasks
from popgen.generator.training.tune import learn_descriptions, tune
from popgen.types import Flat
from popgen.weights.network import accuracy
from popgen.zoo import Checkpoint, Zoo

_FITTED = 1024  # checkpoints of an architecture that its remainder is fitted on, at most


def train_generator(zoo: Zoo, config: GeneratorConfig, out: Path, report: Report) -> Generator:
    """Train and save a generator. What is finished of an interrupted training in `out` is not done again.

    Args:
        report: called after every step with the stage, the step, the number of steps and the smoothed losses.

    Raises:
        PopgenError: reconstruction costs more accuracy on held-out lineages than `config.vae.gate`.
        CannotResume: `out` holds an interrupted training with other settings or of another zoo.
    """
    began = time.monotonic()
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    extra = [name for grid in config.tune.tasks for name in grid.names]
    known = {record.data for record in zoo.select(held_out=False)}
    tasks = Tasks.load(zoo, config.encoders, [name for name in dict.fromkeys(extra) if name not in known])
    specs = {name: task.spec for name, task in tasks.archs.items()}
    scalings = {name: task.scaling for name, task in tasks.archs.items()}
    generator = Generator(config, specs, scalings, tasks.feature_dim, tasks.text_dim)
    generator.prior.set_archs(torch.stack([task.vector for task in tasks.archs.values()]))
    finished = FinishedStages(generator, out, {"config": config.model_dump(), "zoo_sha256": zoo.sha256})
    losses = {"vae": finished.run("vae", lambda: stages.train_vae(generator, tasks, report))}
    codes = stages.store_codes(generator, tasks)
    check_gate(generator, tasks)
    losses["data_encoder"] = finished.run(
        "data_encoder", lambda: stages.train_data_encoder(generator, tasks, codes, report)
    )
    torch.manual_seed(config.seed)  # the same draws whether the stage before was run or loaded
    conditions = stages.Conditions(generator, tasks)
    if config.prior.kind not in CHEAP:
        losses["prior"] = finished.run("prior", lambda: stages.train_prior(generator, tasks, codes, conditions, report))
        losses["tune"] = finished.run("tune", lambda: tune(generator, tasks, codes, report))
    generator.data_encoder.eval()
    losses["descriptions"] = finished.run("descriptions", lambda: learn_descriptions(generator, tasks, report))
    generator.eval().requires_grad_(False)
    torch.manual_seed(config.seed)
    generator.data_vectors = torch.stack([drawn.mean(0) for drawn in stages.embeddings(generator, tasks, 64).values()])
    store_remainders(generator, tasks)
    generator.records = _records(generator, tasks)
    metrics = {
        "seconds": round(finished.seconds + time.monotonic() - began, 1),
        "losses": losses,
        "retrieval": retrieval(generator, tasks),
    }
    classes = {data.classes for data in tasks.data.values()}
    shared = list(classes.pop()) if len(classes) == 1 else []
    generator.provenance = Provenance(zoo.name, zoo.sha256, shared, tasks.with_checkpoints, metrics, __version__)
    metrics["priors"] = choose_prior(generator, tasks)
    generator.save_pretrained(out)
    finished.remove()
    return generator


@torch.no_grad()
def store_remainders(generator: Generator, tasks: Tasks) -> None:
    """Fit what the decoder leaves of the training checkpoints, and keep each one's coordinates with its code."""
    rows, rest = 0, []
    for name, task in tasks.archs.items():
        latents = generator.codes[rows : rows + len(task.records)]
        rows += len(task.records)
        some = torch.arange(len(task.records))[:: -(-len(task.records) // _FITTED)]
        left = torch.cat(
            [
                task.x[i : i + 1] - generator.vae.decode(task.spec, generator.unstandardise(name, latents[i : i + 1]))
                for i in some
            ]
        )
        generator.remainders[task.spec.fingerprint].fit(left)  # type: ignore[operator]
        rest += [
            generator.remainder(name, task.scaling.denormalise(task.x[i : i + 1]), latents[i : i + 1])
            for i in range(len(task.records))
        ]
    generator.remainder_codes = torch.cat(rest)


def check_gate(generator: Generator, tasks: Tasks) -> None:
    """Refuse to train a prior on latents that lose what the networks do.

    Raises:
        PopgenError: reconstruction costs too much validation accuracy, on average over architectures, on held-out
            lineages (on training checkpoints where none are held out).
    """
    lost = {}
    for arch, row in retrieval(generator, tasks).items():
        kind = "held_out" if "held_out_original" in row else "train"
        lost[arch] = row[f"{kind}_original"] - row[f"{kind}_decoded"]
    mean, allowed = sum(lost.values()) / len(lost), generator.config.vae.gate
    if not mean <= allowed:
        raise PopgenError(
            f"the VAE loses {100 * mean:.1f} points of the checkpoints' validation accuracy, {100 * allowed:.1f} are allowed "
            "(generator.vae.gate)",
            "points lost: " + ", ".join(f"{arch} {100 * value:.1f}" for arch, value in lost.items()),
            "Train longer (generator.vae.steps), with a larger latent (latent_tokens, latent_width), or on more checkpoints.",
        )


def retrieval(generator: Generator, tasks: Tasks) -> dict[str, dict[str, float]]:
    """Mean validation accuracy of each architecture's checkpoints, as they are and decoded from their codes."""
    figures: dict[str, dict[str, float]] = {}
    for name, task in tasks.archs.items():
        row: dict[str, float] = {}
        for kind, records, x in (("train", task.records, task.x), ("held_out", task.held_out, task.held_out_x)):
            known = [i for i, r in enumerate(records) if r.data in tasks.data]
            if known:
                chosen, weights = [records[i] for i in known], task.scaling.denormalise(x[known])
                row[f"{kind}_original"] = _mean_accuracy(generator, tasks, chosen, weights)
                latents = generator.encode(name, weights)
                decoded = generator.restore(name, latents, generator.remainder(name, weights, latents))
                row[f"{kind}_decoded"] = _mean_accuracy(generator, tasks, chosen, decoded)
        figures[name] = row
    return figures


def _mean_accuracy(generator: Generator, tasks: Tasks, records: list[Checkpoint], weights: Flat) -> float:
    spec = generator.spec(records[0].arch)
    scores = [accuracy(spec, flat, tasks.data[record.data].val) for record, flat in zip(records, weights, strict=True)]
    return sum(scores) / len(scores)


def _records(generator: Generator, tasks: Tasks) -> list[Code]:
    records: list[Code] = []
    for task in tasks.archs.values():
        for r in task.records:
            metrics: dict[str, Any] = {"val_accuracy": float("nan"), "test_accuracy": float("nan"), **r.metrics}
            seed = -1 if r.seed is None else r.seed
            records.append(
                Code(r.id, r.arch, r.data, seed, metrics["val_accuracy"], metrics["test_accuracy"], len(records))
            )
    return records
