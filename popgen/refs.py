"""Resolution of names given by users or files: `module:attr`, a path inside a folder, a packaged folder.

It also records which code from outside the user has named, because only that code may run.
"""

from __future__ import annotations

import importlib
import os
import re
from pathlib import Path
from typing import Any

from popgen.errors import BadInput, NotFound, NotTrusted

ASSETS = Path(__file__).parent / "assets"
_MODULE_ATTR = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_SOURCES = ("npz:", "folder:", "local-dir:", "hub:", "timm:", "hf:")  # prefixes of references that are not modules
_trusted: set[str] = set()  # references that the user of this process has named


def is_module_attr(ref: str) -> bool:
    """Whether `ref` has the form `package.module:name`.

    >>> is_module_attr("my.nets:make"), is_module_attr("cnn-s"), is_module_attr("timm:resnet18")
    (True, False, False)
    """
    return _MODULE_ATTR.fullmatch(ref) is not None and not ref.startswith(_SOURCES)


def trust(ref: str) -> None:
    """Remember that the user has named `ref`, so that the code behind it may run in this process."""
    _trusted.add(ref)


def is_trusted(ref: str) -> bool:
    """Whether the user has named `ref`: as an argument, in a spec, or in the environment variable POPGEN_TRUST.

    The variable holds references separated by spaces.
    """
    return ref in _trusted or ref in os.environ.get("POPGEN_TRUST", "").split()


def check_trusted(ref: str) -> None:
    """Refuse code that the user has not named.

    A file of a zoo or generator made elsewhere must not decide which code runs here.

    Raises:
        NotTrusted: the user has not named `ref`.

    >>> trust("hub:me/nets:small")
    >>> check_trusted("hub:me/nets:small")
    """
    if not is_trusted(ref):
        raise NotTrusted(
            f"{ref} is code from outside that a zoo or a generator names, and you have not",
            "it would be fetched and run",
            f"If you trust it, set POPGEN_TRUST={ref!r}, or name it yourself as the architecture.",
        )


def load_attr(ref: str) -> Any:
    """Import the object that `package.module:name` refers to.

    Raises:
        NotFound: the module cannot be imported, or has no such attribute.

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
    """Return the resolved path `folder / name`, which must lie inside `folder`.

    Raises:
        BadInput: the path lies outside the folder.
    """
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise BadInput(
            f"{name!r} leaves the folder {folder}", "names in an index stay inside its folder", "Remove the entry."
        )
    return path


def asset(kind: str, name: str) -> Path | None:
    """The packaged folder `popgen/assets/KIND/NAME`, or None if the package has no such folder."""
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
