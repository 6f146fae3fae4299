"""Resolves what a user may name: a `module:attr`, a name inside a folder, a packaged file."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

from popgen.errors import BadInput, NotFound

ASSETS = Path(__file__).parent / "assets"
_MODULE_ATTR = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def is_module_attr(ref: str) -> bool:
    """Whether `ref` has the form `package.module:name`.

    >>> is_module_attr("my.nets:make"), is_module_attr("cnn-s"), is_module_attr("npz:/data/x.npz")
    (True, False, False)
    """
    return _MODULE_ATTR.fullmatch(ref) is not None and not ref.startswith(
        ("npz:", "folder:", "hf:", "local-dir:", "hub:")
    )


def load_attr(ref: str) -> Any:
    """The object that `package.module:name` points at.

    Raises:
        NotFound: the module cannot be imported, or has no such name.

    >>> load_attr("math:pi") > 3
    True
    """
    module_name, _, attr = ref.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except ImportError as error:
        raise NotFound(
            f"module {module_name!r} of {ref!r} cannot be imported",
            f"{type(error).__name__}: {error}",
            "Install it, or run from the folder that holds it (PYTHONPATH=.).",
        ) from error
    for part in attr.split("."):
        if not hasattr(found, part):
            raise NotFound(f"{module_name!r} has no {attr!r}", f"it was asked for as {ref!r}", "Check the spelling.")
        found = getattr(found, part)
    return found


def inside(folder: Path, name: str) -> Path:
    """`folder / name`, refused when it would leave `folder`.

    Raises:
        BadInput: the name is absolute or climbs out of the folder.
    """
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise BadInput(
            f"{name!r} leaves the folder {folder}", "names in an index stay inside its folder", "Remove the entry."
        )
    return path


def asset(kind: str, name: str) -> Path | None:
    """The packaged folder `popgen/assets/KIND/NAME`, or None when the package ships no such thing."""
    if not re.fullmatch(r"\w[\w.-]*", name):
        return None
    path = ASSETS / kind / name
    return path if path.exists() else None


def asset_names(kind: str) -> list[str]:
    """Names of the packaged folders of a kind."""
    folder = ASSETS / kind
    return (
        sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("_")) if folder.exists() else []
    )
