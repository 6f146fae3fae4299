"""The gain of an adapter over its frozen base, by the labels that chose it; the base is given back where it is not above its error.

Every example's loss under the one is paired with its loss under the other. Where few labels are all there are, the losses are
those of leaving each example out, so that a head fitted to the others is judged by it; the best of many candidates is still
flattered, which the error does not say.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from popgen.fitness import Scored
from popgen.fitness.information import is_gain, mean_and_error
from popgen.fitness.loss import image_losses

_ERRORS = 1.0  # standard errors by which the gain must be above zero


@dataclass(frozen=True)
class GainOverBase:
    """The mean gain in loss over the frozen base with its standard error, both accuracies, and the number of labels."""

    gain: float
    error: float
    accuracy: float
    base_accuracy: float
    labels: int
    origin: str

    @classmethod
    def of(cls, best: Scored, base: Scored, origin: str) -> GainOverBase:
        """The gain of the best candidate, which came from `origin`, over the base."""
        paired = image_losses(base.outputs, base.targets) - image_losses(best.outputs, best.targets)
        gain, error = mean_and_error(paired.double())
        return cls(gain, error, best.score, base.score, len(paired), origin)

    @property
    def is_base_kept(self) -> bool:
        """Whether the base is given back."""
        return not is_gain(self.gain, self.error, _ERRORS)

    def text(self) -> str:
        """Return a line for people.

        >>> print(GainOverBase(0.2, 0.05, 0.9, 0.8, 64, "words@1").text())
        chosen by 64 labels: words@1, accuracy 0.900 where the frozen base has 0.800; gain in loss 0.200 ± 0.050
        """
        kept = ": within its error, so the frozen base is given back" if self.is_base_kept else ""
        return (
            f"chosen by {self.labels} labels: {self.origin}, accuracy {self.accuracy:.3f} where the frozen base has "
            f"{self.base_accuracy:.3f}; gain in loss {self.gain:.3f} ± {self.error:.3f}{kept}"
        )

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON types."""
        return asdict(self)
