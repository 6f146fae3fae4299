"""The space of networks that adaptation chooses in: the base, the line to the robust network, and what the condition adds.

With the base b, the robust network r (the base fine-tuned on many shifts at once), the network g that was generated under the
condition and the network a that was generated for the average data set, a point is b + along (r - b) + generated (g - b) +
average (a - b). The base is at the origin, so that nothing that is chosen need be worse. Averages of networks that were
fine-tuned from one base are good networks (Wortsman et al., arXiv 2109.01903).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import torch
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.weights import Scaling

LINE = (0.25, 0.5, 0.75, 1.0)  # shares of the way from the base to the robust network
_ALONE = (0.5, 1.0)  # shares of the way from the base to a generated network
_BETWEEN = (
    (0.25, 0.75),
    (0.5, 0.5),
    (0.5, 0.75),
    (0.75, 0.5),
)  # shares of the ways to the robust and a generated network


@dataclass(frozen=True)
class Point:
    """Coordinates of a network; (0, 0, 0) is the base, (1, 0, 0) the robust network, and (0, 1, 0) the generated one."""

    along: float = 0.0
    generated: float = 0.0
    average: float = 0.0  # the share of the way to the network that was generated for the average data set

    @property
    def is_on_line(self) -> bool:
        """Whether nothing generated has a part in it."""
        return not (self.generated or self.average)

    @classmethod
    def mean(cls, points: Sequence[Point]) -> Point:
        """The point in the middle of several.

        >>> Point.mean([Point(1.0), Point(0.0, 0.5)])
        Point(along=0.5, generated=0.25, average=0.0)
        """
        return cls(*torch.tensor([astuple(point) for point in points], dtype=torch.float64).mean(0).tolist())

    def text(self) -> str:
        """The point in words.

        >>> Point().text(), Point(1.0).text(), Point(0.0, 1.0).text(), Point(0.5, 0.75).text()
        ('base', 'robust', 'generated', 'base + .5 robust + .75 generated')
        """
        names = ("robust", "generated", "generated for the average")
        corners = {coordinates: name for coordinates, name in zip(_CORNERS, ("base", *names), strict=True)}
        if astuple(self) in corners:
            return corners[astuple(self)]
        parts = zip(astuple(self), names, strict=True)
        return " + ".join(["base", *(f"{_short(share)} {name}" for share, name in parts if share)])


_CORNERS = ((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


@dataclass(frozen=True)
class PointDecoder:
    """Weights of points. Networks are combined where variances are logarithms, so that all variances stay positive."""

    spec: ArchSpec
    scaling: Scaling
    base: Tensor  # (p,)
    robust: Tensor | None  # (p,); None: there is none, and no point has a share of it
    generated: Tensor  # (p,), under the condition
    average: Tensor  # (p,), for the average data set

    def weights(self, point: Point) -> Tensor:
        """Return the weights (p,) of a point; those of the four networks themselves are exact."""
        networks = (self.robust, self.generated, self.average)
        for coordinates, flat in zip(_CORNERS, (self.base, *networks), strict=True):
            if coordinates == astuple(point) and flat is not None:
                return flat
        scaling = self.scaling.of_all()
        x = base = scaling.normalise(self.base[None])
        for share, flat in zip(astuple(point), networks, strict=True):
            if share and flat is not None:
                x = x + share * (scaling.normalise(flat[None]) - base)
        return scaling.denormalise(x)[0]

    def points(self) -> list[Point]:
        """Return the points that are compared, the base first."""
        found = [Point()] + [Point(along) for along in LINE if self.robust is not None]
        ways = [(0.0, added) for added in _ALONE] + [way for way in _BETWEEN if self.robust is not None]
        return (
            found + [Point(along, added) for along, added in ways] + [Point(along, 0.0, added) for along, added in ways]
        )


def _short(value: float) -> str:
    text = f"{value:.2g}"
    return text.removeprefix("0") if "." in text else text
