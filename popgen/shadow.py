"""A check that a user's own module called `search` does not hide popgen's package `search`.

Python would otherwise import the user's module silently in its place.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from popgen.errors import BadInput


def check_search_package() -> None:
    """Raise an error if `import search` would import another module than popgen's package.

    Raises:
        BadInput: another module is found first; the message names its file.

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
