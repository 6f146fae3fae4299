"""Seeded black-box search over vectors, with the optimizers of Nevergrad, on one machine or a Ray cluster.

`import search` is cheap: Nevergrad is imported when the first optimizer is made, after the seeds have been evaluated, Ray
when `RayPool` is used or `RaySession` starts it.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .errors import (
    BrokenRecord,
    ResumeMismatch,
    RunLocked,
    SearchError,
    TooManyFailures,
    UnknownName,
    UnknownOptimizer,
)
from .loop.budget import Budget
from .loop.history import History, Record
from .loop.population import Population
from .loop.progress import Progress
from .loop.result import FrontPoint, SearchResult
from .loop.settings import SearchSettings
from .loop.space import SPACES, Space, make_space, principal_directions
from .pools.local import LocalPool
from .pools.pool import Evaluation, Objective, Pool, Request, evaluate, in_order

if TYPE_CHECKING:
    from .loop.run import run_search
    from .loop.warm_start import best_of
    from .optimizers.names import OPTIMIZERS, check_optimizer, optimizer_for
    from .optimizers.optimizer import Optimizer, make_optimizer
    from .optimizers.pareto import hypervolume, nondominated
    from .pools.ray_pool import RayPool
    from .pools.ray_session import RaySession

_HEAVY = {
    "OPTIMIZERS": "optimizers.names",
    "Optimizer": "optimizers.optimizer",
    "check_optimizer": "optimizers.names",
    "make_optimizer": "optimizers.optimizer",
    "optimizer_for": "optimizers.names",
    "hypervolume": "optimizers.pareto",
    "nondominated": "optimizers.pareto",
    "RayPool": "pools.ray_pool",
    "RaySession": "pools.ray_session",
    "best_of": "loop.warm_start",
    "run_search": "loop.run",
}

__all__ = [
    "OPTIMIZERS",
    "SPACES",
    "BrokenRecord",
    "Budget",
    "Evaluation",
    "FrontPoint",
    "History",
    "LocalPool",
    "Objective",
    "Optimizer",
    "Pool",
    "Population",
    "Progress",
    "RayPool",
    "RaySession",
    "Record",
    "Request",
    "ResumeMismatch",
    "RunLocked",
    "SearchError",
    "SearchResult",
    "SearchSettings",
    "Space",
    "TooManyFailures",
    "UnknownName",
    "UnknownOptimizer",
    "best_of",
    "check_optimizer",
    "evaluate",
    "hypervolume",
    "in_order",
    "make_optimizer",
    "make_space",
    "nondominated",
    "optimizer_for",
    "principal_directions",
    "run_search",
]


def __getattr__(name: str) -> Any:
    if name in _HEAVY:
        return getattr(importlib.import_module(f".{_HEAVY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
