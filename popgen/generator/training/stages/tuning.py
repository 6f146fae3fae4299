"""Stage 4: data set encoder, prior and decoder together learn what networks generated from conditions do.

A data set needs no checkpoints here: any data set with the zoo's classes teaches the decoder what its networks should
do, and the data set encoder which embedding its images should have. The losses of the VAE and of the prior on real
checkpoints keep the codes of the zoo valid and the samples diverse.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from popgen.archs.adapters.config import phrase_features
from popgen.archs.adapters.network import TEMPERATURE
from popgen.generator.generator import Generator
from popgen.generator.training.arch_sampler import ArchSampler
from popgen.generator.training.data import ArchCheckpoints, TrainingData
from popgen.generator.training.generation import generated_watch
from popgen.generator.training.reconstruction import held_out_watch
from popgen.generator.training.stage import Stage
from popgen.generator.training.stages.vae import behaviour_of, vae_losses
from popgen.networks.episodes import phrase_losses
from popgen.networks.forward import network_outputs
from popgen.types import Flat, Latents

_ANCHORS = 32  # checkpoints of the zoo in each step that includes them


def tuning_stage(generator: Generator, data: TrainingData, codes: dict[str, Latents]) -> Stage:
    """Make the stage. The gradient flows through the prior's mean; the VAE's encoder, and so the codes, are frozen."""
    config = generator.config.tune
    sampler, vae_sampler = ArchSampler(list(data.archs)), ArchSampler(list(data.archs))
    drawn = {arch: _drawn(data, own) for arch, own in data.archs.items()}
    pairs = [(arch, i) for arch, own in data.archs.items() for i in range(len(own.records))]

    def losses(step: int) -> dict[str, Tensor]:
        own = data.archs[sampler.draw()]
        names = drawn[own.spec.name]
        chosen = [names[i] for i in torch.randint(len(names), (config.networks,)).tolist()]
        with_anchors = step % config.anchor_every == 0
        anchors = [pairs[i] for i in torch.randint(len(pairs), (_ANCHORS,)).tolist()] if with_anchors else []
        embeddings = _embed(generator, data, chosen + [data.archs[arch].records[i].data for arch, i in anchors])
        noise = torch.randn(len(chosen), *generator.latent_shape)
        z = generator.prior.sample_roughly(embeddings[: len(chosen)], own.vector.expand(len(chosen), -1), noise)
        x = generator.vae.decode(generator.moved[own.spec.name], z)
        generated = (
            _with_episodes(data, own, x, chosen, config.images, config.episodes)
            if config.episodes
            else behaviour_of(data, own, x, chosen, config.images)
        )
        sampler.record(own.spec.name, generated)
        if not with_anchors:
            return {"generated": generated}
        stored = torch.stack([codes[arch][i] for arch, i in anchors])
        vectors = torch.stack([data.archs[arch].vector for arch, _ in anchors])
        return {
            "generated": generated,
            **generator.prior.losses(stored, embeddings[len(chosen) :], vectors),
            **vae_losses(generator, data, vae_sampler),
        }

    generated, reconstructed = generated_watch(generator, data, drawn), held_out_watch(generator, data)
    generator.data_encoder.train()
    generator.prior.eval()  # The spread of the samples is not trained.
    generator.prior.mean.train()
    return Stage(
        config.steps,
        config.learning_rate,
        _trained(generator),
        losses,
        extra=nn.ModuleDict({"sampler": sampler, "vae_sampler": vae_sampler}),
        statistics=[sampler, vae_sampler, generator.data_encoder.standardise],
        ema=generator.config.prior.ema,
        watch=lambda: generated() | reconstructed(),
    )


def _drawn(data: TrainingData, own: ArchCheckpoints) -> list[str]:
    """Names of the data sets that an architecture's networks are trained on: all but those held out for this architecture."""
    held_out = {record.data for record in own.held_out} - own.rows.keys()
    return [name for name in data.data_sets if name not in held_out]


def _trained(generator: Generator) -> list[nn.Parameter]:
    """Return all parameters but those of the VAE's encoder."""
    vae = generator.vae
    frozen = [
        vae.queries,
        *vae.read_token.parameters(),
        *vae.read_position.parameters(),
        *vae.encoder.parameters(),
        *vae.to_posterior.parameters(),
    ]
    ids = {id(p) for p in frozen}
    everything = [*vae.parameters(), *generator.prior.parameters(), *generator.data_encoder.parameters()]
    return [p for p in everything if id(p) not in ids]


def _with_episodes(
    data: TrainingData, own: ArchCheckpoints, x: Flat, names: list[str], count: int, weight: float
) -> Tensor:
    """Return the mean task loss of the networks x (n, q), plus the weighted loss of episodes."""
    losses = []
    for flat, name in zip(own.scaling.denormalise(x), names, strict=True):
        inputs, labels = data.draw_images(own.spec.name, name, count)
        phrases = phrase_features(data.spec_for(own, name).config)
        assert phrases is not None, "a spec asks for episodes of adapters alone"
        plain, fitted = phrase_losses(network_outputs(own.spec, flat, inputs), labels, phrases, TEMPERATURE)
        losses.append(plain + weight * fitted)
    return torch.stack(losses).mean()


def _embed(generator: Generator, data: TrainingData, names: list[str]) -> Tensor:
    """Return noisy embeddings (n, out) of new draws of images; sometimes only images of some classes are used."""
    config, encoder = generator.config.tune, generator.data_encoder
    features = torch.stack([data.draw_features(name, generator.config.encoders.images_per_class) for name in names])
    count = features.shape[1]
    classes = torch.arange(count)
    if count > 2 and torch.rand(()) < config.fewer_classes:
        classes = torch.randperm(count)[: int(torch.randint(2, count, ()))].sort().values
    embeddings: Tensor = encoder(features[:, classes], classes)
    return embeddings + config.condition_noise * torch.randn_like(embeddings)
