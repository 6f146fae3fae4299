"""What a user is told of a data set outside a generator's family, before a search and after it.

Before, the distance of its images speaks. Afterwards an accuracy far below that of the training checkpoints on their own
data sets is evidence whatever the distance was, and a gain over the zoo within noise confirms a large distance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Any

from popgen.generator.family.reference import Distance

EPOCHS = 10  # epochs of the training whose cost is stated
_PASSES = 3  # a training step costs a forward pass and a backward pass of twice its cost
ERRORS = 2.0  # standard errors that a gain has to be above
# An accuracy is far below those of training where it is less than this share of the way from guessing to the training checkpoints'
# lower decile. It is .89 and more in 128 searches within the family of the digits, see examples/results/outside.md.
LOW = 0.8


@dataclass(frozen=True)
class Cost:
    """The cost of training on a data set: its training images, and the measured passes of an image per second."""

    images: int
    per_second: float = field(compare=False)

    @property
    def seconds(self) -> float:
        """Seconds of ten epochs on this machine."""
        return EPOCHS * self.images * _PASSES / self.per_second

    def text(self) -> str:
        """Return a clause for people.

        >>> Cost(1000, 3000.0).text()
        '10 epochs over its 1,000 training images (--finetune-epochs 10) take about 10 seconds here'
        """
        seconds = math.ceil(self.seconds)
        time = f"{seconds} second{'s' * (seconds > 1)}" if seconds < 120 else f"{math.ceil(seconds / 60)} minutes"
        return f"{EPOCHS} epochs over its {self.images:,} training images (--finetune-epochs {EPOCHS}) take about {time} here"


@dataclass(frozen=True)
class Reached:
    """A validation accuracy, less its optimism where that is known, and its standard error; `name` is the row's."""

    name: str
    accuracy: float
    error: float


@dataclass(frozen=True)
class After:
    """What a search reached on validation images, and the best that the zoo offers without one, if its rows are known."""

    search: Reached
    zoo: Reached | None

    @property
    def gain(self) -> tuple[float, float] | None:
        """The gain over the zoo and its standard error, in which the two are taken as independent: it is rather too large."""
        if self.zoo is None:
            return None
        return self.search.accuracy - self.zoo.accuracy, math.hypot(self.search.error, self.zoo.error)

    @property
    def is_gain(self) -> bool:
        """Whether the search is better than the zoo beyond noise; an unknown gain counts as one."""
        return self.gain is None or self.gain[0] > ERRORS * self.gain[1]


@dataclass(frozen=True)
class Family:
    """The place of a data set beside the family of a generator.

    Attributes:
        data: the data set's name.
        distance: its distance from the training data sets.
        known: the validation accuracies of the training checkpoints on their own data, ascending; () where they are not known.
        classes: the number of classes of the training data sets and of this one.
        cost: what training on it would take.
        after: what a search reached.
    """

    data: str
    distance: Distance
    known: tuple[float, ...]
    classes: tuple[int, int]
    cost: Cost
    after: After | None = None

    @property
    def is_low(self) -> bool:
        """Whether the search's accuracy is far below those of training, beyond its error."""
        if self.after is None or not self.known:
            return False
        lower = quantiles(self.known, n=10, method="inclusive")[0] if len(self.known) > 1 else self.known[0]
        found = self.after.search.accuracy + ERRORS * self.after.search.error
        return _above_chance(found, self.classes[1]) < LOW * _above_chance(lower, self.classes[0])

    @property
    def is_outside(self) -> bool:
        """Whether the data set is told to be outside the family, by all that is known."""
        if self.after is None:
            return self.distance.is_far
        return self.is_low or (self.distance.is_far and not self.after.is_gain)

    def before_text(self) -> str:
        """Return what a user is told before the search; "" where there is nothing to tell."""
        far = self.distance
        if not far.is_far:
            return ""
        what = {"images": "its images are", "embedding": "its embedding is"}[far.measure]
        many = "all" if far.share == 1 else f"{math.floor(100 * far.share)} %"
        reached = f" (median {median(self.known):.3f})" if self.known else ""
        return (
            f"{self.data} is outside what the generator was trained on: {what} farther from every mixture of its {far.data_sets} training "
            f"data sets than {many} of those are from the others ({far.ratio:.1f} times their median). Expect less than on those{reached}; "
            f"training is the better way: {self.cost.text()}"
        )

    def after_text(self) -> str:
        """Return what a user is told after the search; "" where there is nothing to tell."""
        if self.after is None or not (self.is_low or self.distance.is_far):
            return ""
        gain = ""
        if self.after.zoo is not None and self.after.gain is not None:
            value, error = self.after.gain
            noise = "" if self.after.is_gain else ", within noise"
            gain = f"; it gained {value:.3f} ± {error:.3f} over {self.after.zoo.name}{noise}"
        found = f"the search reached {self.after.search.accuracy:.3f} on validation images{gain}"
        known = f"the networks that the generator learnt from have {self.known[0]:.3f} to {self.known[-1]:.3f} on their own data"
        if self.is_low:
            return f"{self.data} is outside what the generator knows: {found}, where {known}. Train instead: {self.cost.text()}"
        if self.is_outside:
            return f"{self.data} is outside what the generator was trained on: {found}. Training is the better way: {self.cost.text()}"
        return (
            f"{self.data} looked far from the training data sets, but {found}, which is better than was to be expected"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the keys of `family` in result.json; those of the search are None before it."""
        after, zoo = self.after, None if self.after is None else self.after.zoo
        gain = None if after is None else after.gain
        return {
            "outside": self.is_outside,
            "told_before": self.distance.is_far,
            "told_after": None if after is None else self.is_outside,
            "distance": {
                "measure": self.distance.measure,
                "ratio": round(self.distance.ratio, 4),
                "share_nearer": round(self.distance.share, 4),
                "training_data_sets": self.distance.data_sets,
            },
            "training_accuracy": {"lowest": self.known[0], "median": median(self.known)} if self.known else None,
            "search_accuracy": None if after is None else round(after.search.accuracy, 6),
            "far_below_training": None if after is None else self.is_low,
            "best_of_zoo": None if zoo is None else {"row": zoo.name, "accuracy": round(zoo.accuracy, 6)},
            "gain": None if gain is None else round(gain[0], 6),
            "gain_standard_error": None if gain is None else round(gain[1], 6),
            "before": self.before_text(),
            "after": self.after_text(),
            "training": {
                "epochs": EPOCHS,
                "images": self.cost.images,
                "passes_per_second": round(self.cost.per_second, 1),
                "seconds": round(self.cost.seconds, 1),
            },
        }


def _above_chance(accuracy: float, classes: int) -> float:
    """Return an accuracy on a scale where guessing among the classes is 0 and 1 stays 1."""
    chance = 1 / classes
    return (accuracy - chance) / (1 - chance)
