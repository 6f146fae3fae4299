"""Trains a generator on a zoo: the stages in order, the gate between them, the figures that are kept with the result."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch

from popgen import __version__
from popgen.configs.generator import GeneratorConfig
from popgen.errors import PopgenError
from popgen.generator.generator import Generator
from popgen.generator.records import Code, Provenance
from popgen.generator.training import stages
from popgen.generator.training.choose import CHEAP, choose_prior
from popgen.generator.training.log import Log
from popgen.generator.training.loop import Loop, Report
from popgen.generator.training.residual import restoring_stage
from popgen.generator.training.resume import Unfinished
from popgen.generator.training.tasks import Tasks
from popgen.generator.training.tune import descriptions_stage, tuning_stage
from popgen.generator.training.workers import Workers
from popgen.networks.forward import task_score
from popgen.networks.threads import threads
from popgen.types import Flat
from popgen.zoo import Checkpoint, Zoo

_TOGETHER = 64  # checkpoints decoded at a time: bounds memory
_WATCHED = 4  # held-out checkpoints of each architecture that are looked at while training
_NOT_SETTINGS = {"memory", "save_every"}  # they change no result, so an interrupted training may go on with others


def train_generator(
    zoo: Zoo,
    config: GeneratorConfig,
    out: Path,
    report: Report,
    device: str | None = None,
    data_dir: str | None = None,
) -> Generator:
    """Train and save a generator. What is done of an interrupted training in `out` is not done again.

    In a process group of torch.distributed, each process calls this with the same arguments and takes its share of every step.

    Args:
        report: called after every step with the stage, the step, the number of steps, the smoothed losses and the accuracy of some
            held-out checkpoints after reconstruction.
        device: None: as `config.device` says.
        data_dir: the folder of named data sets; None: POPGEN_DATA, else ./data.

    Returns:
        The generator on the CPU; in a process that is not the first of its group without codes, and not saved.

    Raises:
        PopgenError: reconstruction costs more accuracy on held-out lineages than `config.vae.gate`.
        BadInput: the parts of a step cannot be shared out among the processes, or there is no such device.
        CannotResume: `out` holds an interrupted training with other settings or of another zoo.
    """
    workers = Workers.find(config, device)
    with torch.random.fork_rng(), threads(config.threads), torch.device(workers.device):
        return _train(zoo, config, out, report, workers, data_dir)


def _train(
    zoo: Zoo, config: GeneratorConfig, out: Path, report: Report, workers: Workers, data_dir: str | None
) -> Generator:
    began = time.monotonic()
    torch.manual_seed(config.seed)
    tasks = load_tasks(zoo, config, workers.device, data_dir)
    specs = {name: task.spec for name, task in tasks.archs.items()}
    scalings = {name: task.scaling for name, task in tasks.archs.items()}
    ranks = {name: len(task.records) for name, task in tasks.archs.items()}
    generator = Generator(config, specs, scalings, tasks.feature_dim, tasks.text_dim, ranks)
    generator.prior.set_archs(torch.stack([task.vector for task in tasks.archs.values()]))
    settings = {"config": config.model_dump(exclude=_NOT_SETTINGS), "zoo_sha256": zoo.sha256}
    unfinished = Unfinished(generator, out, settings, workers.device)
    log = Log(out / "log")
    watch = held_out_watch(generator, tasks)
    loop = Loop(config.seed, config.accumulate, config.save_every, workers, unfinished, log, report, watch)
    losses = {"vae": loop.run("vae", lambda: stages.vae_stage(generator, tasks))}
    codes = stages.store_codes(generator, tasks)
    check_gate(generator, tasks)
    losses["data set encoder"] = loop.run(
        "data set encoder", lambda: stages.data_encoder_stage(generator, tasks, codes)
    )
    torch.manual_seed(config.seed)  # the same draws whether the stage before was run or loaded
    conditions = stages.Conditions(generator, tasks)
    if config.prior.kind not in CHEAP:
        losses["prior"] = loop.run("prior", lambda: stages.prior_stage(generator, tasks, codes, conditions))
        losses["tuning"] = loop.run("tuning", lambda: tuning_stage(generator, tasks, codes))
    generator.data_encoder.eval()
    losses["descriptions"] = loop.run("descriptions", lambda: descriptions_stage(generator, tasks))
    losses["restoring"] = loop.run("restoring", lambda: restoring_stage(generator, tasks))
    if not workers.is_first:
        return generator
    generator.eval().requires_grad_(False)
    torch.manual_seed(config.seed)
    generator.data_vectors = torch.stack([drawn.mean(0) for drawn in stages.embeddings(generator, tasks, 64).values()])
    store_residuals(generator, tasks)
    trained = [record for task in tasks.archs.values() for record in task.records]
    generator.records = [Code.of(record, row) for row, record in enumerate(trained)]
    metrics = {
        "seconds": round(unfinished.seconds + time.monotonic() - began, 1),
        "device": workers.device,
        "workers": workers.count,
        "losses": losses,
        "retrieval": retrieval(generator, tasks),
    }
    classes = {data.classes for data in tasks.data.values()}
    shared = list(classes.pop()) if len(classes) == 1 else []
    generator.provenance = Provenance(
        zoo.name, zoo.sha256, shared, tasks.with_checkpoints, metrics, __version__, foreign=tasks.foreign
    )
    with torch.device("cpu"):
        generator.to_cpu()
        metrics["priors"] = choose_prior(generator, tasks)
        generator.save_pretrained(out)
    unfinished.remove()
    return generator


def load_tasks(zoo: Zoo, config: GeneratorConfig, device: str = "cpu", data_dir: str | None = None) -> Tasks:
    """All that a training sees: the zoo, and the data sets without checkpoints that `config.tune.tasks` names."""
    extra = [name for grid in config.tune.tasks for name in grid.names]
    known = {record.data for record in zoo.select(held_out=False)}
    more = [name for name in dict.fromkeys(extra) if name not in known]
    return Tasks.load(zoo, config.encoders, more, config.memory, device, config.augment, data_dir)


def held_out_watch(generator: Generator, tasks: Tasks) -> Callable[[], dict[str, float]]:
    """A function that gives the mean validation accuracy of some held-out checkpoints after reconstruction."""
    chosen = {}
    for name, task in tasks.archs.items():
        known = [i for i, record in enumerate(task.held_out) if record.data in tasks.data]
        if known:
            rows = known[:: max(1, len(known) // _WATCHED)][:_WATCHED]
            chosen[name] = [task.held_out[i] for i in rows], task.scaling.denormalise(task.held_out_x[rows])

    def watch() -> dict[str, float]:
        if not chosen:
            return {}
        scores = []
        for name, (records, weights) in chosen.items():
            latents = generator.encode(name, weights)
            decoded = generator.restore(name, latents, generator.residual(name, weights, latents))
            scores.append(_mean_accuracy(generator, tasks, records, decoded))
        return {"held-out accuracy": sum(scores) / len(scores)}

    return watch


@torch.no_grad()
def store_residuals(generator: Generator, tasks: Tasks) -> None:
    """Keep each training checkpoint's coordinates on the components of what the decoder leaves, with its code."""
    rows, rest = 0, []
    for name, task in tasks.archs.items():
        latents = generator.codes[rows : rows + len(task.records)]
        rows += len(task.records)
        rest += [
            generator.residual(name, task.scaling.denormalise(task.x[[i]]), latents[i : i + 1])
            for i in range(len(task.records))
        ]
    generator.residual_codes = torch.cat(rest)


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
            before, after = 0.0, 0.0
            for first in range(0, len(known), _TOGETHER):
                rows = known[first : first + _TOGETHER]
                chosen, weights = [records[i] for i in rows], task.scaling.denormalise(x[rows])
                latents = generator.encode(name, weights)
                decoded = generator.restore(name, latents, generator.residual(name, weights, latents))
                before += len(rows) * _mean_accuracy(generator, tasks, chosen, weights)
                after += len(rows) * _mean_accuracy(generator, tasks, chosen, decoded)
            if known:
                row[f"{kind}_original"], row[f"{kind}_decoded"] = before / len(known), after / len(known)
        figures[name] = row
    return figures


def _mean_accuracy(generator: Generator, tasks: Tasks, records: list[Checkpoint], weights: Flat) -> float:
    spec = generator.spec(records[0].arch)
    scores = [
        task_score(spec, flat, tasks.data[record.data].val) for record, flat in zip(records, weights, strict=True)
    ]
    return sum(scores) / len(scores)
