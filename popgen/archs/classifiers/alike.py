"""Whether two classifiers are one network with other weights: the same settings, and for texts the same tokenizer."""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from popgen.archs.classifiers.bases import TEXTS, read_config, read_tokenizer, what_it_reads
from popgen.errors import BadInput

# Settings that do not change what a network with given weights computes, and those of the head.
_FREE = (
    "_*", "architectures", "*dtype", "*dropout*", "*drop*", "*init*", "id2label", "label2id", "num_labels", "problem_type",
    "finetuning_task", "transformers_version", "use_cache", "gradient_checkpointing", "*_token_id", "*loss*",
)  # fmt: skip
_OF_TOKENIZER = ("model", "normalizer", "pre_tokenizer", "post_processor")
_SHOWN = 4


def check_alike(base: str, other: str, classes: int) -> None:
    """Refuse weights of `other` for the network of `base`, where the two would be read differently.

    Args:
        classes: the outputs of the network.

    Raises:
        BadInput: their settings, tokenizers or numbers of classes differ.
        NotFound, Offline: one of them cannot be read.
    """
    one, two = read_config(base), read_config(other)
    own = f"Import it as an architecture of its own: --arch hf:{other}."
    lines = _differences(one.to_dict(), two.to_dict())
    if lines:
        more = ", ..." if lines[_SHOWN:] else ""
        raise BadInput(f"hf:{other} has other settings than hf:{base}", ", ".join(lines[:_SHOWN]) + more, own)
    if two.num_labels != classes:
        raise BadInput(
            f"hf:{other} has {two.num_labels} classes, the architecture has {classes}",
            ", ".join(map(str, two.id2label.values())),
            f"Import it with --arch hf:{base}/num_classes:{two.num_labels}.",
        )
    if what_it_reads(base, new_head=True) == TEXTS and _has_tokenizer(other) and _tokens(base) != _tokens(other):
        raise BadInput(f"hf:{other} has another tokenizer than hf:{base}", "its texts would be read differently", own)


def _differences(one: dict[str, Any], two: dict[str, Any]) -> list[str]:
    """One line for each setting in which the second differs, written `name VALUE, not VALUE`."""
    keys = [key for key in {**one, **two} if not any(fnmatchcase(key, glob) for glob in _FREE)]
    return [f"{key} {two.get(key)}, not {one.get(key)}" for key in keys if one.get(key) != two.get(key)]


def _has_tokenizer(base: str) -> bool:
    """Whether a base brings a tokenizer; a name of the hub counts as one that does."""
    folder = Path(base)
    return not folder.is_dir() or any(any(folder.glob(glob)) for glob in ("tokenizer*", "vocab*", "*.model"))


def _tokens(base: str) -> Any:
    """What decides how a base's tokenizer cuts texts."""
    tokenizer = read_tokenizer(base)
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is None:
        return tokenizer.get_vocab()
    content = json.loads(fast.to_str())
    return [content.get(key) for key in _OF_TOKENIZER]
