"""Loads the public names of a package on first use, so that importing the package imports nothing heavy."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def lazy(package: str, public: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """Return the function `__getattr__` of a package.

    Args:
        package: the package's name, for the error.
        public: for each module, by its full name, the names that the package takes from it.

    >>> lazy("popgen", {"popgen.tasks": ["get_task"]})("get_task")("classification").unit
    'accuracy'
    """
    module_of = {name: module for module, names in public.items() for name in names}

    def load(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(module_of[name]), name)

    return load
