"""Adapters whose base is not here: their tensors are kept as they are, and nothing can be run with them."""

from __future__ import annotations

from torch import Tensor, nn

from popgen.archs.adapters.modules import add_module
from popgen.errors import NotFound


class AdapterWithoutBase(nn.Module):
    """Holds the low-rank matrices of an adapter under their names."""

    def __init__(self, base: str, tensors: dict[str, list[int]]) -> None:
        super().__init__()
        self._base = base
        for name, (rows, columns) in tensors.items():
            add_module(self, name.removesuffix(".weight"), nn.Linear(columns, rows, bias=False))

    def forward(self, _: Tensor) -> Tensor:
        """Refuse to run.

        Raises:
            NotFound: always.
        """
        raise NotFound(
            f"the base {self._base!r} of this adapter is not here",
            "it was imported without its base, so that it can be kept and not run",
            "Import it again with --base FOLDER.",
        )
