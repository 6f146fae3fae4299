"""Notices when a user's own search.py hides popgen's package `search`, which Python would otherwise import silently."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from popgen.errors import BadInput


def check_search_package() -> None:
    """Refuse to go on when `import search` would give somebody else's module.

    Raises:
        BadInput: names the file that is in the way.

    >>> check_search_package()
    """
    spec = find_spec("search")
    origin = Path(spec.origin) if spec is not None and spec.origin else None
    if origin is None or not all((origin.parent / room).is_dir() for room in ("loop", "optimizers", "pools")):
        raise BadInput(
            f"popgen's own package `search` is hidden by {origin or 'a folder called search'}",
            "Python imports that one in its place",
            "Rename it (for example to my_search.py), or start from another folder.",
        )
