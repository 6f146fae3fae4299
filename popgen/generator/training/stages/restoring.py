"""Stage 6: a low-rank residual for each architecture learns what the decoder leaves of its checkpoints.

Decoder and codes are frozen. The residual (popgen/generator/model/residual.py) is trained so that the restored network
has the original's weights, the original's outputs, and low loss on the labels of its training images.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from popgen.generator.generator import Generator
from popgen.generator.training.arch_sampler import ArchSampler
from popgen.generator.training.data import ArchCheckpoints, TrainingData
from popgen.generator.training.reconstruction import held_out_watch
from popgen.generator.training.stage import Stage
from popgen.networks.forward import distillation_losses, outputs_of_each
from popgen.types import Flat

_FITTED = 1024  # checkpoints of an architecture whose principal components are computed, at most


def restoring_stage(generator: Generator, data: TrainingData) -> Stage:
    """Make the stage. A residual starts at the principal components of the checkpoints' reconstruction errors."""
    config = generator.config.restore
    for name, own in data.archs.items():
        every = -(-len(own.records) // _FITTED)
        rows = range(0, len(own.records), every)
        errors = torch.cat([reconstruct(generator, name, own.x[[i]])[1] for i in rows])
        generator.residual_of(name).fit(errors)
    sampler = ArchSampler(list(data.archs))

    def losses(_: int) -> dict[str, Tensor]:
        own = data.archs[sampler.draw()]
        pick = torch.randperm(len(own.records))[: config.networks].tolist()
        x = own.x[pick]
        decoded, error = reconstruct(generator, own.spec.name, x)
        residual = generator.residual_of(own.spec.name)
        restored = decoded + residual(residual.code(error))
        names = [own.records[i].data for i in pick]
        specs = [data.spec_for(own, name) for name in names]
        outputs = _outputs(data, own, x, names, config.images)
        behaviour = distillation_losses(
            specs, own.scaling.denormalise(restored), outputs, config.distil, config.labels
        ).mean()
        sampler.record(own.spec.name, behaviour)
        return {"reconstruction": config.reconstruction * F.mse_loss(restored, x), "behaviour": behaviour}

    return Stage(
        config.steps if config.rank else 0,  # without components nothing is trained
        config.learning_rate,
        list(generator.residuals.parameters()),
        losses,
        extra=sampler,
        statistics=[sampler],
        watch=held_out_watch(generator, data),
    )


@torch.no_grad()
def reconstruct(generator: Generator, arch: str, x: Flat) -> tuple[Flat, Flat]:
    """Return the normalised weights (n, q) that are decoded from the codes of x (n, q), and their errors, x minus them."""
    mean, _ = generator.vae.encode(generator.moved[arch], x)
    decoded = generator.vae.decode(generator.moved[arch], mean)
    return decoded, x - decoded


@torch.no_grad()
def _outputs(
    data: TrainingData, own: ArchCheckpoints, x: Flat, names: list[str], count: int
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Return for each network a draw of training images, the network's outputs on them, and their labels."""
    weights = own.scaling.denormalise(x)
    drawn = [data.draw_images(own.spec.name, name, count) for name in names]
    specs = [data.spec_for(own, name) for name in names]
    outputs = outputs_of_each(specs, weights, [inputs for inputs, _ in drawn])
    return [(inputs, found, labels) for (inputs, labels), found in zip(drawn, outputs, strict=True)]
