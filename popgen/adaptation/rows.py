"""The table of `popgen adapt`: what else a careful user would try on the same images, beside the chosen network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from popgen.adaptation.choose import Candidate, Choice, Comparison, best_of
from popgen.adaptation.entropy import EntropySteps, minimise_entropy
from popgen.adaptation.points import Point
from popgen.fitness.information import information_gain, is_gain
from popgen.generator.strength import mutual_information

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
        comparison: entropy is minimised on its images for statistics.
        of_zoo: weights (p,) of the zoo's networks, by their names.
        entropy: what is tried of the base, the robust and the chosen network.
        finish: what is done to the chosen network at last, unless it is the base or becomes less informative.
    """

    comparison: Comparison
    candidates: list[Candidate]
    choice: Choice
    of_zoo: Mapping[str, Tensor] = field(default_factory=dict)
    entropy: tuple[EntropySteps, ...] = ()
    finish: EntropySteps | None = None
    seed: int = 0

    def chosen(self) -> Row:
        """Return the chosen network alone."""
        row = self._row("chosen", self.choice.candidate, self.candidates, self.choice.middles)
        return row if self.finish is None else self._finished(row, self.finish)

    def rows(self) -> Iterator[Row]:
        """Yield all rows."""
        yield from self._zoo()
        for name, candidate, compared in candidate_rows(self.candidates):
            row = self._row(name, candidate, compared)
            yield row
            if name in ("base", "robust"):
                yield from self._with_entropy(row)
            if name == "line + BN mix":
                yield self._row("line, middle", self.comparison.middle(compared), compared, middles=1)
        row = self._row("chosen", self.choice.candidate, self.candidates, self.choice.middles)
        yield from self._with_entropy(row)
        yield row if self.finish is None else self._finished(row, self.finish)

    def _row(self, name: str, candidate: Candidate, compared: list[Candidate], middles: int = 0) -> Row:
        """The row of a network that was found among those compared, and by so many middles of them."""
        measured = {one.point for one in compared or [candidate] if one.share > 0}
        n, m = len(self.comparison.statistics), len(candidate.logits)
        flat = self.comparison.weights(candidate.point, candidate.share)
        passes = n * len(measured) + m * len(compared) + (n + m) * middles
        return Row(name, candidate.text(), flat, candidate.information, passes)

    def _zoo(self) -> Iterator[Row]:
        """The zoo's most informative network, as it is."""
        found = {name: self.comparison.passes.outputs(flat) for name, flat in self.of_zoo.items()}
        if found:
            name = max(found, key=lambda one: mutual_information(found[one]))
            count = sum(len(logits) for logits in found.values())
            yield Row("best zoo", name, self.of_zoo[name], mutual_information(found[name]), count)

    def _with_entropy(self, row: Row) -> Iterator[Row]:
        for steps in self.entropy:
            yield self._stepped(row, steps, f"{row.name} + {steps.name}")

    def _finished(self, row: Row, steps: EntropySteps) -> Row:
        if self.choice.is_base:
            return row
        done = self._stepped(row, steps, row.name)
        gain = information_gain(*map(self.comparison.passes.outputs, (row.flat, done.flat)))
        return done if is_gain(*gain) else row

    def _stepped(self, row: Row, steps: EntropySteps, name: str) -> Row:
        statistics = self.comparison.statistics
        flat = minimise_entropy(self.comparison.decoder.spec, row.flat, statistics, steps, self.seed)
        information = mutual_information(self.comparison.passes.outputs(flat))
        passes = row.passes + (3 * steps.epochs + 1) * len(statistics)  # statistics are re-estimated at the end
        return Row(name, f"{row.what}, {steps.text()}", flat, information, passes)


def candidate_rows(candidates: list[Candidate]) -> Iterator[tuple[str, Candidate, list[Candidate]]]:
    """Yield names, candidates, and those among which each is the most informative, of the rows that are among the candidates."""
    base = [one for one in candidates if one.point == Point()]
    yield "base", base[0], []
    if len(base) > 1:
        yield "AdaBN", base[-1], []
        yield "BN mix", best_of(base), base
    line = [one for one in candidates if one.point.is_on_line]
    if len(line) > len(base):
        yield "robust", next(one for one in line if one.point == Point(1.0)), []
        wise = [one for one in line if one.point.along == _WISE]
        yield "WiSE + BN mix", best_of(wise), wise
        yield "line + BN mix", best_of(line), line
    generated = [one for one in candidates if one.point in (Point(0, 1, 0), Point(0, 0, 1))]
    plain = [one for one in generated if not one.share]
    yield "generated", best_of(plain), plain
    yield "generated + BN mix", best_of(generated), generated
