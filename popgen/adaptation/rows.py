"""The table of `popgen adapt`: what else a careful user would try on the same images, beside the chosen network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from popgen.adaptation.choose import Candidate, Choice, best_of, finished, shares_for
from popgen.adaptation.entropy import EntropySteps, minimise_entropy
from popgen.adaptation.points import Point, PointDecoder
from popgen.fitness.information import information_gain, is_gain
from popgen.generator.strength import mutual_information
from popgen.networks.passes import Passes
from popgen.types import Images

_WISE = 0.75  # share of the way to the robust network, between its robustness and the base's accuracy on clean images


@dataclass(frozen=True)
class Row:
    """A network of the table."""

    name: str
    what: str  # the network and the share of its batch-norm statistics, in words
    flat: Tensor  # (p,)
    information: float  # mutual information between image and prediction on the images that compare, in nats
    passes: int  # forward passes of an image that finding it takes; a backward pass counts as two


@dataclass(frozen=True)
class Table:
    """Makes the rows, one network after another, the chosen one last.

    Args:
        statistics: prepared images (n, ...) that statistics are measured on, and that entropy is minimised on.
        passes: over the images that candidates are compared by.
        of_zoo: weights (p,) of the zoo's networks, by their names.
        entropy: what is tried of the base, the robust and the chosen network.
        finish: what is done to the chosen network at last, unless it is the base or becomes less informative.
    """

    decoder: PointDecoder
    candidates: list[Candidate]
    choice: Choice
    statistics: Images
    passes: Passes
    of_zoo: Mapping[str, Tensor] = field(default_factory=dict)
    entropy: tuple[EntropySteps, ...] = ()
    finish: EntropySteps | None = None
    seed: int = 0

    def chosen(self) -> Row:
        """Return the chosen network alone."""
        row = self._row("chosen", self.choice.candidate, self.candidates, {})
        return row if self.finish is None else self._finished(row, self.finish)

    def rows(self) -> Iterator[Row]:
        """Yield all rows."""
        yield from self._zoo()
        weights: dict[Point, dict[float, Tensor]] = {}
        for name, candidate, compared in candidate_rows(self.candidates, self.choice):
            row = self._row(name, candidate, compared, weights)
            if name == "chosen":
                yield from self._chosen(row)
            else:
                yield row
                if name in ("base", "robust"):
                    yield from self._with_entropy(row)

    def _row(
        self, name: str, candidate: Candidate, compared: list[Candidate], weights: dict[Point, dict[float, Tensor]]
    ) -> Row:
        """The row of the best of those compared; `weights` keeps those (p,) of each point and share, which several rows need."""
        point = candidate.point
        if point not in weights:
            shares = shares_for(len(self.statistics), self.decoder.spec)
            flat = self.decoder.weights(point)
            weights[point] = dict(finished(self.decoder.spec, flat, self.statistics, shares))
        measured = {one.point for one in [candidate, *compared] if one.share > 0}
        passes = len(self.statistics) * len(measured) + sum(len(one.logits) for one in compared)
        return Row(name, candidate.text(), weights[point][candidate.share], candidate.information, passes)

    def _zoo(self) -> Iterator[Row]:
        """The zoo's most informative network, as it is."""
        found = {name: self.passes.outputs(flat) for name, flat in self.of_zoo.items()}
        if found:
            name = max(found, key=lambda one: mutual_information(found[one]))
            count = sum(len(logits) for logits in found.values())
            yield Row("best zoo", name, self.of_zoo[name], mutual_information(found[name]), count)

    def _with_entropy(self, row: Row) -> Iterator[Row]:
        for steps in self.entropy:
            yield self._stepped(row, steps, f"{row.name} + {steps.name}")

    def _chosen(self, row: Row) -> Iterator[Row]:
        yield from self._with_entropy(row)
        yield row if self.finish is None else self._finished(row, self.finish)

    def _finished(self, row: Row, steps: EntropySteps) -> Row:
        if self.choice.candidate is self.candidates[0]:
            return row
        done = self._stepped(row, steps, row.name)
        gain = information_gain(self.passes.outputs(row.flat), self.passes.outputs(done.flat))
        return done if is_gain(*gain) else row

    def _stepped(self, row: Row, steps: EntropySteps, name: str) -> Row:
        flat = minimise_entropy(self.decoder.spec, row.flat, self.statistics, steps, self.seed)
        passes = row.passes + (3 * steps.epochs + 1) * len(self.statistics)  # statistics are re-estimated at the end
        return Row(name, f"{row.what}, {steps.text()}", flat, mutual_information(self.passes.outputs(flat)), passes)


def candidate_rows(candidates: list[Candidate], choice: Choice) -> Iterator[tuple[str, Candidate, list[Candidate]]]:
    """Yield names, candidates, and those among which each is the most informative, of the rows that are among the candidates."""
    base = [one for one in candidates if one.point == Point()]
    yield "base", base[0], []
    if len(base) > 1:
        yield "AdaBN", base[-1], []
        yield "BN mix", best_of(base), base
    line = [one for one in candidates if not one.point.added]
    if len(line) > len(base):
        yield "robust", next(one for one in line if one.point == Point(1.0)), []
        wise = [one for one in line if one.point.along == _WISE]
        yield "WiSE + BN mix", best_of(wise), wise
        yield "line + BN mix", best_of(line), line
    generated = [one for one in candidates if (one.point.along, one.point.added) == (0, 1)]
    plain = [one for one in generated if not one.share]
    yield "generated", best_of(plain), plain
    yield "generated + BN mix", best_of(generated), generated
    yield "chosen", choice.candidate, candidates
