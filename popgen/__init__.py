"""popgen: one conditional generator for a zoo of checkpoints, and good weights for a new job from it.

The names below load their modules on first use, so that `import popgen` itself stays fast.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "ArchSpec": "popgen.archs",
    "Compute": "popgen.api",
    "Finetune": "popgen.api",
    "Generator": "popgen.generator",
    "Sampling": "popgen.api",
    "Sgd": "popgen.api",
    "TrainingCompute": "popgen.api",
    "Zoo": "popgen.zoo",
    "adapt": "popgen.api",
    "build": "popgen.archs",
    "build_zoo": "popgen.zoo",
    "encode": "popgen.api",
    "generate": "popgen.api",
    "load_data": "popgen.data",
    "load_sweep": "popgen.api",
    "merge": "popgen.api",
    "push": "popgen.api",
    "rank": "popgen.api",
    "read_spec": "popgen.api",
    "retrieve": "popgen.api",
    "run_audit": "popgen.api",
    "run_bench": "popgen.api",
    "search": "popgen.api",
    "sweep": "popgen.api",
    "train": "popgen.api",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'popgen' has no attribute {name!r}")
    from popgen.shadow import check_search_package

    check_search_package()
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
