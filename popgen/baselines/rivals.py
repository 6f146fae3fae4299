"""The rivals that a result is shown beside, each a function that gives candidates, under a name and with a cost.

A rival's candidates are finished (batch norm, head, steps of SGD) and scored as the search's own are, and the best by validation loss makes
its row. A further rival is one more function with the decorator `rival`: tables and benches take it from RIVALS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import cycle, islice

import torch
from torch import Tensor

from popgen.archs import ArchSpec, build
from popgen.baselines.optimism import Choice
from popgen.baselines.row import Row
from popgen.configs.sampling import Sampling
from popgen.configs.spec import Recipe
from popgen.data import DataSet
from popgen.fitness import Fitness, Scored, scores_under
from popgen.fitness.batch_norm import BatchNorm
from popgen.generator import Generator
from popgen.generator.model.conditions import Description
from popgen.generator.unseen import Target
from popgen.types import Flat
from popgen.weights.noise import tensor_deviations, with_valid_variances
from popgen.zoo import Checkpoint, Zoo

AVERAGED = (2, 3, 4)  # data sets or experts in an average: both neighbours on a line of tasks, or two on each side
STANDARD = ("random", "best_zoo", "average", "ridge")
ADAPTERS = ("frozen", "best_zoo", "nearest", "average", "average_of_all", "ridge")  # the rivals of generated adapters
FINE_TUNES = ("base", *ADAPTERS[1:])  # the rivals of generated fine-tunes of one base for tasks of texts
WITH_EXPERTS = (
    "random",
    "best_zoo",
    "average_of_best",
)  # the rivals of a search around experts, without a generator
_NOISE = (0.02, 0.05, 0.1, 0.2, 0.4)  # standard deviations of noise, in units of each tensor's own


@dataclass(frozen=True)
class Merge:
    """A merge of experts by a published method, in words too, and what making it cost, in evaluations without that of scoring it."""

    weights: Tensor  # (p,)
    text: str
    cost: float


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
    condition: DataSet | Description | None = None  # what the generator is asked for; None: the data set
    sampling: Sampling = Sampling()  # how the generator is sampled
    recipe: Recipe = Recipe()  # the training of rivals that train
    data_dir: str | None = None  # the folder of named data sets
    base: Tensor | None = None  # weights (p,) of the base, where only some of its tensors are searched
    merge: Callable[[str], Merge | None] | None = (
        None  # makes the merge by a method; None where it is not for these networks
    )
    align: Callable[[list[str]], Flat] | None = None  # weights of checkpoints by id, aligned with the best one

    @property
    def passes_per_evaluation(self) -> float:
        """Image passes for each evaluation of the budget: validation images, and training images that finishing reads."""
        return self.fitness.images / self.fitness.cost

    @property
    def trained_arch(self) -> str:
        """The generator's name for the architecture."""
        return self.spec.name if self.target is None else self.target.source

    @property
    def tries(self) -> int:
        """How many candidates the search's evaluations pay for, one at least."""
        return max(1, int(self.evaluations / self.fitness.cost + 1e-9))

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
    finished: bool = False  # whether the candidates are networks of `fitness.finished`, which are scored as they are


RIVALS: dict[str, Rival] = {}


def one_evaluation_each(given: RivalInputs, scored: int) -> float:
    """The cost of a rival that only has candidates scored."""
    return scored * given.fitness.cost


def rival(
    name: str, *, row: str = "", cost: Cost = one_evaluation_each, finished: bool = False
) -> Callable[[Candidates], Candidates]:
    """Register a function as the rival `name`.

    Args:
        row: the row's name in tables, where it is another one.
        cost: what `scored` candidates cost, in evaluations; rivals that train add their training.
        finished: whether the candidates are finished networks already.
    """

    def register(candidates: Candidates) -> Candidates:
        assert name not in RIVALS, f"two rivals are called {name}"
        RIVALS[name] = Rival(row or name, candidates, cost, finished)
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
    one, count, failed, choice = RIVALS[name], 0, 0, Choice()
    best: Scored | None = None
    fitness = given.fitness.as_finished() if one.finished else given.fitness
    treatments = (fitness.batch_norm,) if one.finished else batch_norms or (fitness.batch_norm,)
    for flat in one.candidates(given):
        scored = scores_under(fitness, flat, treatments)
        count, failed = count + len(treatments), failed + len(treatments) - len(scored)
        for network in scored.values():
            choice.add(network)
        best = min(filter(None, [best, *scored.values()]), key=lambda network: network.finite_loss, default=None)
    if failed:
        say(f"{given.spec.name}: {failed} of the {count} networks of {one.row} cannot be scored")
    if best is None:
        return None
    return Row.of(one.row, one.cost(given, count), best, given.data, None if fitness.label_free else choice.optimism())


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


@rival("average_of_all")
def average_of_all(given: RivalInputs) -> Iterator[Tensor]:
    """The mean of all checkpoints, aligned where the search has aligned them."""
    if given.records:
        aligned = given.weights if given.align is None else given.align([record.id for record in given.records])
        yield aligned.mean(0)


@rival("frozen")
def frozen_base(given: RivalInputs) -> Iterator[Tensor]:
    """An adapter's frozen base: a fresh adapter changes nothing."""
    yield random_weights(given.spec, given.seed)


@rival("nearest")
def checkpoints_of_nearest(given: RivalInputs) -> Iterator[Tensor]:
    """Every checkpoint on the closest data set that has any."""
    near = next((name for name in given.closest if any(record.data == name for record in given.records)), None)
    yield from (flat for record, flat in zip(given.records, given.weights, strict=True) if record.data == near)


def _cost_of_soup(given: RivalInputs, scored: int) -> float:
    """Every checkpoint is scored alone, all but the best within a soup, and the soup once more."""
    return (2 * len(given.records) - 1 + scored) * given.fitness.cost


@rival("soup", cost=_cost_of_soup)
def greedy_soup(given: RivalInputs) -> Iterator[Tensor]:
    """The mean of checkpoints, which takes in one after the other, best first, where that lowers the validation loss.

    Wortsman et al., Model soups (arXiv 2203.05482), algorithm 1.
    """
    if not given.records:
        return
    first, *others = given.ranked
    soup, size = given.weights[first], 1
    best = given.fitness.loss_of(soup)
    for i in others:
        wider = soup + (given.weights[i] - soup) / (size + 1)
        loss = given.fitness.loss_of(wider)
        if loss <= best:
            soup, size, best = wider, size + 1, loss
    yield soup


@rival("ridge")
def ridge(given: RivalInputs) -> Iterator[Tensor]:
    """Weights predicted from the data set's embedding by a ridge regression over the zoo; from three checkpoints on."""
    if given.generator is None:
        return
    known = dict(zip(given.generator.provenance.data, given.generator.data_vectors, strict=True))
    yield from ridge_weights(given, known, given.generator.mean_embedding(given.trained_arch, given.data))


def ridge_weights(given: RivalInputs, known: Mapping[str, Tensor], here: Tensor) -> Iterator[Tensor]:
    """Weights (p,) that a ridge regression predicts from an embedding `here`; none where there are under three checkpoints.

    Args:
        known: the embeddings of data sets by name; checkpoints on other data sets are left out.
    """
    from sklearn.linear_model import RidgeCV  # noqa: PLC0415 - it takes a second, and no other rival needs it

    index = [i for i, record in enumerate(given.records) if record.data in known]
    if len(index) < 3 or given.generator is None:
        return
    scaling = given.generator.scalings[given.trained_arch]
    x = torch.stack([known[given.records[i].data] for i in index]).numpy()
    y = scaling.normalise(given.weights[index]).numpy()
    model = RidgeCV(alphas=[10.0**k for k in range(-4, 4)]).fit(x, y)
    yield scaling.denormalise(torch.from_numpy(model.predict(here.numpy()[None])).float())[0]


@rival("noise")
def noise_around_best(given: RivalInputs) -> Iterator[Tensor]:
    """The zoo's best with noise of several sizes, as many tries as the search had evaluations."""
    if given.records:
        yield from islice(noisy(given.spec, given.weights[given.ranked[0]], given.seed), given.tries)


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
