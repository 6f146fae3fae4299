"""The names of a classifier's outputs, as the configuration of transformers writes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def named_labels(id2label: Mapping[Any, Any] | None) -> tuple[str, ...]:
    """The names in their order; () where the outputs are only numbered, as LABEL_0, or not numbered from 0.

    >>> named_labels({"1": "good", "0": "bad"}), named_labels({0: "LABEL_0", 1: "LABEL_1"})
    (('bad', 'good'), ())
    """
    labels = {str(i): str(name) for i, name in (id2label or {}).items()}
    names = tuple(labels.get(str(i), "") for i in range(len(labels)))
    return () if "" in names or names == tuple(f"LABEL_{i}" for i in range(len(names))) else names
