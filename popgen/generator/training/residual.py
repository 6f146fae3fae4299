"""The stage after all that samples is trained: checkpoints are to be given back whole.

Decoder and codes are frozen. What is left of each checkpoint is read and written by the components of popgen/generator/model/residual.py;
they learn that the restored network has the original's weights, its outputs, and its task's labels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from popgen.generator.generator import Generator
from popgen.generator.training.loop import Stage
from popgen.generator.training.stages import Turns
from popgen.generator.training.tasks import ArchTask, Tasks
from popgen.networks.forward import distillation_losses, network_outputs
from popgen.types import Flat

_FITTED = 1024  # checkpoints of an architecture that its components start from, at most


def restoring_stage(generator: Generator, tasks: Tasks) -> Stage:
    """Stage 6. The components start as the principal ones of what is left."""
    config = generator.config.restore
    for name, task in tasks.archs.items():
        every = -(-len(task.records) // _FITTED)
        rows = range(0, len(task.records), every)
        left = torch.cat([what_is_left(generator, name, task.x[[i]])[1] for i in rows])
        generator.residual_of(name).fit(left)
    turns = Turns(list(tasks.archs))

    def losses(_: int) -> dict[str, Tensor]:
        task = tasks.archs[turns.draw()]
        pick = torch.randperm(len(task.records))[: config.networks].tolist()
        x = task.x[pick]
        decoded, left = what_is_left(generator, task.spec.name, x)
        part = generator.residual_of(task.spec.name)
        restored = decoded + part(part.code(left))
        outputs = _outputs(tasks, task, x, [task.records[i].data for i in pick], config.images)
        behaviour = distillation_losses(
            task.spec, task.scaling.denormalise(restored), outputs, config.distil, config.labels
        ).mean()
        turns.tell(task.spec.name, behaviour)
        return {"reconstruction": config.reconstruction * F.mse_loss(restored, x), "behaviour": behaviour}

    return Stage(
        config.steps,
        config.learning_rate,
        list(generator.residuals.parameters()),
        losses,
        extra=turns,
        followed=[turns],
        watched=True,
    )


@torch.no_grad()
def what_is_left(generator: Generator, arch: str, x: Flat) -> tuple[Flat, Flat]:
    """Normalised weights (n, p) decoded from the codes of x (n, p), and what these leave of x."""
    mean, _ = generator.vae.encode(generator.spec(arch), x)
    decoded = generator.vae.decode(generator.spec(arch), mean)
    return decoded, x - decoded


@torch.no_grad()
def _outputs(tasks: Tasks, task: ArchTask, x: Flat, data: list[str], count: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    """For each network its inputs, its own outputs on them, and the labels."""
    weights = task.scaling.denormalise(x)
    drawn = [tasks.draw_images(task.spec.name, name, count) for name in data]
    return [(inputs, network_outputs(task.spec, w, inputs), y) for w, (inputs, y) in zip(weights, drawn, strict=True)]
