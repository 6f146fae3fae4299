"""The table of `popgen adapt`: what else a careful user would try on the same images, beside the chosen network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from popgen.adaptation.choose import Candidate, Choice, best_of, finished, shares_for
from popgen.adaptation.entropy import minimise_entropy
from popgen.adaptation.points import Point, PointDecoder
from popgen.types import Images

_WISE = 0.75  # share of the way to the robust network, between its robustness and the base's accuracy on clean images


@dataclass(frozen=True)
class Row:
    """A network of the table."""

    name: str
    what: str  # the network and the share of its batch-norm statistics, in words
    flat: Tensor  # (p,)


def candidate_rows(candidates: list[Candidate], choice: Choice) -> Iterator[tuple[str, Candidate]]:
    """Yield the names and candidates of the rows that are among the candidates; of several, the most informative one."""
    base = [one for one in candidates if one.point == Point()]
    yield "base", base[0]
    if len(base) > 1:
        yield "AdaBN", base[-1]
        yield "BN mix", best_of(base)
    line = [one for one in candidates if not one.point.added]
    if len(line) > len(base):
        yield "robust", next(one for one in line if one.point == Point(1.0))
        yield "WiSE + BN mix", best_of([one for one in line if one.point.along == _WISE])
        yield "line + BN mix", best_of(line)
    generated = [one for one in candidates if (one.point.along, one.point.added) == (0, 1)]
    yield "generated", best_of([one for one in generated if not one.share])
    yield "generated + BN mix", best_of(generated)
    yield "chosen", choice.candidate


def make_rows(
    decoder: PointDecoder, candidates: list[Candidate], choice: Choice, statistics: Images, tent: int, seed: int
) -> Iterator[Row]:
    """Yield all rows of the table, the chosen network last.

    Args:
        statistics: prepared images (n, ...) that statistics are measured on, and that entropy is minimised on.
        tent: epochs of entropy minimisation, of the base and of the robust network; 0 leaves these rows out.
    """
    shares = shares_for(len(statistics), decoder.spec)
    tented = {"base": Point(), "robust": Point(1.0)} if tent else {}
    for name, candidate in candidate_rows(candidates, choice):
        flats = dict(finished(decoder.spec, decoder.weights(candidate.point), statistics, shares))
        yield Row(name, candidate.text(), flats[candidate.share])
        if name in tented:
            start = decoder.weights(tented[name])
            flat = minimise_entropy(decoder.spec, start, statistics, tent, seed)
            yield Row(f"{name} + TENT", f"{name}, {tent} epochs of entropy minimisation", flat)
