"""The table of `popgen adapt`: what else a careful user would try on the same images, beside the chosen network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from popgen.adaptation.choose import Candidate, Choice, best_of, finished, shares_for
from popgen.adaptation.entropy import minimise_entropy
from popgen.adaptation.points import Point, PointDecoder
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
    information: (
        float  # mutual information between image and prediction on the images that candidates are compared by, in nats
    )


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
    decoder: PointDecoder,
    candidates: list[Candidate],
    choice: Choice,
    statistics: Images,
    passes: Passes,
    tent: int,
    seed: int,
) -> Iterator[Row]:
    """Yield all rows of the table, the chosen network last.

    Args:
        statistics: prepared images (n, ...) that statistics are measured on, and that entropy is minimised on.
        passes: over the images that candidates are compared by.
        tent: epochs of entropy minimisation, of the base and of the robust network; 0 leaves these rows out.
    """
    shares = shares_for(len(statistics), decoder.spec)
    tented = {"base": Point(), "robust": Point(1.0)} if tent else {}
    of_point: dict[Point, dict[float, Tensor]] = {}  # weights by share; several rows share a point
    for name, candidate in candidate_rows(candidates, choice):
        point = candidate.point
        if point not in of_point:
            of_point[point] = dict(finished(decoder.spec, decoder.weights(point), statistics, shares))
        yield Row(name, candidate.text(), of_point[point][candidate.share], candidate.information)
        if name in tented:
            flat = minimise_entropy(decoder.spec, decoder.weights(tented[name]), statistics, tent, seed)
            what, information = (
                f"{name}, {tent} epochs of entropy minimisation",
                mutual_information(passes.outputs(flat)),
            )
            yield Row(f"{name} + TENT", what, flat, information)
