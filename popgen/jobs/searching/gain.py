"""The gain of a search without labels over the network that it started from; the start is given back where there is none.

Candidates are compared by the same images that the gain is measured on, so that the gain of the best of many is flattered. This is
why it has to be above zero by two standard errors, see popgen/fitness/information.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from popgen.fitness import Fitness, Scored, scores_of
from popgen.fitness.information import STANDARD_ERRORS, information_gain, is_gain


@dataclass(frozen=True)
class GainOverStart:
    """The gain in mutual information over the start and its standard error, in nats, and the start's name."""

    start: str
    gain: float
    error: float

    @property
    def is_kept(self) -> bool:
        """Whether the start is given back."""
        return not is_gain(self.gain, self.error)

    def text(self) -> str:
        """Return a line for people.

        >>> print(GainOverStart("mean", 0.2, 0.05).text())
        gain in mutual information over the start (mean): 0.200 ± 0.050 nats
        >>> print(GainOverStart("mean", 0.05, 0.05).text())
        gain in mutual information over the start (mean): 0.050 ± 0.050 nats; not above 2 standard errors, so the start is the result
        """
        kept = f"; not above {STANDARD_ERRORS:g} standard errors, so the start is the result" if self.is_kept else ""
        return (
            f"gain in mutual information over the start ({self.start}): {self.gain:.3f} ± {self.error:.3f} nats{kept}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the keys in result.json."""
        return {"start": self.start, "gain": self.gain, "standard_error": self.error, "start_is_kept": self.is_kept}


def gain_over_start(fitness: Fitness, start: Tensor, name: str, best: Scored) -> tuple[Scored, GainOverStart | None]:
    """Return the network to give back, and its gain; no gain where the start cannot be scored.

    Args:
        start: weights (p,) before they are finished; they are finished as the candidates were.
        name: the start's name.
        best: the best candidate.
    """
    scored = [one for one in scores_of(fitness, [start]) if one.outputs.isfinite().all()]
    if not scored:
        return best, None
    gain = GainOverStart(name, *information_gain(scored[0].outputs, best.outputs))
    return (scored[0] if gain.is_kept else best), gain
