"""The settings of `popgen sweep`: a sweep.yaml.

Its `search` may hold any field of SearchConfig that the grid does not set, and is checked as one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, model_validator

from popgen.configs.load import Settings, load, parse
from popgen.configs.search import SearchConfig, nested
from popgen.errors import BadInput, NotFound

_SET_BY_GRID = {"archs": "archs", "data": "data", "seed": "seeds"}


class SweepConfig(Settings):
    """A grid: every architecture on every data set with every seed, each one search of its own."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=r"^\w[\w.-]*$")
    archs: list[str] = Field(min_length=1)
    data: list[str] = Field(min_length=1)
    seeds: list[int] = Field([0], min_length=1)
    search: dict[
        str, Any
    ] = {}  # fields of SearchConfig; `compute.workers`: Ray actors of each trial, 0: it is one process

    @model_validator(mode="after")
    def _consistent(self) -> SweepConfig:
        lists = {"archs": self.archs, "data": self.data, "seeds": list(map(str, self.seeds))}
        for kind, names in lists.items():
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{kind} lists {', '.join(twice)} twice")
        return self

    def searches(self, changed: Mapping[str, Any] | None = None) -> list[SearchConfig]:
        """The settings of every search, architectures outermost, seeds innermost.

        Args:
            changed: fields that stand over those of `search`.

        Raises:
            BadInput: `search` has an unknown key, one that is the grid's, or a value that does not fit.

        >>> grid = SweepConfig(name="both", archs=["cnn-s", "mlp-s"], data=["digits/rotate:45"], search={"batch": 8})
        >>> [(one.archs, one.seed, one.batch, one.compute.workers) for one in grid.searches()]
        [(['cnn-s'], 0, 8, 0), (['mlp-s'], 0, 8, 0)]
        """
        fields = {**self.search, **(changed or {})}
        for key in fields:
            if key in _SET_BY_GRID:
                raise BadInput(
                    f"{self.name}: search.{key} is set by the grid",
                    f"received {fields[key]!r}",
                    f"Name it in the list `{_SET_BY_GRID[key]}` beside `search`.",
                )
        search = nested(fields)
        compute = search.get("compute") or {}
        if not isinstance(compute, dict):
            raise BadInput(
                f"{self.name}: search.compute is {compute!r}", "it is a section", "For example compute: {workers: 2}."
            )
        if "address" in compute:
            raise BadInput(
                f"{self.name}: search.compute.address cannot be set",
                "a search of a sweep runs in the cluster that the sweep has joined",
                "Give --address to `popgen sweep`.",
            )
        if compute.get("workers") == "auto":
            raise BadInput(
                f"{self.name}: search.compute.workers is 'auto'",
                "what a trial takes of the machine must be known before it starts",
                "Give a number; 0 makes each search one process.",
            )
        # A sweep compares searches at one budget; what training adds to them is not in it.
        tuning = {"mode": "never", **(search.get("finetune") or {})}
        given = {**search, "compute": {"workers": 0, **compute}, "finetune": tuning}
        return [
            parse({**given, "archs": [arch], "data": data, "seed": seed}, SearchConfig, f"{self.name}: search")
            for arch in self.archs
            for data in self.data
            for seed in self.seeds
        ]


def load_sweep(path: str | Path) -> SweepConfig:
    """Read and check a sweep.yaml.

    Raises:
        NotFound: no such file.
        BrokenFile: not YAML.
        BadInput: an unknown key, a missing one, or a value that does not fit.
    """
    if not Path(path).is_file():
        raise NotFound(
            f"there is no sweep {str(path)!r}", "no such file", "Give the path of a YAML file; see examples/sweep.yaml."
        )
    config = load(path, SweepConfig)
    config.searches()
    return config
