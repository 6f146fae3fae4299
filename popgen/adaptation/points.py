"""The space of networks that adaptation chooses in: the base, the line to the robust network, and what the condition adds.

With the base b, the robust network r (the base fine-tuned on many shifts at once) and the network g that was generated under
the condition, a point is b + along (r - b) + added (g - b). The base is at the origin, so that nothing that is chosen need be
worse. Averages of networks that were fine-tuned from one base are good networks (Wortsman et al., arXiv 2109.01903).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from popgen.archs import ArchSpec
from popgen.weights import Scaling

LINE = (0.25, 0.5, 0.75, 1.0)  # shares of the way from the base to the robust network
_ALONE = (0.5, 1.0)  # shares of the way from the base to the generated network
_BETWEEN = ((0.25, 0.75), (0.5, 0.5), (0.5, 0.75), (0.75, 0.5))  # shares of both ways


@dataclass(frozen=True)
class Point:
    """Coordinates of a network; (0, 0) is the base, (1, 0) the robust network, and (0, 1) the generated one."""

    along: float = 0.0
    added: float = 0.0
    strength: float = 1.0  # the generated network's condition has this strength

    def text(self) -> str:
        """The point in words.

        >>> Point().text(), Point(1.0).text(), Point(0.0, 1.0).text(), Point(0.5, 0.75).text()
        ('base', 'robust', 'generated', 'base + .5 robust + .75 generated')
        """
        if (self.along, self.added) in ((0, 0), (1, 0)):
            return "robust" if self.along else "base"
        of = "generated" if self.strength == 1 else f"generated at strength {_short(self.strength)}"
        if (self.along, self.added) == (0, 1):
            return of
        parts = [(self.along, "robust"), (self.added, of)]
        return " + ".join(["base", *(f"{_short(share)} {name}" for share, name in parts if share)])


@dataclass(frozen=True)
class PointDecoder:
    """Weights of points. Networks are combined where variances are logarithms, so that all variances stay positive."""

    spec: ArchSpec
    scaling: Scaling
    base: Tensor  # (p,)
    robust: Tensor | None  # (p,); None: there is none, and the points have no share of it
    generated: Mapping[float, Tensor]  # weights (p,) generated under the condition, by its strength

    def weights(self, point: Point) -> Tensor:
        """Return the weights (p,) of a point; those of the base, the robust and the generated network are exact."""
        corners = {(0.0, 0.0): self.base, (1.0, 0.0): self.robust, (0.0, 1.0): self.generated.get(point.strength)}
        corner = corners.get((point.along, point.added))
        if corner is not None:
            return corner
        base = self.scaling.normalise(self.base[None])
        x = base
        for share, flat in ((point.along, self.robust), (point.added, self.generated.get(point.strength))):
            if flat is not None:
                x = x + share * (self.scaling.normalise(flat[None]) - base)
        return self.scaling.denormalise(x)[0]

    def points(self) -> list[Point]:
        """Return the points that are compared, the base first."""
        found = [Point()] + [Point(along) for along in LINE if self.robust is not None]
        for strength in self.generated:
            found += [Point(0.0, added, strength) for added in _ALONE]
            found += [Point(along, added, strength) for along, added in _BETWEEN if self.robust is not None]
        return found


def _short(value: float) -> str:
    text = f"{value:g}"
    return text.removeprefix("0") if "." in text else text
