"""Where a generator is: the folder that a user names, or a built-in one."""

from __future__ import annotations

from pathlib import Path

from popgen.errors import NotFound, unknown_name
from popgen.refs import asset, asset_names


def generator_folder(name: str | Path) -> Path:
    """The folder of a generator: a path, or a built-in name.

    Raises:
        NotFound: neither.
    """
    path = Path(name)
    if (path / "config.json").exists():
        return path
    built_in = asset("generators", str(name))
    if built_in is None:
        known = asset_names("generators")
        if path.exists():
            raise NotFound(f"{path} is not a generator", "it has no config.json", "`popgen train SPEC.yaml` makes one.")
        raise unknown_name(
            "generator", str(name), known, "Name a built-in one or the folder that `popgen train` wrote."
        )
    return built_in
