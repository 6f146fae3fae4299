"""The settings of `popgen bench`: a bench.yaml, a grid of a sweep with the rivals that stand beside the search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ConfigDict, model_validator

from popgen.configs.load import load
from popgen.configs.search import SearchConfig
from popgen.configs.spec import Recipe
from popgen.configs.sweep import SweepConfig
from popgen.errors import BadInput, NotFound

SEARCH = "search"  # the row of the search itself
GENERATED = "generated_best"  # the row of the best of its first population
RIVALS = (
    "random",
    "best_zoo",
    "nearest",
    "average",
    "soup",
    "noise",
    "ridge",
    "clip_ridge",
    "random_latents",
    "empty_samples",
    "shuffled_samples",
    "sample",
    "samples",
    "scratch",
    "finetuned_zoo",
    "finetuned_sample",
    "latent_gradient",
)


class BenchConfig(SweepConfig):
    """A grid of architectures, data sets and seeds, and what is compared in each cell of it at one budget of image passes."""

    model_config = ConfigDict(extra="forbid")

    rivals: list[str] = list(RIVALS)
    # Further searches by name, each with the settings that differ from `search`; the budget is the same.
    further: dict[str, dict[str, Any]] = {"random_search": {"optimizer": "RandomSearch"}, "mix": {"space": "mix"}}
    describe: bool = False  # whether each data set's description is the condition, not its images
    recipe: Recipe = Recipe()  # how rivals train; the budget sets the epochs
    subject: str = SEARCH  # the row that the others are subtracted from

    @model_validator(mode="after")
    def _named(self) -> BenchConfig:
        names = [*self.rivals, *self.further, GENERATED, SEARCH]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two rows are called {', '.join(twice)}")
        unknown = [name for name in self.rivals if name not in RIVALS]
        if unknown:
            raise ValueError(f"there is no rival {unknown[0]!r}; known are {', '.join(RIVALS)}")
        if self.subject not in names:
            raise ValueError(f"the subject {self.subject!r} is no row; the rows are {', '.join(names)}")
        return self

    @property
    def rows(self) -> list[str]:
        """The names of the rows in their order, the search last."""
        return [*self.rivals, *self.further, GENERATED, SEARCH]

    def cells(self) -> list[dict[str, SearchConfig]]:
        """The searches of each cell by the names of their rows, `search` first.

        Raises:
            BadInput: an unknown field of a search, one that the grid or the bench sets, or a value that does not fit.
        """
        for name, changed in {SEARCH: self.search, **self.further}.items():
            own = next((key for key in ("finetune", "baselines", "parts", "base") if key in changed), None)
            if own is not None or name != SEARCH and "evaluations" in changed:
                raise BadInput(
                    f"{self.name}: {own or 'evaluations'} cannot be set for {name}",
                    "the rows of a bench are whole networks at one budget, which its rivals decide",
                    "Leave it out; search.evaluations sets the budget of every row.",
                )
        lists = [self.searches({"baselines": "none", **changed}) for changed in ({}, *self.further.values())]
        return [dict(zip((SEARCH, *self.further), cell, strict=True)) for cell in zip(*lists, strict=True)]


def load_bench(path: str | Path) -> BenchConfig:
    """Read and check a bench.yaml.

    Raises:
        NotFound: no such file.
        BrokenFile: not YAML.
        BadInput: an unknown key, a missing one, or a value that does not fit.
    """
    if not Path(path).is_file():
        raise NotFound(
            f"there is no bench {str(path)!r}",
            "no such file",
            "Give the path of a YAML file; see examples/bench/digits.yaml.",
        )
    config = load(path, BenchConfig)
    config.cells()
    return config
