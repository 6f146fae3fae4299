"""What fine-tuning gained over the search's best as it was, with standard errors, and which network is the result."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from popgen.fitness import Scored
from popgen.fitness.information import STANDARD_ERRORS, is_gain, mean_and_error
from popgen.fitness.loss import image_losses

SEARCH = "search"  # the row of the search's best


@dataclass(frozen=True)
class How:
    """A training: its learning rate and augmentation, and the share of the way from the start to its end that was kept."""

    rate: float
    augment: str = "none"
    share: float = 1.0

    @property
    def text(self) -> str:
        """The training in words.

        >>> How(0.03).text, How(0.1, "flip-crop", 0.5).text
        ('at learning rate 0.03', 'at learning rate 0.1 on mirrored and shifted images, 50 % of the way')
        """
        augmented = "" if self.augment == "none" else " on mirrored and shifted images"
        share = "" if self.share == 1 else f", {100 * self.share:g} % of the way"
        return f"at learning rate {self.rate:g}{augmented}{share}"


@dataclass(frozen=True)
class Gain:
    """The gain of training from a start over the search's best without training: in accuracy (0 to 1) and loss, each with its standard error."""

    start: str  # the row of the start
    how: How  # what did best
    gain: float
    error: float
    loss_gain: float
    loss_error: float

    @classmethod
    def of(cls, start: str, how: How, after: Scored, before: Scored) -> Gain:
        """The gain of the network `after` over `before` on the same held-out examples."""
        right = [(one.outputs.argmax(1) == one.targets).double() for one in (after, before)]
        return cls(start, how, *mean_and_error(right[0] - right[1]), *_loss_gain(after, before))

    @property
    def name(self) -> str:
        """The start in words."""
        return {
            SEARCH: "the best of the search",
            "best_zoo": "the best checkpoint",
            "frozen": "zero",
            "random": "a random start",
        }.get(self.start, self.start)


@dataclass(frozen=True)
class Outcome:
    """The gains from all starts; the result is the network with the lowest loss, trained or not."""

    judge: str  # the examples that decide, in words
    epochs: int
    gains: tuple[Gain, ...]

    @property
    def chosen(self) -> Gain | None:
        """The start whose training gives the result; None where the untrained winner does."""
        best = max(self.gains, key=lambda one: one.loss_gain, default=None)
        return best if best is not None and best.loss_gain > 0 else None

    @property
    def result(self) -> str:
        """The row of the result."""
        return SEARCH if self.chosen is None else tuned_name(self.chosen.start)

    def text(self) -> str:
        """Return a line for people.

        >>> found = Gain("search", How(0.03), 0.031, 0.006, 0.2, 0.02), Gain("best_zoo", How(0.03), 0.028, 0.007, 0.15, 0.02)
        >>> print(Outcome("584 validation images", 5, found).text())
        by 584 validation images, fine-tuning (5 epochs) from the best of the search gained 3.1 ± 0.6 points over it as it was, from the best checkpoint 2.8 ± 0.7; the result is finetuned_search, whose loss is lower by 0.200 ± 0.020
        >>> print(Outcome("40 training images", 5, (Gain("search", How(0.003), 0.0, 0.04, -0.01, 0.05),)).text())
        by 40 training images, fine-tuning (5 epochs) from the best of the search gained 0.0 ± 4.0 points over it as it was; it does not help, and the best of the search is the result
        """
        if not self.gains:
            return "no start could be fine-tuned, and the best of the search is the result"
        order = sorted(self.gains, key=lambda one: one.start != SEARCH)
        said = [f"from {one.name} {100 * one.gain:.1f} ± {100 * one.error:.1f}" for one in order]
        over = "over it as it was" if order[0].start == SEARCH else "over the best of the search"
        first = said[0].replace(f"from {order[0].name}", f"from {order[0].name} gained") + f" points {over}"
        gained = ", ".join([first, *said[1:]])
        head = f"by {self.judge}, fine-tuning ({self.epochs} epoch{'' if self.epochs == 1 else 's'}) {gained}"
        best = self.chosen
        if best is None:
            return f"{head}; it does not help, and the best of the search is the result"
        sure = "" if best.loss_gain > STANDARD_ERRORS * best.loss_error else ", which is not beyond chance"
        return f"{head}; the result is {self.result}, whose loss is lower by {best.loss_gain:.3f} ± {best.loss_error:.3f}{sure}"

    def to_json(self) -> dict[str, Any]:
        """The keys in result.json."""
        starts = [{**_flat(asdict(one)), "row": tuned_name(one.start)} for one in self.gains]
        return {
            "result": self.result,
            "judge": self.judge,
            "epochs": self.epochs,
            "starts": starts,
            "text": self.text(),
        }


def is_clearly_better(one: Scored, than: Scored) -> bool:
    """Whether a network has the lower loss on the same examples by more than a standard error, or the other one's is not finite."""
    if not math.isfinite(than.loss):
        return math.isfinite(one.loss)
    return is_gain(*_loss_gain(one, than), errors=1.0)


def _loss_gain(after: Scored, before: Scored) -> tuple[float, float]:
    losses = [image_losses(one.outputs, one.targets).double() for one in (before, after)]
    return mean_and_error(losses[0] - losses[1])


def _flat(gain: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in gain.items() if key != "how"} | gain["how"]


def tuned_name(start: str) -> str:
    """The row of a start after training.

    >>> tuned_name("search"), tuned_name("best_zoo"), tuned_name("frozen")
    ('finetuned_search', 'finetuned_zoo', 'finetuned_frozen')
    """
    return f"finetuned_{start.removeprefix('best_')}"
