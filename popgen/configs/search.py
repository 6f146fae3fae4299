"""The settings of `popgen search`, as they stand in a run's config.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from popgen.configs.load import Settings, Strict, parse
from popgen.configs.sampling import BatchNorm, Sampling

Baselines = Literal["none", "standard", "all"]
Epochs = Annotated[int, Field(ge=0, le=10_000)]
EXPERT_SPACES = (
    "mix",
    "principal",
    "low-rank",
)  # spaces of weights around the experts of a zoo; a generator's are search.SPACES

# The name of each section's field on the command line. Runs that popgen wrote before it had sections spell their settings so,
# too, and `at_once` as `group`.
FLAT = {
    **{name: f"sampling.{name}" for name in ("prior", "sampler", "guidance", "strength")},
    "sample_steps": "sampling.steps",
    **{f"sgd_{name}": f"sgd.{name}" for name in ("steps", "lr", "batch")},
    **{f"finetune_{name}": f"finetune.{name}" for name in ("mode", "epochs", "lr", "batch", "augment", "parts")},
    **{name: f"compute.{name}" for name in ("workers", "address", "timeout", "gpus", "at_once", "precision")},
    "group": "compute.at_once",
}
_EXPERTS = 8
_BUDGET = ("evaluations", "seconds", "target", "patience")


class Sgd(Strict):
    """Steps of SGD on training images before a candidate is scored. They cost budget."""

    steps: int = Field(0, ge=0, le=10_000)
    # Learning rate of the first step; it falls to zero along half a cosine.
    lr: float = Field(0.01, gt=0, allow_inf_nan=False)
    batch: int = Field(50, ge=2)  # images in each step


class Finetune(Strict):
    """Training after the search: of its best and of a rival for the result, and of all rows by one recipe to compare them."""

    # auto: where labels allow, the search's best and the strongest start without a search are trained, and held-out examples choose.
    mode: Literal["auto", "never"] = "auto"
    epochs: list[Epochs] = []  # the numbers of epochs to compare; each is a training of its own
    # Peak learning rate of one cycle over the epochs; None: 0.03 with SGD, 0.003 with AdamW for adapters; for the result, the better
    # one of two.
    lr: float | None = Field(None, gt=0, allow_inf_nan=False)
    batch: int | None = Field(
        None, ge=2
    )  # images in each step; None: 50, 16 for adapters and for a result with few labels
    # Mirrors and shifts images anew in every epoch; auto: for the result images in colour, unless many held-out ones say
    # otherwise; none in grey and to compare rows.
    augment: Literal["auto", "none", "flip-crop"] = "auto"
    parts: bool = False  # train the tensors of `parts` alone


class Compute(Strict):
    """The machines that evaluate candidates. They change the time and not the result, except for `gpus`, `at_once` and `precision`."""

    workers: int | Literal["auto"] = "auto"  # 0: this process; auto: Ray where the search takes longer than starting it
    address: str | None = None  # address of a Ray cluster; None: RAY_ADDRESS, else this machine
    timeout: float | None = Field(None, gt=0, allow_inf_nan=False)  # seconds that one candidate may take; needs workers
    gpus: float = Field(0, ge=0, allow_inf_nan=False)  # share of a GPU for each worker
    at_once: int = Field(1, ge=1)  # candidates that a worker with a GPU evaluates in one pass
    # Precision in which candidates are compared; auto measures before the first evaluation whether bfloat16 pays. What decides
    # in the end, and every figure of the table, is float32. The default is the same on every machine.
    precision: Literal["auto", "float32", "bfloat16"] = "float32"


class SearchConfig(Settings):
    """The architectures, the data set, the method and the budget of a search.

    The defaults of the search are those that did best in examples/bench/search_settings.py.
    """

    model_config = ConfigDict(extra="forbid")

    archs: list[str] = Field(min_length=1)
    data: str
    data_dir: str | None = None  # folder of named data sets; None: POPGEN_DATA, else ./data
    generator: str | None = None  # None: the built-in one where it knows the architecture, else what is found here
    # A folder or built-in name, whose networks are baselines; None: the generator's own zoo, where it is found.
    zoo: str | None = None
    parts: list[str] = []  # `head` or globs of tensors' names: only these tensors are generated
    base: str | None = None  # the .safetensors file that all other tensors are taken from
    head: Literal["auto", "keep", "remap", "refit"] = "auto"
    batch_norm: BatchNorm = "auto"
    split: str = "val"  # the split that candidates are scored on; `test` is refused
    sgd: Sgd = Sgd()
    # Budget of each architecture, seeds included, in passes over the validation images.
    evaluations: int = Field(300, ge=1)
    seconds: float | None = Field(None, gt=0, allow_inf_nan=False)  # time for each architecture
    target: float | None = Field(None, allow_inf_nan=False)  # the search stops at this loss
    patience: int | None = Field(None, ge=1)  # the search stops after so many evaluations without a better one
    optimizer: str = "CMA"
    # The space that the optimizer moves in. For a generator's latents it is identity (their own coordinates, which have variance 1
    # over the zoo), std or pca; around experts of a zoo it is mix, principal or low-rank; auto chooses. None: identity, or auto without a generator.
    space: str | None = None
    sigma: float | None = Field(None, gt=0, allow_inf_nan=False)  # first step, in units of the population's spread
    batch: int = Field(12, ge=1)  # candidates asked at a time; part of the algorithm, not of the machine
    mode: Literal["exact", "async"] = "exact"  # async: no worker waits for another, and no two histories are the same
    rungs: list[float] = []  # shares of the validation images at which the worse half of a batch drops out
    # `loss`, measures of popgen.fitness.measures, or module:function; several of them give a Pareto front.
    objectives: list[str] = Field(["loss"], min_length=1)
    # Weights of the objectives; their weighted sum is minimised instead of searching a front.
    weights: list[float] | None = None
    groups: str | None = None  # a CSV file with the group of each validation image, for measures of groups
    population: int = Field(16, ge=1)  # latents sampled from the generator
    # How many checkpoints of the zoo are seeds: codes of those on the closest data sets, or, without a generator, the best by
    # validation loss. None: 8, and all of the zoo for adapters where there are labels enough to choose among them.
    experts: int | None = Field(None, ge=0)
    # Methods of merging the experts; a mixture starts from the best of them. None: all that the data allow and the budget affords; [] none.
    merges: list[str] | None = None
    warm_start: str | None = None  # the folder of an earlier run, whose best candidates join the population
    warm_best: int = Field(8, ge=1)  # how many of its best candidates join
    # Standard deviation, in latent units, of the best latent around the sampled population's mean, as it is believed beforehand.
    # 0 believes nothing: the validation loss alone counts.
    prior_width: float = Field(0.5, ge=0, allow_inf_nan=False)
    describe: str | None = Field(None, min_length=1)  # the condition in words; None: images of the training split
    sampling: Sampling = Sampling()
    compute: Compute = Compute()
    baselines: Baselines = "standard"
    # How many networks, the search's best and the zoo's best ones, stand side by side under one head as a further result; 0: none.
    ensemble: int = Field(0, ge=0, le=64)
    finetune: Finetune = Finetune()
    seed: int = Field(0, ge=0, lt=2**31)

    @property
    def few_experts(self) -> int:
        """How many checkpoints are seeds where they cannot be all."""
        return _EXPERTS if self.experts is None else self.experts

    def frozen_fields(self) -> dict[str, object]:
        """The settings that may not change when a run is resumed, with the fields of sections as `section.field`.

        Budgets, workers and what is only reported may change. The base may lie elsewhere: its hash counts.
        """
        free = {*_BUDGET, "baselines", "ensemble", "zoo", "data_dir", "finetune", "base"}
        content = self.model_dump(exclude={**dict.fromkeys(free, True), "compute": {"workers", "address", "timeout"}})
        return flattened(content)

    def budget(self) -> tuple[object, ...]:
        """Evaluations, seconds, target and patience."""
        return tuple(getattr(self, name) for name in _BUDGET)


def search_config(given: Mapping[str, Any], before: SearchConfig | None, where: str) -> SearchConfig:
    """The settings of a search from those that the user gives; those of the run that is continued stand behind them.

    Args:
        given: fields of SearchConfig, or their names on the command line.
        before: the settings of that run, None for a new one.
        where: stands first in errors.

    Raises:
        BadInput: an unknown name, or a value that does not fit.
    """
    return parse(nested({**({} if before is None else before.model_dump()), **given}), SearchConfig, where)


def nested(flat: Mapping[str, Any], model: type[BaseModel] = SearchConfig) -> dict[str, Any]:
    """Settings with the fields of the model's sections under these, from names as on the command line.

    >>> nested({"evaluations": 40, "sgd_steps": 2, "sgd": {"lr": 0.1}})
    {'sgd': {'lr': 0.1, 'steps': 2}, 'evaluations': 40}
    """
    found: dict[str, Any] = {name: dict(value) for name, value in flat.items() if isinstance(value, Mapping)}
    for name, value in flat.items():
        section, dot, field = FLAT.get(name, name).partition(".")
        if dot and section in model.model_fields:
            found.setdefault(section, {})[field] = value
        elif name not in found:
            found[name] = value
    return found


def flattened(content: Mapping[str, Any]) -> dict[str, object]:
    """Settings with the fields of sections as `section.field`.

    >>> flattened({"seed": 0, "sgd": {"steps": 2}})
    {'seed': 0, 'sgd.steps': 2}
    """
    found: dict[str, object] = {}
    for name, value in content.items():
        inner = value if isinstance(value, Mapping) else None
        found |= {name: value} if inner is None else {f"{name}.{field}": one for field, one in inner.items()}
    return found
