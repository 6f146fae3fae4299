"""Codes fitted by gradient: the decoder is frozen, and each checkpoint's latent moves to where it decodes best.

The encoder is one network for all checkpoints. A few steps of Adam on a single latent close part of the gap between its
answer and the best latent (the amortisation gap: Cremer et al., arXiv 1801.03558). They cannot recover what the decoder
is unable to express.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.data import DataSet
from popgen.errors import BadInput
from popgen.generator.generator import Generator
from popgen.networks.forward import distillation_losses, network_outputs
from popgen.types import Flat, Images, Labels, Latents

_NEAR_WEIGHTS, _NEAR_START = 1e-3, 1e-3  # weights of squared distances, means over coordinates; they break ties
_TOGETHER = 16  # networks that are optimised at a time, which bounds memory; each has its own optimum


@dataclass(frozen=True)
class CodeFit:
    """Settings of the optimisation of codes.

    The weights of the loss are those of three pairs that lost least in examples/bench/retrieval.py on the digits, by
    test accuracy. With the divergence alone the residual network lost accuracy: its labels are right, and this decoder
    cannot follow its outputs.

    Attributes:
        steps: steps of Adam.
        learning_rate: initial rate of Adam, in units of the latents' standard deviation; it falls to zero linearly.
        images: training images of each data set, at most.
        distil: weight of the divergence from the original network's outputs.
        labels: weight of the cross-entropy.
        seed: seed of the draw of images.
    """

    steps: int = 40
    learning_rate: float = 0.05
    images: int = 500
    distil: float = 1.0
    labels: float = 1.0
    seed: int = 0


def fit_codes(
    generator: Generator,
    arch: str,
    weights: Flat,
    data: Sequence[DataSet],
    start: Latents | None = None,
    settings: CodeFit = CodeFit(),
) -> Latents:
    """Return codes (n, k, d) of the networks `weights` (n, p); on one thread the same for the same arguments.

    The loss is computed on a fixed draw of training images. It is the decoded network's cross-entropy, its divergence
    from the original's outputs, and small squared distances from the original's normalised weights and from the start.
    The code with the lowest loss is returned, so on those images none is worse than its start.

    Args:
        data: for each network the data set that it was trained on; only its training split is used.
        start: initial codes (n, k, d); None: `generator.encode`.

    Raises:
        NotFound: the generator was not trained on `arch`.
        BadInput: the numbers of data sets and networks differ.

    >>> from popgen.data import load_data
    >>> generator = Generator.from_pretrained("digits")
    >>> _, code = generator.stored("mlp-s", "digits/invert")[0]
    >>> weights = generator.decode("mlp-s", code[None])
    >>> fit_codes(generator, "mlp-s", weights, [load_data("digits/invert")], settings=CodeFit(steps=1)).shape
    torch.Size([1, 4, 8])
    """
    spec = generator.spec(arch)
    if len(data) != len(weights):
        raise BadInput(
            f"{len(weights)} networks of {arch!r}, {len(data)} data sets",
            "the code of each network is fitted on the images it was trained on",
            "Give one data set for each network.",
        )
    start = generator.encode(arch, weights) if start is None else start
    drawn = {one.name: _draw(spec, one, settings) for one in {one.name: one for one in data}.values()}
    codes = []
    for rows in torch.arange(len(weights)).split(_TOGETHER):
        images = [drawn[data[i].name] for i in rows.tolist()]
        specs = [spec.for_classes(data[i].label_phrases) for i in rows.tolist()]
        losses = _losses(generator, specs, weights[rows], start[rows], images, settings)
        codes.append(_minimise(losses, start[rows], settings))
    return torch.cat(codes) if codes else start


def _draw(spec: ArchSpec, data: DataSet, settings: CodeFit) -> tuple[Images, Labels]:
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(settings.seed))
    chosen = data.train.take(order[: settings.images])
    return spec.config.inputs.prepare(chosen.inputs), chosen.targets


def _losses(
    generator: Generator,
    specs: list[ArchSpec],
    weights: Flat,
    start: Latents,
    images: list[tuple[Images, Labels]],
    settings: CodeFit,
) -> Callable[[Latents], Tensor]:
    """Return the function that computes the loss (n,) of codes (n, k, d)."""
    name = specs[0].name
    scaling = generator.scalings[name]
    x = scaling.normalise(weights)
    with torch.no_grad():
        batches = [(i, network_outputs(one, w, i), y) for one, w, (i, y) in zip(specs, weights, images, strict=True)]

    def losses(code: Latents) -> Tensor:
        decoded = generator.vae.decode(generator.moved[name], generator.unstandardise(name, code))
        behaviour = distillation_losses(specs, scaling.denormalise(decoded), batches, settings.distil, settings.labels)
        near = _NEAR_WEIGHTS * (decoded - x).square().mean(1)
        return behaviour + near + _NEAR_START * (code - start).square().mean((1, 2))

    return losses


def _minimise(losses: Callable[[Latents], Tensor], start: Latents, settings: CodeFit) -> Latents:
    """Return the codes with the lowest losses that Adam meets."""
    code = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([code], lr=settings.learning_rate)
    best, lowest = start.clone(), torch.full((len(start),), torch.inf)
    for step in range(settings.steps + 1):
        with torch.enable_grad():
            loss = losses(code)
            (gradient,) = torch.autograd.grad(loss.sum(), code)
        better = loss.detach() < lowest
        best[better], lowest[better] = code.detach()[better], loss.detach()[better]
        code.grad = torch.nan_to_num(gradient)
        optimizer.param_groups[0]["lr"] = settings.learning_rate * (1 - step / (settings.steps + 1))
        optimizer.step()
    return best
