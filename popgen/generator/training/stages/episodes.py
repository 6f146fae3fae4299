"""Stage 7: directions from each base are trained by what networks do after a head was fitted to a few images of a task.

The head is solved in closed form inside the loss (R2-D2: Bertinetto et al., Meta-learning with differentiable closed-form solvers,
arXiv 1805.08136). Networks stand at the end of the directions or anywhere between it and the base, so that all of this line is trained,
from which the labels of a user's data set choose. Every few steps the directions stay, and the embedding of a task's images learns to
propose how far its network goes along each, as in CNAPs (Requeima et al., arXiv 1906.07697), on classes that the directions never
see: proposals for the same classes went too far for new ones. Trained together with the directions, proposals shrank for the
data that the bases were trained on, and the directions of those groups of layers hardly learned: with 20 labels a class networks
gained 2.3 points over the base instead of 4.1, half of the way. The loss of an ordinary classifier beside that of the queries took
1.2 points away there (examples/results/few_labels.md).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from popgen.archs import ArchSpec
from popgen.generator.generator import Generator
from popgen.generator.training.arch_sampler import ArchSampler
from popgen.generator.training.episodes.data import EpisodeData
from popgen.generator.training.stage import Stage
from popgen.networks.episodes import ridge_loss
from popgen.networks.forward import network_features

_PENALTY, _SCALE = 1.0, 8.0  # first values of the head's penalty and scale, which are learned
_FASTER = 20.0  # factor of the learning rate of their logarithms
_PROPOSED = 4  # one step of so many trains what conditions propose, with the directions as they are
_CONDITIONS = 8  # episodes whose embeddings are standardised together there; the first is scored


class _Heads(nn.Module):
    """The logarithms of the penalty and the scale of an architecture's heads, in units in which they are learned faster."""

    def __init__(self) -> None:
        super().__init__()
        self.logs = nn.Parameter(torch.tensor([math.log(_PENALTY), math.log(_SCALE)]) / _FASTER)

    def forward(self) -> Tensor:
        """Return penalty and scale (2,)."""
        return (_FASTER * self.logs).exp()


def episodes_stage(generator: Generator, data: EpisodeData) -> Stage:
    """Make the stage. A data set encoder that was trained before stays as it is."""
    config, device = generator.config.episodes, generator.latent_mean.device
    specs = {spec.fingerprint: spec for spec in generator.specs.values()}
    sampler = ArchSampler(list(generator.specs))
    heads = nn.ModuleDict({name: _Heads() for name in specs})
    classifiers = nn.ModuleDict({name: _classifier(spec, data.count) for name, spec in specs.items()})
    starts = {
        arch: [(one.base.to(device), one.directions) for one in generator.starts(arch)] for arch in generator.specs
    }
    trains_encoder = not generator.has_latents

    def losses(step: int) -> dict[str, Tensor]:
        spec = generator.spec(sampler.draw())
        proposes = step % _PROPOSED == 0
        episodes = [data.draw_kept_back() for _ in range(_CONDITIONS)] if proposes else [data.draw()]
        base, directions = starts[spec.name][_any(len(starts[spec.name]))]
        if proposes:
            with torch.set_grad_enabled(trains_encoder):
                embeddings = generator.data_encoder(torch.stack([one.features for one in episodes]).to(device))
            flat = directions.weights(base, directions.propose(embeddings)[0])
        else:
            share = 1.0 if step % 2 else float(torch.rand((), device="cpu"))
            flat = directions.line(base, _any(len(directions.steps)), share)
        episode, (penalty, scale) = episodes[0], heads[spec.fingerprint]()
        features = _features(spec, flat, [images.to(device) for images in episode.inputs])
        with torch.autocast(device.type, enabled=False):
            labels, classes = episode.labels.to(device), int(episode.labels.max()) + 1
            loss = ridge_loss(features, labels, episode.support, classes, penalty, scale)
            guesses = classifiers[spec.fingerprint](features.float())
            named = F.cross_entropy(guesses, episode.identities.to(device))
        sampler.record(spec.name, loss)
        return {"queries": config.queries * loss, "classes": (not proposes) * config.classification * named}

    parameters = [*generator.directions.parameters(), *heads.parameters(), *classifiers.parameters()]
    if trains_encoder:
        generator.data_encoder.train()
        parameters += list(generator.data_encoder.parameters())
    return Stage(
        config.steps,
        config.learning_rate,
        parameters,
        losses,
        extra=nn.ModuleDict({"sampler": sampler, "heads": heads, "classifiers": classifiers}),
        statistics=[sampler, generator.data_encoder.standardise] if trains_encoder else [sampler],
    )


def _any(count: int) -> int:
    return int(torch.randint(count, (), device="cpu"))


def _classifier(spec: ArchSpec, classes: int) -> nn.Linear:
    """Return a head over the classes of all data sets, which begins at zero."""
    shape = {t.name: t.shape for t in spec.tensors}[f"{spec.head}.weight"]
    head = nn.Linear(shape[1], classes)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


def _features(spec: ArchSpec, flat: Tensor, batches: list[Tensor]) -> Tensor:
    """Features (n, f) of all images of batches by the network with weights `flat` (p,); differentiable."""
    inputs = torch.cat([spec.config.inputs.prepare(images) for images in batches])
    if inputs.dim() == 4:
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    return network_features(spec, flat, inputs, differentiable=True)
