"""Seeded black-box search: vectors, losses, budgets, Nevergrad and Ray.

`import search` is cheap: Nevergrad is imported with the first use of `run_search` or of an optimizer's name, Ray with
the first use of `RayPool`.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .budget import Budget
from .errors import (
    BrokenRecord,
    ResumeMismatch,
    RunLocked,
    SearchError,
    TooManyFailures,
    UnknownName,
    UnknownOptimizer,
)
from .history import History, Record
from .local_pool import LocalPool
from .pool import Evaluation, Objective, Pool, Task, evaluate, in_order
from .population import Population
from .progress import Progress
from .result import FrontPoint, SearchResult
from .settings import SearchSettings
from .space import SPACES, Space, make_space

if TYPE_CHECKING:
    from .optimizer import OPTIMIZERS, Optimizer, check_optimizer, make_optimizer
    from .ray_pool import RayPool
    from .ray_session import RaySession
    from .run import run_search
    from .warm import best_of

_HEAVY = {
    "OPTIMIZERS": "optimizer",
    "Optimizer": "optimizer",
    "check_optimizer": "optimizer",
    "make_optimizer": "optimizer",
    "RayPool": "ray_pool",
    "RaySession": "ray_session",
    "best_of": "warm",
    "run_search": "run",
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
    "ResumeMismatch",
    "RunLocked",
    "SearchError",
    "SearchResult",
    "SearchSettings",
    "Space",
    "Task",
    "TooManyFailures",
    "UnknownName",
    "UnknownOptimizer",
    "best_of",
    "check_optimizer",
    "evaluate",
    "in_order",
    "make_optimizer",
    "make_space",
    "run_search",
]


def __getattr__(name: str) -> Any:
    if name in _HEAVY:
        return getattr(importlib.import_module(f".{_HEAVY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
