"""The rivals that a result is shown beside, each a function that gives candidates, under a name and with a cost.

A rival's candidates are finished (batch norm, head, steps of SGD) and scored as the search's own are, and the best by validation loss makes
its row. A further rival is one more function with the decorator `rival`: tables and benches take it from RIVALS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import cycle, islice

import torch
from torch import Tensor

from popgen.archs import ArchSpec, build
from popgen.baselines.row import Row
from popgen.data import DataSet
from popgen.fitness import Fitness, Scored, scores_under
from popgen.fitness.batch_norm import BatchNorm
from popgen.generator import Generator
from popgen.generator.unseen import Target
from popgen.types import Flat
from popgen.weights.noise import tensor_deviations, with_valid_variances
from popgen.zoo import Checkpoint, Zoo

AVERAGED = (2, 3, 4)  # data sets or experts in an average: both neighbours on a line of tasks, or two on each side
STANDARD = ("random", "best_zoo", "average", "ridge")
WITH_EXPERTS = (
    "random",
    "best_zoo",
    "average_of_best",
)  # the rivals of a search around experts, without a generator
_NOISE = (0.02, 0.05, 0.1, 0.2, 0.4)  # standard deviations of noise, in units of each tensor's own


@dataclass(frozen=True)
class RivalInputs:
    """Everything that a careful user has for one architecture on one data set, except the search."""

    spec: ArchSpec
    data: DataSet
    fitness: Fitness
    seed: int
    evaluations: float = 1.0  # cost of the search, which a rival with as many tries may spend
    zoo: Zoo | None = None
    records: Sequence[Checkpoint] = ()  # the zoo's checkpoints of the architecture
    generator: Generator | None = None
    closest: Sequence[str] = ()  # the generator's training data sets, closest to this one first
    target: Target | None = None  # the generator's target, for an architecture that it was not trained on
    order: Sequence[int] | None = None  # indices of `records`, best first; None: by their validation loss
    align: Callable[[list[str]], Flat] | None = None  # weights of checkpoints by id, aligned with the best one

    @cached_property
    def weights(self) -> Flat:
        """Weights (n, p) of the records."""
        if self.zoo is None or not self.records:
            return torch.zeros(0, self.spec.size)
        return self.zoo.matrix(list(self.records))

    @cached_property
    def ranked(self) -> list[int]:
        """Indices of the records, best first."""
        if self.order is not None:
            return list(self.order)
        losses = [self.fitness.loss_of(flat) for flat in self.weights]
        return sorted(range(len(losses)), key=losses.__getitem__)


Candidates = Callable[[RivalInputs], Iterable[Tensor]]
Cost = Callable[[RivalInputs, int], float]


@dataclass(frozen=True)
class Rival:
    """A named way to get weights (p,): its candidates, and the cost of scoring so many of them, in evaluations."""

    row: str  # the row's name in tables
    candidates: Candidates
    cost: Cost


RIVALS: dict[str, Rival] = {}


def one_evaluation_each(given: RivalInputs, scored: int) -> float:
    """The cost of a rival that only has candidates scored."""
    return scored * given.fitness.cost


def rival(name: str, *, row: str = "", cost: Cost = one_evaluation_each) -> Callable[[Candidates], Candidates]:
    """Register a function as the rival `name`.

    Args:
        row: the row's name in tables, where it is another one.
        cost: what `scored` candidates cost, in evaluations; rivals that train add their training.
    """

    def register(candidates: Candidates) -> Candidates:
        assert name not in RIVALS, f"two rivals are called {name}"
        RIVALS[name] = Rival(row or name, candidates, cost)
        return candidates

    return register


def rival_row(
    name: str, given: RivalInputs, batch_norms: Sequence[BatchNorm] = (), say: Callable[[str], None] = print
) -> Row | None:
    """The row of a rival's best candidate by validation loss; None where it has no candidates that can be scored.

    Args:
        batch_norms: treatments of batch norm, under each of which a candidate is scored; () is that of the given fitness.
        say: called with a line if candidates cannot be scored.
    """
    one, count, failed = RIVALS[name], 0, 0
    best: Scored | None = None
    for flat in one.candidates(given):
        treatments = batch_norms or (given.fitness.batch_norm,)
        scored = scores_under(given.fitness, flat, treatments)
        count, failed = count + len(treatments), failed + len(treatments) - len(scored)
        best = min(filter(None, [best, *scored.values()]), key=lambda network: network.finite_loss, default=None)
    if failed:
        say(f"{given.spec.name}: {failed} of the {count} networks of {one.row} cannot be scored")
    return None if best is None else Row.of(one.row, one.cost(given, count), best, given.data)


def rival_rows(
    names: Iterable[str],
    given: RivalInputs,
    batch_norms: Sequence[BatchNorm] = (),
    say: Callable[[str], None] = print,
) -> Iterator[Row]:
    """The rows of those rivals that have candidates; the arguments are those of `rival_row`."""
    for name in names:
        row = rival_row(name, given, batch_norms, say)
        if row is not None:
            yield row


@rival("random")
def random_network(given: RivalInputs) -> Iterator[Tensor]:
    """A freshly initialised network."""
    yield random_weights(given.spec, given.seed)


@rival("best_zoo")
def zoo_checkpoints(given: RivalInputs) -> Iterable[Tensor]:
    """Every checkpoint of the zoo."""
    return given.weights


@rival("average")
def averages_of_closest(given: RivalInputs) -> Iterator[Tensor]:
    """Means of the checkpoints on the two, three and four closest data sets that have any."""
    near = [name for name in given.closest if any(record.data == name for record in given.records)]
    if near:
        for k in [k for k in AVERAGED if k <= len(near)] or [len(near)]:  # a zoo of one data set has one average
            yield average(given.records, given.weights, near[:k])


@rival("average_of_best", row="average")
def averages_of_best(given: RivalInputs) -> Iterator[Tensor]:
    """Means of the two, three and four best checkpoints, aligned with the best."""
    assert given.align is not None, "only searches around experts have this rival"
    best = given.align([given.records[i].id for i in given.ranked[: max(AVERAGED)]])
    for k in AVERAGED:
        if k <= len(best):
            yield best[:k].mean(0)


@rival("ridge")
def ridge(given: RivalInputs) -> Iterator[Tensor]:
    """Weights predicted from the data set's embedding by a ridge regression over the zoo; from three checkpoints on."""
    if given.generator is None:
        return
    from sklearn.linear_model import RidgeCV  # noqa: PLC0415 - it takes a second, and no other rival needs it

    generator, arch = given.generator, given.spec.name
    known = dict(zip(generator.provenance.data, generator.data_vectors, strict=True))
    index = [i for i, record in enumerate(given.records) if record.data in known]
    if len(index) < 3:
        return
    scaling = generator.scalings[arch]
    x = torch.stack([known[given.records[i].data] for i in index]).numpy()
    y = scaling.normalise(given.weights[index]).numpy()
    model = RidgeCV(alphas=[10.0**k for k in range(-4, 4)]).fit(x, y)
    here = generator.mean_embedding(arch, given.data).numpy()
    yield scaling.denormalise(torch.from_numpy(model.predict(here[None])).float())[0]


@rival("noise")
def noise_around_best(given: RivalInputs) -> Iterator[Tensor]:
    """The zoo's best with noise of several sizes, as many tries as the search had evaluations."""
    if given.records:
        tries = max(1, int(given.evaluations / given.fitness.cost + 1e-9))
        yield from islice(noisy(given.spec, given.weights[given.ranked[0]], given.seed), tries)


def random_weights(spec: ArchSpec, seed: int) -> Tensor:
    """A freshly initialised network's weights (p,)."""
    return spec.to_flat(build(spec.config, seed=seed).state_dict())


def noisy(spec: ArchSpec, flat: Tensor, seed: int) -> Iterator[Tensor]:
    """The network `flat` (p,) with normal noise of several sizes in turn, without end."""
    generator = torch.Generator().manual_seed(seed)
    deviations = tensor_deviations(spec, flat)
    for size in cycle(_NOISE):
        yield with_valid_variances(spec, flat + size * deviations * torch.randn(flat.shape, generator=generator))


def average(records: Sequence[Checkpoint], weights: Flat, data: Sequence[str]) -> Tensor:
    """The mean (p,) of the weights (n, p) of those records that belong to one of these data sets."""
    return weights[[i for i, record in enumerate(records) if record.data in data]].mean(0)
