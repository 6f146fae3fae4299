"""Finds the state dict in the content of a checkpoint file, and what the file says beside it: EMA weights, accuracy."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from popgen.errors import BadInput, BrokenFile, NotFound, near_matches
from popgen.zoo.imports.causes import os_cause
from popgen.zoo.imports.limits import check_tensors, quantised_error
from popgen.zoo.imports.loading import read_content

SUFFIXES = (".pt", ".pth", ".th", ".model", ".ckpt", ".bin", ".pth.tar", ".pt.tar", ".ckpt.tar", ".safetensors")
# Keys under which training scripts usually store a state dict, in the order in which they are tried.
_KEYS = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params", "module")
# Keys of the moving average of weights, and first parts of the names of such tensors where they stand among the others.
_EMA_KEYS = ("state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "ema", "model_ema_state_dict", "ema_params")
# Keys of an accuracy, the most telling first; the first that is there is kept.
_ACCURACY_KEYS = tuple(
    f"{split}{name}"
    for split in ("test_", "best_test_", "best_", "val_", "best_val_", "")
    for name in ("accuracy", "acc", "acc1", "acc@1", "prec1", "top1", "acc_top1")
)
_MOST_NESTED = 8  # levels of a file's content that are searched; a pickle can hold itself


@dataclass(frozen=True)
class FoundTensors:
    """The state dict of a file, and what else the file says."""

    tensors: dict[str, Tensor]
    accuracy: tuple[str, float] | None = None  # key and value, 0 to 1, of the accuracy that the file states
    notes: list[str] = field(default_factory=list)  # what was chosen or left out as asked
    remarks: list[str] = field(default_factory=list)  # what the user could choose otherwise


def read_tensors(path: Path, key: str | None = None) -> dict[str, Tensor]:
    """The state dict of a checkpoint file: its tensors by name.

    Args:
        key: path of the state dict in the file, such as `ema` or `state_dict.1`; None looks under the usual keys.

    Raises:
        NotFound, BrokenFile, BadInput: as `find_tensors`.
    """
    return find_tensors(path, key).tensors


def find_tensors(path: Path, key: str | None = None, use: str = "", ignore: Sequence[str] = ()) -> FoundTensors:
    """The state dict of a checkpoint file, with what the file says beside it.

    Args:
        key: path of the state dict in the file, such as `ema` or `state_dict.1`; None looks under the usual keys.
        use: "ema" takes the moving average of the weights, "" the weights themselves.
        ignore: patterns (* stands for any text) of the names of tensors to leave out.

    Raises:
        NotFound: there is no such file or key, or no moving average.
        BrokenFile: the file cannot be read, is truncated, not a checkpoint, or a pickle that wants to run code.
        BadInput: the file holds no state dict or several, or tensors that are complex, quantised, sparse, without
            values, or expanded to more than 2 GB.
    """
    try:
        if not path.is_file():
            why = "a checkpoint is one file" if path.exists() else "there is nothing of that name"
            raise NotFound(f"{path} is not a file", why, f"Known endings: {', '.join(SUFFIXES)}.")
    except (OSError, ValueError) as error:  # ValueError: there is a null byte in the name.
        raise os_cause(path, OSError(*error.args)) from error
    content = read_content(path)
    accuracy = _find_accuracy(content)
    remarks: list[str] = []
    if key is not None:
        for step in key.split("."):
            content = _get_step(content, step, f"{path}: key {key!r}")
    elif use == "ema":
        content = _find_ema(content, path)
    elif ema := _ema_key(content):
        remarks.append(f"the file also holds EMA weights under {ema!r}: --use ema takes them")
    tensors = _find_state_dict(content, path)
    if key is None and use != "ema":
        tensors, ema = _without_ema(tensors)
        remarks += [f"the file also holds EMA weights named {ema}*: --use ema takes them"] if ema else []
    tensors, note = leave_out(tensors, ignore)
    _check_plain(tensors, path)
    notes = [*(["EMA weights"] if use == "ema" else []), *([note] if note else [])]
    return FoundTensors(tensors, accuracy, notes, remarks)


def leave_out(tensors: dict[str, Tensor], ignore: Sequence[str]) -> tuple[dict[str, Tensor], str]:
    """The tensors whose names no pattern of `ignore` matches, and a note that names the others ("" for none).

    >>> leave_out({"weight": torch.zeros(1), "total_ops": torch.zeros(1)}, ["total_*"])
    ({'weight': tensor([0.])}, 'left out total_ops')
    """
    left_out = [name for name in tensors if any(fnmatchcase(name, pattern) for pattern in ignore)]
    kept = {name: t for name, t in tensors.items() if name not in set(left_out)}
    more = ", ..." if left_out[4:] else ""
    return kept, f"left out {', '.join(left_out[:4])}{more}" if left_out else ""


def _check_plain(tensors: dict[str, Tensor], path: Path) -> None:
    """Refuse tensors that have no plain values.

    Raises:
        BadInput: tensors are quantised, complex, sparse, nested, on the meta device, or expanded to more than 2 GB.
    """
    kinds = (
        ("sparse", "Save tensor.to_dense().", lambda t: t.layout is not torch.strided or t.is_nested),
        (
            "complex",
            "Save their real and imaginary parts as tensors of an architecture that has these.",
            Tensor.is_complex,
        ),
        (
            "empty (device meta)",
            "They have shapes and no values: save the model after its weights are loaded.",
            _is_meta,
        ),
    )
    if any(t.is_quantized for t in tensors.values()):
        raise quantised_error(path)
    for kind, todo, is_kind in kinds:
        names = [name for name, t in tensors.items() if is_kind(t)]
        if names:
            raise BadInput(
                f"{path} holds {kind} tensors", f"in {', '.join(names[:3])}{', ...' if names[3:] else ''}", todo
            )
    check_tensors(tensors.values(), path)


def _is_meta(tensor: Tensor) -> bool:
    return tensor.is_meta


def _find_state_dict(content: Any, path: Path, depth: int = 0) -> dict[str, Tensor]:
    """The state dict in a file's content: the content itself, or what it holds under one of the usual keys.

    Raises:
        BadInput: the content holds no state dict, or a list of several.
        BrokenFile: it is nested too deeply.
    """
    if depth > _MOST_NESTED:
        raise BrokenFile(f"{path} is nested too deeply", f"more than {_MOST_NESTED} levels", "Name a key with --key.")
    if isinstance(content, (list, tuple)) and len(content) == 1:
        return _find_state_dict(content[0], path, depth + 1)
    if isinstance(content, (list, tuple)) and content and all(isinstance(item, dict) for item in content):
        raise BadInput(
            f"{path} holds {len(content)} state dicts in a list",
            "one is imported at a time",
            "Choose one with --key, such as --key state_dict.0.",
        )
    if isinstance(content, dict):
        tensors = {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
        inner = [k for k in _KEYS if isinstance(content.get(k), (dict, list, tuple)) and content[k]]
        if len(tensors) < len(content) and inner:
            return _find_state_dict(content[inner[0]], path, depth + 1)
        if tensors:
            return tensors
    held = f"keys {', '.join(map(str, list(content)[:8]))}" if isinstance(content, dict) else type(content).__name__
    ema = _ema_key(content)
    todo = f"It has EMA weights under {ema!r}: --use ema takes them." if ema else "Name its key with --key."
    raise BadInput(f"{path} holds no state dict", f"it holds {held}; looked under {', '.join(_KEYS)}", todo)


def _levels(content: Any) -> Iterator[dict[Any, Any]]:
    """The dict of a file's content, and those within it under the usual keys of a state dict."""
    for _ in range(_MOST_NESTED):
        if not isinstance(content, dict):
            return
        yield content
        content = next((content[k] for k in _KEYS if isinstance(content.get(k), dict) and content[k]), None)


def _ema_key(content: Any) -> str:
    """The key of a file's content under which EMA weights lie, as a dict; "" if there is none."""
    found = (k for level in _levels(content) for k in _EMA_KEYS if isinstance(level.get(k), dict) and level[k])
    return next(found, "")


def _find_ema(content: Any, path: Path) -> Any:
    """The part of a file's content that holds the EMA weights.

    Raises:
        NotFound: it has none.
    """
    key = _ema_key(content)
    if key:
        return next(level[key] for level in _levels(content) if key in level)
    for level in _levels(content):
        for prefix in _EMA_KEYS:
            found = {k.removeprefix(f"{prefix}."): v for k, v in level.items() if str(k).startswith(f"{prefix}.")}
            if found:
                return found
    held = ", ".join(map(str, list(content)[:8])) if isinstance(content, dict) else type(content).__name__
    what, why = f"{path} holds no EMA weights", f"looked under {', '.join(_EMA_KEYS)}; it holds {held}"
    raise NotFound(what, why, "Leave --use ema out, or name the key with --key.")


def _without_ema(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """The tensors but for those that are named as EMA weights beside others, and the prefix of those, or ""."""
    for prefix in _EMA_KEYS:
        others = {name: t for name, t in tensors.items() if not name.startswith(f"{prefix}.")}
        if others and 2 * len(others) >= len(tensors) > len(others):
            return others, f"{prefix}."
    return tensors, ""


def _find_accuracy(content: Any) -> tuple[str, float] | None:
    """The key and value, 0 to 1, of the accuracy that a file states about itself, or None."""
    if not isinstance(content, dict):
        return None
    inner = [content.get(k) for k in ("metrics", "results", "stats", "best")]
    for level in (content, *(d for d in inner if isinstance(d, dict))):
        named = {str(key).lower().replace("-", "_").replace("/", "_"): value for key, value in level.items()}
        for key in _ACCURACY_KEYS:
            value = _number(named.get(key))
            if value is not None and 0 <= value <= 100:
                return key, value / 100 if value > 1 else value
    return None


def _number(value: Any) -> float | None:
    """A number as float: of Python, NumPy, or a tensor of one value; None for all others and for NaN."""
    if isinstance(value, Tensor):
        if value.numel() != 1 or value.is_meta or value.is_complex() or value.layout is not torch.strided:
            return None
        value = value.item()
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        return None
    return float(value) if math.isfinite(value) else None


def _get_step(content: Any, step: str, where: str) -> Any:
    """The item of a dict, list or tuple that one step of a dotted key names.

    Raises:
        NotFound: there is no such item.
    """
    if isinstance(content, dict) and step in content:
        return content[step]
    if isinstance(content, (list, tuple)) and step.isdecimal() and int(step) < len(content):
        return content[int(step)]
    known: list[str] = []
    if isinstance(content, dict):
        known = list(map(str, content))
    elif isinstance(content, (list, tuple)):
        known = [str(i) for i in range(len(content))]
    raise NotFound(
        f"{where}: there is no {step!r}", f"nearest there: {near_matches(step, known)}", "Steps are separated by dots."
    )
