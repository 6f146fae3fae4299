"""The last stage: encoder, prior and decoder together learn what networks generated from conditions do.

Here tasks need no checkpoints: any data set with the zoo's classes teaches the decoder what its networks should do, and the data set
encoder how its images should be placed. Reconstruction and the prior's own losses hold the codes of real checkpoints, and the
samples' diversity, in place.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from popgen.generator.generator import Generator
from popgen.generator.training.loop import Stage
from popgen.generator.training.stages import Turns, behaviour_of, vae_losses
from popgen.generator.training.tasks import Tasks
from popgen.types import Latents

_DRAWS = 16  # embeddings whose mean a description is mapped to
_ANCHORS = 32  # codes of the zoo in a step that holds them in place


def tuning_stage(generator: Generator, tasks: Tasks, codes: dict[str, Latents]) -> Stage:
    """Stage 4. The gradient flows through the prior's mean; the VAE's encoder, and so the codes, stay as they are."""
    config, vae, prior = generator.config.tune, generator.vae, generator.prior
    frozen = [
        vae.queries,
        *vae.read_token.parameters(),
        *vae.read_position.parameters(),
        *vae.encoder.parameters(),
        *vae.to_posterior.parameters(),
    ]
    ids = {id(p) for p in frozen}
    everything = [*vae.parameters(), *prior.parameters(), *generator.data_encoder.parameters()]
    parameters = [p for p in everything if id(p) not in ids]
    turns, vae_turns = Turns(list(tasks.archs)), Turns(list(tasks.archs))
    names = list(tasks.data)
    rows = [(arch, i) for arch, task in tasks.archs.items() for i in range(len(task.records))]

    def losses(step: int) -> dict[str, Tensor]:
        task = tasks.archs[turns.draw()]
        chosen = [names[i] for i in torch.randint(len(names), (config.networks,)).tolist()]
        holds = step % config.anchor_every == 0
        anchors = [rows[i] for i in torch.randint(len(rows), (_ANCHORS,)).tolist()] if holds else []
        embeddings = _embed(generator, tasks, chosen + [tasks.archs[arch].records[i].data for arch, i in anchors])
        noise = torch.randn(len(chosen), *generator.latent_shape)
        z = prior.sample(embeddings[: len(chosen)], task.vector.expand(len(chosen), -1), noise)
        decoded = vae.decode(task.spec, z)
        generated = behaviour_of(tasks, task, decoded, chosen, config.images)
        turns.tell(task.spec.name, generated)
        if not holds:
            return {"generated": generated}
        stored = torch.stack([codes[arch][i] for arch, i in anchors])
        vectors = torch.stack([tasks.archs[arch].vector for arch, _ in anchors])
        return {
            "generated": generated,
            **prior.losses(stored, embeddings[len(chosen) :], vectors),
            **vae_losses(generator, tasks, vae_turns),
        }

    generator.data_encoder.train()
    prior.eval()  # the spread stays as it is
    prior.mean.train()
    return Stage(
        config.steps,
        config.learning_rate,
        parameters,
        losses,
        extra=nn.ModuleDict({"turns": turns, "vae_turns": vae_turns}),
        followed=[turns, vae_turns, generator.data_encoder.standardise],
        ema=generator.config.prior.ema,
        watched=True,
    )


def _embed(generator: Generator, tasks: Tasks, names: list[str]) -> Tensor:
    """Embeddings (n, out) of new draws of images, some of them of some classes only; with noise."""
    config, encoder = generator.config.tune, generator.data_encoder
    features = torch.stack([tasks.draw_features(name, generator.config.encoders.images_per_class) for name in names])
    classes = features.shape[1]
    places = torch.arange(classes)
    if classes > 2 and torch.rand(()) < config.fewer_classes:
        places = torch.randperm(classes)[: int(torch.randint(2, classes, ()))].sort().values
    embeddings: Tensor = encoder(features[:, places], places)
    return embeddings + config.condition_noise * torch.randn_like(embeddings)


def descriptions_stage(generator: Generator, tasks: Tasks) -> Stage:
    """Stage 5. What a description says is what the mean embedding of its data set's images says; all else is frozen."""
    config, encoder = generator.config.describe, generator.data_encoder
    names, per_class = list(tasks.data), generator.config.encoders.images_per_class
    with torch.no_grad():
        target = torch.stack(
            [encoder(torch.stack([tasks.draw_features(n, per_class) for _ in range(_DRAWS)])).mean(0) for n in names]
        )
    sentences = torch.stack([tasks.sentences[name] for name in names])
    encoder.set_texts(sentences)

    def losses(_: int) -> dict[str, Tensor]:
        pick = torch.randint(len(names), (min(len(names), 64),))
        return {"description": F.mse_loss(encoder.from_text(sentences[pick]), target[pick])}

    return Stage(config.steps, config.learning_rate, list(encoder.read_text.parameters()), losses)
