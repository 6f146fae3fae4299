"""The rivals of a Pareto front: networks that a careful user would try against several objectives without a search.

Each is a function that gives weights with a word on their origin; all of them are finished and scored as the search's candidates are, except
trained ones, which are finished already. The front of a rival is what its networks hold that no other of them dominates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from popgen.baselines.rivals import RivalInputs, noisy
from popgen.baselines.trained import Training
from popgen.data import Part
from popgen.types import Flat

REPEATS = (1, 2, 4, 8)  # how often an image of a small group is shown for one of the largest group
Candidates = Iterator[tuple[str, Tensor]]  # the origin of each network, and its weights (p,)


def noise_around(given: RivalInputs, networks: Flat, names: Sequence[str]) -> Candidates:
    """Noise of several sizes around each of some networks (n, p) in turn, as many tries as the search had evaluations."""
    streams = [noisy(given.spec, flat, given.seed + i) for i, flat in enumerate(networks)]
    for i in range(given.tries if streams else 0):
        yield f"noise:{names[i % len(streams)]}", next(streams[i % len(streams)])


def mixtures(given: RivalInputs, ends: Flat, names: Sequence[str]) -> Candidates:
    """Weighted means of networks (n, p), as many as the search had evaluations: evenly spaced on a line, or drawn among more.

    One network has no mixtures.
    """
    if len(ends) < 2:
        return
    if len(ends) == 2:
        second = torch.linspace(0, 1, given.tries)
        weights = torch.stack([1 - second, second], dim=1)
    else:
        draws = torch.Generator().manual_seed(given.seed)
        weights = torch.rand(given.tries, len(ends), generator=draws).log().neg()  # exponential: uniform on the simplex
        weights = weights / weights.sum(1, keepdim=True)
    for row in weights:
        yield f"mixture:{'+'.join(f'{w:.2f}*{name}' for w, name in zip(row.tolist(), names, strict=True))}", row @ ends


def reweighted(given: RivalInputs, start: Tensor, looked_at: int) -> Candidates:
    """The network `start` (p,), finished, trained on with images of the smaller groups shown 1, 2, 4 and 8 times as often.

    Repetition stands for the weight of a group in the loss. The trainings share the search's image passes, less `looked_at`
    evaluations; a training image costs three. Without groups of training images, or passes for a batch, there is none.
    """
    part = given.data.train
    if part.groups is None:
        return
    for times in REPEATS:
        data = replace(given.data, train=repeated(part, times))
        share = replace(given, data=data, evaluations=(given.evaluations - looked_at) / len(REPEATS))
        training = Training.of(share, 0)
        if training is not None:
            yield f"reweighted:{times}", training.run(share, start)


def repeated(part: Part, times: int) -> Part:
    """The split with each example that is not of the largest group `times` times.

    >>> part = Part(torch.zeros(4, 1), torch.arange(4), torch.tensor([0, 0, 0, 1]))
    >>> repeated(part, 3).targets.tolist()
    [0, 1, 2, 3, 3, 3]
    """
    assert part.groups is not None, "only examples with groups are repeated"
    largest = part.groups.bincount().argmax()
    counts = torch.where(part.groups == largest, 1, times)
    return part.take(torch.arange(len(part)).repeat_interleave(counts))
