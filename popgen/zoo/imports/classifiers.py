"""Classifiers in transformers' format: a folder with config.json and model.safetensors, or an index of several such files.

transformers reads the weights, so that names and formats of earlier versions come in as today's.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from popgen.archs.classifiers.labels import named_labels
from popgen.json_text import parse_json
from popgen.zoo.imports.checkpoint import ForeignCheckpoint

SETTINGS, WEIGHTS = "config.json", ("model.safetensors", "model.safetensors.index.json")


def is_classifier_folder(path: Path) -> bool:
    """Whether a path is a folder with a model of transformers that its settings call a classifier."""
    # A name that no file can have is no error here, as it would be for `Path.is_file`.
    if not any(os.path.isfile(path / name) for name in WEIGHTS):
        return False
    named = _settings(path).get("architectures")
    return isinstance(named, list) and any("Classification" in str(name) for name in named)


def complete_classifier(foreign: ForeignCheckpoint) -> ForeignCheckpoint:
    """The description of a classifier, completed by its architecture, its name, and the names of its outputs."""
    folder = foreign.path
    stated = _settings(folder).get("id2label")
    labels = named_labels(stated) if isinstance(stated, dict) else ()
    name = foreign.name or re.sub(r"[^\w.-]", "-", folder.resolve().name)
    return replace(foreign, hub=f"hf:{folder}", arch=foreign.arch or f"hf:{folder}", name=name, labels=labels)


def _settings(folder: Path) -> dict[str, Any]:
    """The content of a folder's config.json; {} where there is none."""
    try:
        content = parse_json((folder / SETTINGS).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
