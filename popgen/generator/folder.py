"""A generator's folder: where it is, the one that a user names or a built-in one, and what its files hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from popgen.errors import BrokenFile, NotFound, brief, unknown_name
from popgen.refs import asset, asset_names

FORMAT = 3  # 2 had the settings of sampling beside the others of the prior
_EARLIER = {"sampler": "sampler", "sample_steps": "steps", "guidance": "guidance", "strength": "strength"}


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


def read_folder(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Tensor]]:
    """What config.json, codes.json and model.safetensors of a generator hold.

    Raises:
        BrokenFile: a file is missing or truncated, or of another format.
    """
    try:
        config = json.loads((folder / "config.json").read_text())
        records = json.loads((folder / "codes.json").read_text())
        tensors = load_file(folder / "model.safetensors")
        found = config["format"]
    except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
        raise BrokenFile(
            f"the generator in {folder} cannot be read", brief(error), "Train or copy it again."
        ) from error
    if found == 2:
        prior = config["generator"]["prior"]
        prior["sampling"] = {new: prior.pop(old) for old, new in _EARLIER.items() if old in prior}
    elif found != FORMAT:
        raise BrokenFile(
            f"the generator in {folder} has format {found}", f"this popgen reads format {FORMAT}", "Train it again."
        )
    return config, records, tensors
