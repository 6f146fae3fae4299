"""The first three of six stages, each made from the generator and the tasks; the others are in tune.py and restore.py.

1. The VAE learns to reconstruct weights and, through the decoded networks' cross-entropy, what they do.
2. The data set encoder is aligned with the frozen latents by a contrastive loss (as in D2NWG), and by predicting them.
3. The prior learns the latents' distribution under both conditions.
4. Prior and decoder together learn what networks generated from conditions do; reconstruction and the prior's own loss
   hold the codes of real checkpoints and the samples' diversity in place.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from popgen.generator.generator import Generator
from popgen.generator.model.vae import kl_to_normal, sample_posterior
from popgen.generator.training.loop import Stage
from popgen.generator.training.tasks import ArchTask, Tasks
from popgen.networks.forward import behaviour_loss
from popgen.types import Flat, Latents

_LOOKED_AT = 256  # training images by which the best checkpoint is found
_LEAST_STD = 0.05  # of an architecture's latents, in units of the standard deviation over all of them


def vae_stage(generator: Generator, tasks: Tasks) -> Stage:
    """Stage 1. Offsets of the linear paths start at the mean of the checkpoints, or at one of them."""
    config = generator.config.vae
    for task in tasks.archs.values():
        if task.spec.fingerprint in generator.vae.linear:
            start = task.x.mean() if config.offset == "mean" else best_checkpoint(tasks, task)
            generator.vae.linear[task.spec.fingerprint].offset.data.copy_(start)  # type: ignore[union-attr, operator]
    turns = Turns(list(tasks.archs))
    return Stage(
        config.steps,
        config.learning_rate,
        list(generator.vae.parameters()),
        lambda _: vae_losses(generator, tasks, turns),
        extra=turns,
        followed=[turns],
        watched=True,
    )


@torch.no_grad()
def best_checkpoint(tasks: Tasks, task: ArchTask) -> Tensor:
    """Normalised weights (p,) of the checkpoint with the lowest loss on the first training images of its data set."""
    losses = []
    for row, record in enumerate(task.records):
        part = tasks.data[record.data].train
        images = task.spec.config.inputs.prepare(part.inputs[:_LOOKED_AT].to(tasks.device))
        weights = task.scaling.denormalise(task.x[[row]])
        losses.append(behaviour_loss(task.spec, weights, [(images, part.targets[:_LOOKED_AT].to(tasks.device))]))
    best: Tensor = task.x[[int(torch.stack(losses).argmin())]][0]
    return best


class Turns(nn.Module):
    """Which architecture is trained next: drawn in proportion to how badly its decoded networks do.

    Batch norm and depth make some designs several times harder than others; with equal turns they are left behind.
    """

    losses: Tensor

    def __init__(self, archs: list[str]) -> None:
        super().__init__()
        self.archs = archs
        self.register_buffer("losses", torch.ones(len(archs)))
        self._seen: list[Tensor] = []

    def draw(self) -> str:
        """An architecture's name."""
        weights = self.losses.clamp_min(1e-3)
        return self.archs[int(torch.multinomial(weights + weights.mean() / 4, 1))]

    def tell(self, arch: str, loss: Tensor) -> None:
        """The loss (a scalar) that an architecture had in its turn."""
        place = torch.tensor(float(self.archs.index(arch)), device=loss.device)
        self._seen.append(torch.stack([place, loss.detach().float()]))

    def take_seen(self) -> list[Tensor]:
        """Architecture's place and loss (2,) of each turn since the last call."""
        seen, self._seen = self._seen, []
        return seen

    def follow(self, seen: Tensor) -> None:
        """Losses are smoothed over about 20 turns of an architecture; turns are (n, 2)."""
        for place, loss in seen.tolist():
            self.losses[int(place)] += 0.05 * (loss - self.losses[int(place)])


def vae_losses(generator: Generator, tasks: Tasks, turns: Turns) -> dict[str, Tensor]:
    config = generator.config.vae
    arch = turns.draw()
    task = tasks.archs[arch]
    pick = torch.randperm(len(task.records))[: config.batch]
    x = _mixed(task, pick, config.mixup)
    mean, log_variance = generator.vae.encode(task.spec, x + config.input_noise * torch.randn_like(x))
    decoded = generator.vae.decode(task.spec, sample_posterior(mean, log_variance))
    losses = {
        "reconstruction": config.reconstruction * F.mse_loss(decoded, x),
        "kl": config.kl * kl_to_normal(mean, log_variance),
    }
    if config.behaviour:
        some = min(config.behaviour_networks, len(pick))
        names = [task.records[i].data for i in pick[:some].tolist()]
        behaviour = behaviour_of(tasks, task, decoded[:some], names, config.behaviour_images)
        turns.tell(arch, behaviour)
        losses["behaviour"] = config.behaviour * behaviour
    return losses


def _mixed(task: ArchTask, pick: Tensor, share: float) -> Flat:
    """Normalised weights of the rows `pick`, a share of them averaged at random with another row of the same data set.

    Checkpoints of one shared start stay good networks between each other, so this is new training data for nothing.
    """
    siblings = [task.rows[task.records[i].data] for i in pick.tolist()]
    partners = [rows[int(torch.randint(len(rows), ()))] for rows in siblings]
    weight = torch.rand(len(pick), 1) * (torch.rand(len(pick), 1) < share)
    return torch.lerp(task.x[pick.tolist()], task.x[partners], weight)


def behaviour_of(tasks: Tasks, task: ArchTask, x: Tensor, data: list[str], count: int) -> Tensor:
    """Cross-entropy of the networks x (n, p), each on `count` new training images of its data set."""
    batches = [tasks.draw_images(task.spec.name, name, count) for name in data]
    return behaviour_loss(task.spec, task.scaling.denormalise(x), batches)


@torch.no_grad()
def store_codes(generator: Generator, tasks: Tasks) -> dict[str, Latents]:
    """Encode all training checkpoints, standardise the latents, and keep the codes; returns the VAE's by architecture.

    By architecture, because a residual net's codes may lie ten times closer together than another's: a step of the same
    size would be nothing for one, and destroy the other.
    """
    raw = {
        name: torch.cat([generator.vae.encode(task.spec, x)[0] for x in task.x.chunks()])
        for name, task in tasks.archs.items()
    }
    everywhere = torch.cat(list(raw.values())).std(0)
    generator.latent_mean = torch.stack([z.mean(0) for z in raw.values()])
    own = torch.stack([z.std(0) for z in raw.values()])
    generator.latent_std = torch.maximum(own, _LEAST_STD * everywhere).clamp_min(1e-6)
    generator.prior.set_latents(torch.cat(list(raw.values())))
    generator.codes = torch.cat([generator.standardise(name, z) for name, z in raw.items()])
    return raw


def data_encoder_stage(generator: Generator, tasks: Tasks, codes: dict[str, Latents]) -> Stage:
    """Stage 2. Positive pairs: a draw of images of a data set, and the latent of a checkpoint trained on it."""
    config, names = generator.config.encoders, tasks.with_checkpoints
    coordinates = generator.codes[0].numel()
    project = nn.ModuleDict({"data": nn.Linear(config.out, 32), "latent": nn.Linear(coordinates, 32)})
    predict = nn.ModuleDict({arch: nn.Linear(config.out, coordinates) for arch in tasks.archs})
    scale = nn.ParameterList([torch.tensor(1 / config.temperature).log()])
    rows = {arch: task.rows for arch, task in tasks.archs.items()}
    archs = list(tasks.archs)

    def losses(step: int) -> dict[str, Tensor]:
        arch = archs[step % len(archs)]
        known = [name for name in names if name in rows[arch]]
        chosen = [known[i] for i in torch.randperm(len(known))[: config.batch].tolist()]
        chosen = (
            chosen * 2 if len(chosen) == 1 else chosen
        )  # a zoo of one data set: two draws of it, and nothing to tell apart
        embedding = generator.data_encoder(
            torch.stack([tasks.draw_features(n, config.images_per_class) for n in chosen])
        )
        pick = [rows[arch][n][int(torch.randint(len(rows[arch][n]), ()))] for n in chosen]
        latents = ((codes[arch][pick] - generator.prior.latent_mean) / generator.prior.latent_std).flatten(1)
        left = F.normalize(project["data"](embedding), dim=1)
        right = F.normalize(project["latent"](latents), dim=1)
        logits = scale[0].exp().clamp_max(100) * left @ right.T
        target = torch.arange(len(chosen))
        contrast = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2 * (len(known) > 1)
        return {
            "contrastive": contrast,
            "regression": config.regression * F.mse_loss(predict[arch](embedding), latents),
        }

    own = nn.ModuleDict({"project": project, "predict": predict, "scale": scale})
    return Stage(
        config.steps,
        config.learning_rate,
        [*generator.data_encoder.parameters(), *own.parameters()],
        losses,
        extra=own,
        followed=[generator.data_encoder.standardise],
    )


@torch.no_grad()
def embeddings(generator: Generator, tasks: Tasks, draws: int) -> dict[str, Tensor]:
    """`draws` embeddings (draws, out) of each data set with checkpoints, each of another draw of its images."""
    generator.data_encoder.eval()
    per_class = generator.config.encoders.images_per_class
    return {
        name: generator.data_encoder(torch.stack([tasks.draw_features(name, per_class) for _ in range(draws)]))
        for name in tasks.with_checkpoints
    }


class Conditions:
    """Draws of both conditions for rows of the zoo, from embeddings made once: the encoder is frozen by now."""

    def __init__(self, generator: Generator, tasks: Tasks, draws: int = 64) -> None:
        self.drawn = embeddings(generator, tasks, draws)

    def draw(self, names: list[str], noise: float = 0.0) -> Tensor:
        """Embeddings (n, out) of data sets, which have variance 1 over data sets, with Gaussian noise."""
        rows = torch.stack([self.drawn[n][int(torch.randint(len(self.drawn[n]), ()))] for n in names])
        return rows + noise * torch.randn_like(rows)


def prior_stage(generator: Generator, tasks: Tasks, codes: dict[str, Latents], conditions: Conditions) -> Stage:
    """Stage 3. The averaged weights (EMA) are kept."""
    config = generator.config.prior
    return Stage(
        config.steps,
        config.learning_rate,
        list(generator.prior.parameters()),
        lambda _: _prior_losses(generator, tasks, codes, conditions, config.batch),
        followed=[generator.prior],
        ema=config.ema,
    )


def _prior_losses(
    generator: Generator, tasks: Tasks, codes: dict[str, Latents], conditions: Conditions, batch: int
) -> dict[str, Tensor]:
    where = [(arch, i) for arch, task in tasks.archs.items() for i in range(len(task.records))]
    chosen = [where[i] for i in torch.randint(len(where), (batch,)).tolist()]
    z = torch.stack([codes[arch][i] for arch, i in chosen])
    data = conditions.draw(
        [tasks.archs[arch].records[i].data for arch, i in chosen], generator.config.tune.condition_noise
    )
    return generator.prior.losses(z, data, torch.stack([tasks.archs[arch].vector for arch, _ in chosen]))
