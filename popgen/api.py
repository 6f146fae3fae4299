"""popgen from Python: the commands as functions, with the options' names as arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from popgen.configs.search import SearchConfig
from popgen.configs.sweep import SweepConfig, load_sweep
from popgen.jobs.encode import Encoded, encode
from popgen.jobs.generate import Generated, generate
from popgen.jobs.retrieve import Retrieved, retrieve
from popgen.jobs.search import Found
from popgen.jobs.search import search as _search
from popgen.jobs.sweep import SweepRow, sweep
from popgen.jobs.train import read_spec, train

__all__ = [
    "Encoded",
    "Found",
    "Generated",
    "Retrieved",
    "SweepConfig",
    "SweepRow",
    "encode",
    "generate",
    "load_sweep",
    "read_spec",
    "retrieve",
    "search",
    "sweep",
    "train",
]


def search(
    arch: str | Sequence[str], data: str, *, out: str | None = None, verbose: bool = False, **options: Any
) -> list[Found]:
    """Weights of each architecture for a data set; `options` are the fields of SearchConfig.

    Raises:
        PopgenError: a name, shape or combination that does not fit.

    Example:
        >>> import tempfile
        >>> found = search("mlp-s", "digits/rotate:45", evaluations=40, out=tempfile.mkdtemp())
        >>> found[0].row("search").evaluations
        40
    """
    archs = [arch] if isinstance(arch, str) else list(arch)
    return _search(SearchConfig(archs=archs, data=data, **options), out, say=print if verbose else lambda _: None)
