"""Stage 1: the VAE learns to reconstruct weights and, through the decoded networks' loss on images, what they do."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from popgen.generator.generator import Generator
from popgen.generator.model.vae import kl_to_normal, sample_posterior
from popgen.generator.training.arch_sampler import ArchSampler
from popgen.generator.training.data import ArchCheckpoints, TrainingData
from popgen.generator.training.reconstruction import held_out_watch
from popgen.generator.training.stage import Stage
from popgen.networks.forward import behaviour_loss
from popgen.types import Flat

_IMAGES = 256  # training images on which the best checkpoint is chosen


def vae_stage(generator: Generator, data: TrainingData) -> Stage:
    """Make the stage. The offsets of the linear paths start at the checkpoints' mean, or at the best checkpoint."""
    config = generator.config.vae
    for name, own in data.archs.items():
        path = generator.moved[name].fingerprint
        if path in generator.vae.linear:
            start = own.x.mean() if config.offset == "mean" else best_checkpoint(data, own)
            generator.vae.linear[path].offset.data.copy_(start)  # type: ignore[union-attr, operator]
    sampler = ArchSampler(list(data.archs))
    return Stage(
        config.steps,
        config.learning_rate,
        list(generator.vae.parameters()),
        lambda _: vae_losses(generator, data, sampler),
        extra=sampler,
        statistics=[sampler],
        watch=held_out_watch(generator, data),
    )


@torch.no_grad()
def best_checkpoint(data: TrainingData, own: ArchCheckpoints) -> Tensor:
    """Return the normalised weights (q,) of the checkpoint with the lowest loss on images it was trained on."""
    losses = []
    for row, record in enumerate(own.records):
        train, spec = data.data_sets[record.data].train, data.spec_for(own, record.data)
        images = own.spec.config.inputs.prepare(train.inputs[:_IMAGES].to(data.device))
        weights = own.scaling.denormalise(own.x[[row]])
        losses.append(behaviour_loss([spec], weights, [(images, train.targets[:_IMAGES].to(data.device))]))
    best: Tensor = own.x[[int(torch.stack(losses).argmin())]][0]
    return best


def vae_losses(generator: Generator, data: TrainingData, sampler: ArchSampler) -> dict[str, Tensor]:
    """Return the losses of one batch of checkpoints: reconstruction, divergence from the normal, and behaviour."""
    config = generator.config.vae
    arch = sampler.draw()
    own = data.archs[arch]
    pick = torch.randperm(len(own.records))[: config.batch]
    x = _mixed(own, pick, config.mixup)
    moved = generator.moved[arch]
    mean, log_variance = generator.vae.encode(moved, x + config.input_noise * torch.randn_like(x))
    decoded = generator.vae.decode(moved, sample_posterior(mean, log_variance))
    losses = {
        "reconstruction": config.reconstruction * F.mse_loss(decoded, x),
        "kl": config.kl * kl_to_normal(mean, log_variance),
    }
    if config.behaviour:
        count = min(config.behaviour_networks, len(pick))
        names = [own.records[i].data for i in pick[:count].tolist()]
        behaviour = behaviour_of(data, own, decoded[:count], names, config.behaviour_images)
        sampler.record(arch, behaviour)
        losses["behaviour"] = config.behaviour * behaviour
    return losses


def behaviour_of(data: TrainingData, own: ArchCheckpoints, x: Flat, names: list[str], count: int) -> Tensor:
    """Return the mean task loss of the networks x (n, q), each on `count` new training images of its data set."""
    batches = [data.draw_images(own.spec.name, name, count) for name in names]
    return behaviour_loss([data.spec_for(own, name) for name in names], own.scaling.denormalise(x), batches)


def _mixed(own: ArchCheckpoints, pick: Tensor, share: float) -> Flat:
    """Return the normalised weights of the rows `pick`; a share is averaged with another row of the same data set.

    Networks between two checkpoints that began at the same start are good networks, too: this is additional training
    data without cost.
    """
    siblings = [own.rows[own.records[i].data] for i in pick.tolist()]
    partners = [rows[int(torch.randint(len(rows), ()))] for rows in siblings]
    weight = torch.rand(len(pick), 1) * (torch.rand(len(pick), 1) < share)
    return torch.lerp(own.x[pick.tolist()], own.x[partners], weight)
