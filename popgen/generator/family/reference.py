"""Where a generator's training data sets lie among image features, and how far from them another data set is.

A data set is summed up by the mean and the standard deviation of its image features. Its distance is what the best mixture of
the training data sets leaves of this summary: the predictive standard deviation of a Gaussian process with a linear kernel
(Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, section 2.1). A mixture counts as near because
generators combine what they know, for example inversion and a rotation. Each training data set's own distance is measured
in the same way with itself left out, and calibrates that of a new one.

The learned embeddings of data sets were tried, too, and see less: they were trained to tell known data sets apart, and put
others among them (examples/results/outside.md). Generators of earlier versions have nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from popgen.errors import BrokenFile, brief
from popgen.files import write_tensors

FILE = "family.safetensors"
LEAST = 3  # data sets from which a spread can be told
_RIDGE = 0.1  # noise of the process, as a share of the mean squared distance of a training data set from their mean
# A data set is told to be far above so many times the median own distance of a training data set, where so large a share of
# them is nearer. Both were chosen on the digits in examples/bench/outside.py.
FAR, SHARE = 1.5, 0.99
_TINY = 1e-12  # in place of a squared length of zero
Measure = Literal["images", "embedding"]


@dataclass(frozen=True)
class Distance:
    """The distance of a data set from the training data sets, beside their own distances from each other.

    Attributes:
        measure: what was compared, features of images or learned embeddings.
        ratio: the distance over the training data sets' median distance from the others.
        share: the share of the training data sets that are nearer to the others, 0 to 1.
        data_sets: the number of training data sets.
    """

    measure: Measure
    ratio: float
    share: float
    data_sets: int

    @property
    def is_far(self) -> bool:
        """Whether the data set is told to be outside the family."""
        return self.ratio > FAR and self.share >= SHARE


@dataclass(frozen=True)
class Reference:
    """Summaries or embeddings (n, width) of three or more training data sets."""

    points: Tensor
    measure: Measure

    def distance(self, point: Tensor, noise: float = 0.0) -> Distance:
        """Return the distance of a data set.

        Args:
            point: its summary or embedding (width,).
            noise: the expected squared error of `point`, because it is measured on a few images. It is added to the
                training data sets' own squared distances, so that a small data set is not far for its size.
        """
        own = self.own_squares() + noise
        value = self.squared_distance(point)
        ratio = (value / own.median().clamp_min(_TINY)).sqrt()
        return Distance(self.measure, float(ratio), float((own < value).double().mean()), len(own))

    def squared_distance(self, point: Tensor) -> Tensor:
        """Return the squared distance of a point (width,) from the mixtures of the training data sets.

        Shares a of the differences from their mean are chosen to minimise |point - mean - a differences|^2 + s |a|^2, where
        s is a tenth of the mean squared length of a difference; the minimum is the squared distance.

        >>> line = Reference(torch.tensor([[0.0, 0.0], [2.0, 0.0], [4.0, 0.0]]), "images")
        >>> between, aside = line.squared_distance(torch.tensor([3.0, 0.0])), line.squared_distance(torch.tensor([3.0, 3.0]))
        >>> round(float(between), 2), round(float(aside), 2)
        (0.03, 9.03)
        """
        centred, noise = self._centred()
        target = point.double() - self.points.double().mean(0)
        seen = centred @ target
        eye = torch.eye(len(centred), dtype=torch.float64)
        return (target @ target - seen @ torch.linalg.solve(centred @ centred.T + noise * eye, seen)).clamp_min(0)

    def own_squares(self) -> Tensor:
        """Return the squared distance (n,) of each training data set from the mixtures of the others.

        All come from one inverse (Dubrule, Cross validation of kriging in a unique neighborhood, 1983).
        """
        centred, noise = self._centred()
        n = len(centred)
        system = torch.ones(n + 1, n + 1, dtype=torch.float64)
        system[:n, :n] = centred @ centred.T + noise * torch.eye(n, dtype=torch.float64)
        system[n, n] = 0
        return (1 / torch.linalg.inv(system).diagonal()[:n] - noise - noise / (n - 1)).clamp_min(0)

    def _centred(self) -> tuple[Tensor, Tensor]:
        """The differences (n, width) from the mean, and the noise s of the process."""
        centred = self.points.double() - self.points.double().mean(0)
        return centred, (_RIDGE * centred.square().sum(1).mean()).clamp_min(_TINY)


def summary(features: Tensor) -> tuple[Tensor, float]:
    """Return the mean and the standard deviation (2 dim,) of image features (n, dim), and their expected squared error.

    The error is the variance over n for the mean and half of it for the standard deviation, as for a normal distribution.

    >>> summary(torch.tensor([[0.0], [2.0]]))
    (tensor([1., 1.]), 0.75)
    """
    features = features.detach().float().cpu()
    spread = features.std(0, correction=0)
    return torch.cat([features.mean(0), spread]), float(1.5 * spread.square().sum() / len(features))


def write_reference(reference: Reference | None, folder: Path) -> None:
    """Write the summaries into a generator's folder; nothing is written where there are none."""
    if reference is not None:
        write_tensors(folder / FILE, {"summaries": reference.points.half()})


def read_reference(folder: Path, dim: int) -> Reference | None:
    """Read the summaries of a generator's folder; folders of earlier versions have none.

    Args:
        dim: the length of an image's feature vector.

    Raises:
        BrokenFile: the file is truncated, or its summaries have another length.
    """
    file = folder / FILE
    if not file.exists():
        return None
    try:
        points = load_file(file)["summaries"].float()
        if points.dim() != 2 or points.shape[1] != 2 * dim or not points.isfinite().all():
            raise ValueError(f"the summaries are not lists of {2 * dim} finite numbers")
        return Reference(points, "images")
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        todo = "Delete it: distances are then measured by the learned embeddings."
        raise BrokenFile(f"{file} cannot be read", brief(error), todo) from error
