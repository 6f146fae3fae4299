"""Names of architectures that installed packages and clones know, read from their sources as text.

Importing timm or torchvision would take seconds, and importing a clone would run its code.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

_REGISTERED = re.compile(r"^@register_model(?:\([^)\n]*\))?[ \t]*\n(?:@.*\n)*def +(\w+)", re.MULTILINE)
_FORMS = {"timm": "timm:{}", "torchvision": "torchvision.models:{}"}  # package: the form of its networks' names
_DEFINED = re.compile(r"^(?:def|class) +(\w+)|^(\w+) *=|import +(.+)$", re.MULTILINE)
_CLONE = re.compile(r"([A-Za-z0-9-]+)_(.+)_([^_]+)")  # the folder of torch.hub: OWNER_REPO_REF


def known_elsewhere(name: str) -> list[str]:
    """The full names under which timm, torchvision and clones of torch.hub know an architecture; [] if none does.

    Args:
        name: without options; a tag, as timm has behind a point, does not count.

    >>> known_elsewhere("ResNet18")
    ['timm:resnet18', 'torchvision.models:resnet18']
    """
    bare = name.partition(".")[0].lower()  # without the tag of published weights
    found = [form.format(bare) for package, form in _FORMS.items() if bare in _registered(package)]
    return found + [full for full in _in_clones() if full.rpartition(":")[2].lower() == bare]


def entries_in(folder: Path) -> list[str]:
    """Names of the entries of a local clone; its hubconf.py is searched as text, without running it."""
    text = (folder / "hubconf.py").read_text(encoding="utf-8", errors="replace")
    groups = [part for match in _DEFINED.findall(text) for part in match if part]
    return [name.strip(" ()") for part in groups for name in part.split(",") if name.strip(" ()").isidentifier()]


def _registered(package: str) -> set[str]:
    """The models that a package registers; none if it is not installed."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return set()
    files = sorted((Path(spec.origin).parent / "models").rglob("*.py"))
    return {name for file in files for name in _REGISTERED.findall(file.read_text(encoding="utf-8", errors="replace"))}


def _in_clones() -> Iterator[str]:
    """The entries of the repositories that torch.hub has fetched."""
    for file in sorted(_hub_folder().glob("*/hubconf.py")):
        match = _CLONE.fullmatch(file.parent.name)
        if match is not None:
            owner, repository, ref = match.groups()
            yield from (f"hub:{owner}/{repository}@{ref}:{entry}" for entry in entries_in(file.parent))


def _hub_folder() -> Path:
    """The folder of torch.hub's clones, where nobody has moved it with torch.hub.set_dir."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("TORCH_HOME", f"{cache}/torch")).expanduser() / "hub"
