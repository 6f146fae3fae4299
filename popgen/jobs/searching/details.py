"""The result of a search, and the details that result.json keeps of it besides its table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from popgen.baselines.row import Row
from popgen.errors import unknown_name
from popgen.fitness import Fitness
from popgen.fitness.batch_norm import BatchNorm
from popgen.json_text import known_numbers
from search import Population, SearchResult


@dataclass(frozen=True)
class FrontPoint:
    """A point of a Pareto front: the evaluation's index, the objectives' values, its score, its file of weights.

    `test_values` are those of the objectives on test images, None where they are not known.
    """

    index: int
    values: dict[str, float]
    val_score: float
    weights: str
    test_values: dict[str, float] | None = None


@dataclass(frozen=True)
class SourceDetails:
    """Details of the candidates' source. A field that does not apply is None and left out of result.json."""

    source: str
    space: str | None = None  # around experts: mix, principal or low-rank
    space_reason: str | None = None
    # a generator's latents
    closest: list[str] | None = None  # the training data sets closest to this one
    strength: float | None = None  # strength of the condition, 0 to 1
    mutual_information: dict[str, float] | None = None  # mutual information by strength, where it chose the strength
    # Source and changes of an architecture that the generator was not trained on.
    untrained: dict[str, str] | None = None
    # experts of a zoo
    layer_groups: list[str] | None = None  # groups of layers with coefficients of their own
    experts: list[str] | None = None
    expert_losses: list[float] | None = None
    barriers: dict[str, float] | None = None
    start: str | None = None  # the merge that a mixture starts from, or the network that directions do
    merges: dict[str, dict[str, Any]] | None = None  # loss, cost and how, of each merge that it could start from
    evaluations_before: int | None = None


@dataclass(frozen=True)
class SearchDetails:
    """Details of the search of one architecture."""

    head: str
    batch_norm: BatchNorm  # keep, reestimate, or a share
    space: str | None
    space_reason: str | None
    space_dim: int | None
    best_index: int | None
    best_origin: str | None
    failures: int
    seconds: float
    stopped_by: str
    looks: int
    population: int
    validation_images: int
    cost: float  # cost of an evaluation, in passes over the validation examples
    sgd: dict[str, Any] | None
    groups: Mapping[str, int] | None  # number of validation examples in each group, where an objective uses groups
    origin: SourceDetails
    renamed_classes: dict[str, str]
    images: str  # how the examples were fitted to the network, in words
    run_with: str
    precision: str  # the precision in which the search compared candidates; every score of the table is float32
    front: list[FrontPoint] = field(default_factory=list)
    fronts: dict[str, Any] | None = None  # the front beside those of its rivals, see Fronts.to_json
    score_key: str = "val_accuracy"  # the key of a front's scores
    information_gain: dict[str, Any] | None = None  # the gain over the start, in a search without labels
    label_choice: dict[str, Any] | None = None  # what few labels chose among adapters, and how sure that is
    finetune: dict[str, Any] | None = None
    ensemble: dict[str, Any] | None = None  # the members that stand side by side, and their file
    tuned: dict[str, Any] | None = None  # what training gained from each start, and which network is the result
    family: dict[str, Any] | None = None  # the data set's place beside the generator's training data sets
    contamination: dict[str, Any] | None = None
    # Remarks on rows whose test and validation accuracies differ beyond chance.
    disagreements: list[str] = field(default_factory=list)

    @classmethod
    def of(
        cls, result: SearchResult, fitness: Fitness, population: Population, origin: SourceDetails, **rest: Any
    ) -> SearchDetails:
        """The details of an engine's result."""
        return cls(
            head=fitness.head,
            batch_norm=fitness.batch_norm,
            space=origin.space or result.space_name,
            space_reason=origin.space_reason or result.space_reason,
            space_dim=result.space_dim,
            best_index=result.best_index,
            best_origin=result.best_origin,
            failures=result.failures,
            seconds=round(result.seconds, 3),
            stopped_by=result.stopped_by,
            looks=result.looks,
            population=len(population),
            validation_images=len(fitness.val[1]),
            cost=fitness.cost,
            sgd=None if fitness.sgd is None else asdict(fitness.sgd),
            origin=origin,
            **rest,
        )

    def to_json(self) -> dict[str, Any]:
        """The keys of result.json, which are stable; what does not apply is left out."""
        nested = ("origin", "front", "score_key")
        content = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in nested}
        content |= {name: value for name, value in asdict(self.origin).items() if value is not None}
        content["front"] = [
            {
                "index": p.index,
                "values": p.values,
                self.score_key: p.val_score,
                "test_values": p.test_values,
                "weights": p.weights,
            }
            for p in self.front
        ]
        optional = (
            *("sgd", "groups", "fronts", "information_gain", "label_choice"),
            *("finetune", "tuned", "ensemble", "contamination", "family"),
        )
        left_out = {name for name in optional if content[name] is None} | ({"front"} if not self.front else set())
        return {name: value for name, value in content.items() if name not in left_out}


@dataclass(frozen=True)
class Found:
    """The result of one architecture; `result.test_score` is the figure to quote."""

    arch: str
    data: str
    run: str
    weights: str  # path of the result's plain state dict
    rows: list[Row]  # the last is that of the result
    details: SearchDetails

    def __repr__(self) -> str:
        result = self.result
        return f"Found({self.arch!r}, {self.data!r}, {result.name}: test {result.unit} {result.test_score:.4f}, {self.weights!r})"

    @property
    def result(self) -> Row:
        """The row of the network in the file of weights: that of the search, or of what training made of a start."""
        return self.rows[-1]

    def row(self, name: str) -> Row:
        """A row of the table by its name.

        Raises:
            NotFound: the table has no such row.
        """
        for row in self.rows:
            if row.name == name:
                return row
        raise unknown_name("row", name, [row.name for row in self.rows], "Found.rows has all of them.")

    def to_json(self) -> dict[str, Any]:
        """The keys of result.json and --json; they are stable. A number that is not finite is None."""
        plain = {
            "arch": self.arch,
            "data": self.data,
            "run": self.run,
            "weights": self.weights,
            "result": self.result.name,
        }
        content = {**plain, "rows": [row.to_json() for row in self.rows], "details": self.details.to_json()}
        found: dict[str, Any] = known_numbers(content)
        return found
