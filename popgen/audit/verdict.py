"""The rule that says in one word what a generator makes for a data set: copies, interpolates, novel, fails, or unsure.

References are checkpoints of the same data set, each compared with the training checkpoints of other lineages only; generated networks are
compared with all training checkpoints in the same way. (Where all checkpoints are of one run, references come from another zoo; without it
snapshots of the run stand in, see popgen/audit/training.py.) Every measure is brought on a scale on which independent training has the value 0
and a replica the value 1, and every question is whether the value is above one half: nearer to a replica than to independent training. All
scales come from the references and from noise around the checkpoints, never from the generated networks.

1. works: do the generated networks keep more than half of the references' accuracy above chance? If not, the word is `fails`.
2. within: is their distance to the affine span of the checkpoints less than half of the references'? Then they come from checkpoints:
   the word is `copies` if they are anchored at one of them (popgen/audit/space.py), `interpolates` if they lie between several.
3. same_errors: are their misclassified examples nearer to one checkpoint's than half-way between the references' overlap and 1? Then
   they behave as that checkpoint, whatever their weights are: `copies`. This convicts only where it is certain, because references that
   themselves make nearly the same errors leave no room to tell.
4. damaged: at the same distance from the nearest checkpoint, is their accuracy nearer to that of noise around a checkpoint than to the
   references'? Then their distance is bought by damage: `copies` where they are anchored at one checkpoint, else `interpolates`. If not,
   they are `novel`. The value is one half plus the points of accuracy by which they are nearer to noise.
5. tied: where noise of that size does no damage, so that 4 cannot tell: are they anchored at one checkpoint, by more than half of the way from
   the references' anchor to 1? Then `copies`. Otherwise they may still be harmless noise around an average, which noise betrays by scattering
   errors that independent training repeats: `novel` only where their overlap may be as high as the references', else `unsure`.

Each value has a 95 % interval by bootstrap over the references' lineages, the generated networks and the test images. Where an interval
includes one half, both answers are followed; if they lead to different words, the word is `unsure`. `novel` becomes `unsure`, too, where
references of fewer than three lineages leave nothing to compare independence with, and where more than one in twenty networks alone is
within the span of the checkpoints by question 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from popgen.audit.misclassified import is_own, largest_overlap, similarities
from popgen.audit.space import Places

Word = Literal["copies", "interpolates", "novel", "fails", "unsure"]
WORDS: tuple[Word, ...] = ("copies", "interpolates", "novel", "fails", "unsure")
HALF = 0.5  # the threshold of every question
FEWEST_LINEAGES = 3  # references of fewer lineages have no interval worth the name
_LEVEL = 0.95
_FEW = 0.05  # share of single copies that a generator of novel networks may make


@dataclass(frozen=True)
class Measured:
    """Networks of one arm, as the rule sees them."""

    wrong: Tensor  # (n, images), mask of the misclassified test images
    places: Places
    lineages: tuple[str | None, ...]  # one for each network; None is outside of all lineages

    def __len__(self) -> int:
        return len(self.lineages)


@dataclass(frozen=True)
class Evidence:
    """Everything that the rule reads."""

    generated: Measured
    references: Measured
    noise: tuple[Measured, ...]  # around checkpoints, weakest first
    training: Tensor  # (m, images), mask of the test images that each training checkpoint misclassifies
    training_lineages: tuple[str, ...]
    classes: int
    independent: int  # lineages of the references that are independent of each other


@dataclass(frozen=True)
class Statistic:
    """The value of one question, 0 for independent training and 1 for a replica, with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def answer(self) -> bool | None:
        """Whether it is above one half; None where the interval includes one half, or there is no number."""
        if self.low > HALF:
            return True
        return False if self.high < HALF else None


@dataclass(frozen=True)
class Verdict:
    """The word, the reason in a sentence, and the statistic of each question by its name."""

    word: Word
    why: str
    statistics: dict[str, Statistic]
    single: int = 0  # generated networks that alone, whatever the others are, are within the checkpoints' span


_SENTENCES = {
    "works": "they keep too little of the training checkpoints' accuracy",
    "within": "they lie in the span of the training checkpoints",
    "same_errors": "they make the same errors as a training checkpoint, more than independent training does",
    "damaged": "they are no better than noise around a checkpoint at the same distance",
    "tied": "they stay tied to one checkpoint, as noise does",
    "scattered": "noise of this size does no damage, and their errors are as scattered as noise makes them",
    "novel": "they are as far from the training checkpoints as independent networks are, and as accurate",
}

_OPEN = ("works", "within", "anchored", "damaged", "tied")  # questions of which both answers are followed


def decide(evidence: Evidence, seed: int = 0, rounds: int = 1000) -> Verdict:
    """Apply the rule of this module.

    Args:
        rounds: resamples of the bootstrap.
    """
    statistics = bootstrap(evidence, seed, rounds)
    single = _single(evidence)
    leaves = list(dict.fromkeys(_leaves(statistics)))
    words = {word for word, _ in leaves}
    if len(words) > 1:
        open_questions = [name for name in _OPEN if statistics[name].answer is None]
        why = f"the interval does not decide between {' and '.join(sorted(words))} ({', '.join(open_questions)})"
        return Verdict("unsure", why, statistics, single)
    word, why = leaves[0][0], "; or ".join(_SENTENCES[key] for _, key in leaves)
    if word == "novel" and evidence.independent < FEWEST_LINEAGES:
        count = f"{evidence.independent} lineage{'s' if evidence.independent > 1 else ''}"
        why = f"they look novel, but references of {count} do not show what novel is"
        return Verdict("unsure", why, statistics, single)
    if word == "novel" and single > _FEW * len(evidence.generated):
        why = f"most look novel, but {single} of {len(evidence.generated)} lie in the span of the training checkpoints"
        return Verdict("unsure", why, statistics, single)
    return Verdict(word, why, statistics, single)


def _single(evidence: Evidence) -> int:
    """How many generated networks are by themselves within the checkpoints' span, as question 2 asks it of their mean."""
    within = evidence.generated.places.span < HALF * evidence.references.places.span.mean()
    return int(within.sum())


def _leaves(statistics: dict[str, Statistic]) -> Iterator[tuple[Word, str]]:
    """Every end of the rule that the answers allow: its word, and the key of its sentence."""

    def both(name: str) -> Iterator[bool]:
        answer = statistics[name].answer
        yield from (True, False) if answer is None else (answer,)

    def anchored(why: str) -> Iterator[tuple[Word, str]]:
        yield from (("copies" if yes else "interpolates", why) for yes in both("anchored"))

    scattered = statistics["same_errors"].high < 0  # the references' own value is 0
    untied: tuple[Word, str] = ("unsure", "scattered") if scattered else ("novel", "novel")
    for works in both("works"):
        if not works:
            yield "fails", "works"
            continue
        for within in both("within"):
            if within:
                yield from anchored("within")
            elif statistics["same_errors"].answer:
                yield "copies", "same_errors"
            elif statistics["damaged"].answer is None:
                yield from (("copies", "tied") if tied else untied for tied in both("tied"))
            elif statistics["damaged"].answer:
                yield from anchored("damaged")
            else:
                yield "novel", "novel"


def bootstrap(evidence: Evidence, seed: int, rounds: int) -> dict[str, Statistic]:
    """The statistic of each question: its value on all data, and the percentiles of the resamples."""
    random = torch.Generator().manual_seed(seed)
    sample = _Sample(evidence)
    whole, drawn = sample.values(sample.all_once()), [sample.values(sample.resampled(random)) for _ in range(rounds)]
    tail = 100 * (1 - _LEVEL) / 2
    found = {}
    for name, value in whole.items():
        known = [one[name] for one in drawn if not np.isnan(one[name])]
        low, high = np.percentile(known, [tail, 100 - tail]) if known else (np.nan, np.nan)
        found[name] = Statistic(value, float(low), float(high))
    return found


@dataclass(frozen=True)
class _Counts:
    """How often each image, generated network and reference counts in a resample."""

    images: Tensor
    generated: Tensor
    references: Tensor


class _Sample:
    """The evidence, and the values of the questions in resamples of it."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        lineages = list(dict.fromkeys(evidence.references.lineages))
        self._lineages = len(lineages)
        self._lineage_of = torch.tensor([lineages.index(one) for one in evidence.references.lineages])
        self._own = {
            arm: is_own(getattr(evidence, arm).lineages, evidence.training_lineages)
            for arm in ("generated", "references")
        }
        self._wrong = {arm: getattr(evidence, arm).wrong.float() for arm in ("generated", "references")}
        self._training = evidence.training.float()
        self._noise_right = torch.stack([(~arm.wrong).float().mean(0) for arm in evidence.noise])  # (strengths, images)
        self._noise_distances = [float(arm.places.nearest.mean()) for arm in evidence.noise]

    def all_once(self) -> _Counts:
        """Everything counts once."""
        evidence = self._evidence
        sizes = evidence.training.shape[1], len(evidence.generated), len(evidence.references)
        return _Counts(*(torch.ones(size) for size in sizes))

    def resampled(self, random: torch.Generator) -> _Counts:
        """Draw images, generated networks and lineages of references, each with replacement."""
        images = _drawn(self._evidence.training.shape[1], random)
        generated = _drawn(len(self._evidence.generated), random)
        return _Counts(images, generated, _drawn(self._lineages, random)[self._lineage_of])

    def values(self, counts: _Counts) -> dict[str, float]:
        """The value of each question."""
        generated, references = (self._means(arm, counts) for arm in ("generated", "references"))
        chance = 1 / self._evidence.classes
        noise_accuracy = self._noise_accuracy(counts.images, generated.nearest, references.accuracy)
        halfway = (references.accuracy + noise_accuracy) / 2
        return {
            "works": _share(generated.accuracy - chance, references.accuracy - chance),
            "within": 1 - _share(generated.span, references.span),
            "anchored": generated.anchor,
            "same_errors": _share(generated.overlap - references.overlap, 1 - references.overlap),
            "damaged": HALF + halfway - generated.accuracy,
            "tied": _share(generated.anchor - references.anchor, 1 - references.anchor),
        }

    def _means(self, name: str, counts: _Counts) -> _Means:
        """Weighted means over the networks of one arm."""
        arm, weights = getattr(self._evidence, name), getattr(counts, name)
        share = weights / weights.sum()
        right = 1 - self._wrong[name] @ counts.images / counts.images.sum()
        overlap = largest_overlap(similarities(self._wrong[name], self._training, counts.images), self._own[name])
        placed = arm.places.nearest.isfinite()  # networks with NaN or infinite weights lie nowhere
        place_share = weights[placed] / weights[placed].sum()
        places = (arm.places.nearest, arm.places.span, arm.places.anchor)
        return _Means(
            float(share @ right), float(share @ overlap), *(float(place_share @ one[placed].float()) for one in places)
        )

    def _noise_accuracy(self, images: Tensor, distance: float, undamaged: float) -> float:
        """Accuracy of noise at a distance from the nearest checkpoint, interpolated between the measured strengths."""
        accuracies = [undamaged, *(self._noise_right @ images / images.sum()).tolist()]
        points = sorted(zip([0.0, *self._noise_distances], accuracies, strict=True))
        return float(np.interp(distance, np.array([x for x, _ in points]), np.array([y for _, y in points])))


@dataclass(frozen=True)
class _Means:
    accuracy: float
    overlap: float
    nearest: float
    span: float
    anchor: float


def _drawn(n: int, random: torch.Generator) -> Tensor:
    """How often each of n units is drawn in n draws with replacement."""
    return torch.bincount(torch.randint(n, (n,), generator=random), minlength=n).float()


def _share(part: float, whole: float) -> float:
    """Part of a whole; NaN where there is no whole, so that it decides nothing."""
    return part / whole if whole > 1e-9 else float("nan")
