"""Merges trained networks of one architecture into one, by the published methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from popgen.archs import ArchSpec
from popgen.errors import BadInput
from popgen.merging.adamerging import adamerging
from popgen.merging.fisher import fisher
from popgen.merging.given import Merged, MergeSettings, Merging, Score
from popgen.merging.names import NEEDS_BASE, NEEDS_IMAGES, NEEDS_SCORES, OF_PREDICTIONS, check_method
from popgen.merging.regmean import regmean
from popgen.merging.soups import greedy_soup, uniform_soup
from popgen.merging.vectors import dare, task_arithmetic, ties
from popgen.networks.threads import threads
from popgen.tasks import CLASSIFICATION
from popgen.types import Flat

_MERGES: dict[str, Callable[[Merging], Merged]] = {
    one.__name__: one for one in (uniform_soup, greedy_soup, task_arithmetic, ties, dare, regmean, fisher, adamerging)
}


def merge(
    method: str,
    spec: ArchSpec,
    experts: Flat,
    *,
    base: Tensor | None = None,
    inputs: Tensor | Sequence[Tensor] | None = None,
    validate: Score | None = None,
    seed: int = 0,
    settings: MergeSettings = MergeSettings(),  # noqa: B008 - it is frozen
) -> Merged:
    """Merge networks of one architecture, whose units correspond, into one network.

    Running statistics of batch norm are never merged as weights are: they are the average of the experts' statistics, or
    those of up to 2000 of the images, where images are given. The same arguments give the same weights to the last digit.

    Args:
        method: one of METHODS.
        experts: weights (n, p), n of 2 or more, aligned where they come from independent runs.
        base: weights (p,) that the experts were trained from, for NEEDS_BASE.
        inputs: prepared unlabelled images, of each expert's own data or one tensor for all, for NEEDS_IMAGES.
        validate: the score of weights (p,) on validation images, of which a higher one is better, for greedy soups, and
            to choose the scale of task vectors.
        seed: draws what DARE drops, the labels of large Fisher sums, and AdaMerging's batches.

    Raises:
        NotFound: there is no such method.
        BadInput: fewer than two experts, or something that the method needs is missing.

    >>> import torch
    >>> spec = ArchSpec.from_config("mlp-s")
    >>> merge("uniform_soup", spec, torch.stack([torch.zeros(spec.size), torch.ones(spec.size)])).weights.unique()
    tensor([0.5000])
    """
    check_method(method)
    check_task(method, spec)
    check_needs(method, len(experts), base is not None, inputs is not None, validate is not None)
    own = () if inputs is None else (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    if len(own) not in (0, 1, len(experts)):
        raise BadInput(
            f"there are images of {len(own)} data sets for {len(experts)} experts",
            "images are of each expert's own data, or the same for all",
            "Give as many as experts, or one.",
        )
    with threads(1):
        return _MERGES[method](Merging(spec, experts, base, own, validate, seed, settings))


def check_task(method: str, spec: ArchSpec) -> None:
    """Refuse a method that reads predictions for networks that have none.

    Raises:
        BadInput: the network is no classifier, or its head is made of phrases and the classes are not known.
    """
    if method not in OF_PREDICTIONS:
        return
    if spec.is_adapter and spec.config.options["head"] == "phrases" and not spec.config.options["phrases"]:
        raise BadInput(
            f"{method} cannot merge adapters for data sets of several lists of classes",
            "it reads the predictions of classes, and these heads are made of the phrases of one data set",
            "Name one data set, or take another method: task_arithmetic, ties, dare, regmean, or a soup.",
        )
    if spec.config.task != CLASSIFICATION:
        raise BadInput(
            f"{method} cannot merge {spec.name!r}, whose task is {spec.config.task}",
            "it reads the predictions of classes",
            "Take another method: task_arithmetic, ties, dare, regmean, or a soup.",
        )


def check_needs(method: str, experts: int, base: bool, images: bool, scores: bool) -> None:
    """Refuse a method that lacks what it needs.

    Args:
        experts: their number.
        base, images, scores: whether there is a base, unlabelled images, and labelled validation images.

    Raises:
        BadInput: what is missing.
    """
    if experts < 2:
        raise BadInput(f"there are {experts} experts to merge", "a merge takes two or more", "Name more.")
    if method in NEEDS_BASE and not base:
        raise BadInput(
            f"{method} needs a base",
            "it adds up the experts' differences from the network that they were trained from",
            "Name it with --base, or take a method without one: uniform_soup, greedy_soup, regmean, fisher.",
        )
    if method in NEEDS_IMAGES and not images:
        raise BadInput(
            f"{method} needs images, which may be unlabelled",
            "it measures the experts on them",
            "Name a data set with --data.",
        )
    if method in NEEDS_SCORES and not scores:
        raise BadInput(
            f"{method} needs labelled validation images",
            "it keeps an expert if the score is not worse with it",
            "Name a data set with labels with --data.",
        )
