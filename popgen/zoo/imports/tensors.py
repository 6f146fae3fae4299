"""Reads tensors out of files that popgen did not write, and fits them to an architecture.

Only this module calls `torch.load`, with weights_only=True: a file that wants to run code is refused, and none of its
code runs. Everything else that popgen reads is safetensors.
"""

from __future__ import annotations

import pickle
import re
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from popgen.archs import ARCHITECTURES, ArchSpec
from popgen.errors import BadInput, BrokenFile, NotFound, PopgenError, near_matches
from popgen.types import StateDict

SUFFIXES = (".pt", ".pth", ".th", ".model", ".ckpt", ".bin", ".safetensors")
# Keys under which training scripts usually store a state dict, in the order in which they are tried.
_KEYS = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params", "module")
# Prefixes that wrappers such as DataParallel and torch.compile put before every name.
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.")
# Globals to which a pickled NumPy number refers. Training scripts often store their best accuracy as such a number.
_NUMPY_SCALAR = np.float64(0).__reduce__()[0]
_SAFE_GLOBALS: list[Any] = [
    (_NUMPY_SCALAR, "numpy.core.multiarray.scalar"),
    (_NUMPY_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    *map(type, map(np.dtype, "fdliq")),
]


def read_tensors(path: Path, key: str | None = None) -> dict[str, Tensor]:
    """The state dict of a checkpoint file: its tensors by name.

    Args:
        key: path of the state dict in the file, such as `ema` or `state_dict.1`; None looks under the usual keys.

    Raises:
        NotFound: there is no such file or key.
        BrokenFile: the file is truncated, not a checkpoint, or a pickle that wants to run code.
        BadInput: the file holds no state dict or several, or complex or quantised tensors.
    """
    if not path.is_file():
        raise NotFound(f"{path} is not a file", "a checkpoint is one file", f"Known endings: {', '.join(SUFFIXES)}.")
    content = _load(path)
    if key is not None:
        for step in key.split("."):
            content = _get_step(content, step, f"{path}: key {key!r}")
    tensors = _find_state_dict(content, path)
    refused = {name: t.dtype for name, t in tensors.items() if t.is_complex() or t.is_quantized}
    if refused:
        raise BadInput(
            f"{path} holds {next(iter(refused.values()))} tensors",
            f"in {', '.join(list(refused)[:3])}",
            "Use a checkpoint in float16, bfloat16, float32 or float64.",
        )
    return tensors


def fit_tensors(spec: ArchSpec, tensors: dict[str, Tensor], where: str) -> tuple[StateDict, str]:
    """Rename tensors to the architecture's names and convert them to float32.

    Names are tried as they are, then without the prefixes of wrappers. If some still differ, tensors are matched by
    order, provided that their number and shapes agree. A .safetensors file has no order, so its names have to agree.

    Args:
        where: path or hub entry of the tensors, for messages; its suffix tells a .safetensors file.

    Returns:
        The state dict, and a note on the changes to names ("" if there were none).

    Raises:
        BadInput: the tensors are of another architecture or not finite; the message names those that do not fit.
    """
    best, fewest, prefix = tensors, len(spec.tensors) + len(tensors) + 1, ""
    for stripped, renamed in _without_prefixes(tensors):
        differences = len(spec.differences(_shapes(renamed)))
        if differences < fewest:
            best, fewest, prefix = renamed, differences, stripped
    note = f"removed the prefix {prefix!r} from its names" if prefix else ""
    if fewest:
        values = [t for t in best.values() if t.is_floating_point()]
        if not where.endswith(".safetensors") and [tuple(t.shape) for t in values] == [t.shape for t in spec.tensors]:
            first = next(name for name, t in best.items() if t.is_floating_point())
            note = (
                f"names differ (such as {first} for {spec.tensors[0].name}): matched by order, count and shapes agree"
            )
            best = {expected.name: value for expected, value in zip(spec.tensors, values, strict=True)}
    state = {name: t.float() if t.is_floating_point() else t for name, t in best.items()}
    if spec.differences(_shapes(state)):
        fitting = [name for name in ARCHITECTURES if not ArchSpec.from_config(name).differences(_shapes(state))]
        spec.check(state, where, f"Its tensors are those of {fitting[0]!r}." if fitting else "")
    spec.check(state, where)
    return spec.to_state(spec.to_flat(state)), note


def _load(path: Path) -> Any:
    """Content of a checkpoint file, read without running code.

    Raises:
        BrokenFile: the file is truncated, not a checkpoint, or a pickle that wants to run code.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings(), torch.serialization.safe_globals(_SAFE_GLOBALS):
            warnings.simplefilter("ignore")  # torch warns about the pickle protocol before it raises.
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _unpickling_error(path, str(error)) from error
    except (
        SafetensorError,
        OSError,
        EOFError,
        RuntimeError,
        KeyError,
        ValueError,
        IndexError,
        TypeError,
        AttributeError,
        AssertionError,
        struct.error,
    ) as error:
        why = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'it ends too early'}"
        raise BrokenFile(
            f"{path} is truncated or not a checkpoint ({path.stat().st_size} bytes)",
            why,
            "Download it again, and check that it is a file of weights.",
        ) from error


def _unpickling_error(path: Path, message: str) -> PopgenError:
    """The error for a pickle that torch refuses with `message`, which names the first global that is not allowed."""
    wanted = re.search(r"GLOBAL ([\w.]+)", message)
    if wanted is None:
        why = (
            re.sub(r".*WeightsUnpickler error:|Check the documentation.*", "", message, flags=re.DOTALL).strip()
            or "not a state dict"
        )
        return BrokenFile(
            f"{path} is not a checkpoint of plain tensors",
            why,
            "Save it with torch.save(model.state_dict(), FILE) or as .safetensors.",
        )
    return BrokenFile(
        f"{path} is refused: its pickle asks for {wanted[1]}, which is not a tensor",
        "unpickling that could run any code; nothing of it was run",
        "If you trust its source, load it there and save model.state_dict() as .safetensors.",
    )


def _find_state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    """The state dict in a file's content: the content itself, or what it holds under one of the usual keys.

    Raises:
        BadInput: the content holds no state dict, or a list of several.
    """
    if isinstance(content, (list, tuple)) and len(content) == 1:
        return _find_state_dict(content[0], path)
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
            return _find_state_dict(content[inner[0]], path)
        if tensors:
            return tensors
    held = f"keys {', '.join(map(str, list(content)[:8]))}" if isinstance(content, dict) else type(content).__name__
    raise BadInput(
        f"{path} holds no state dict", f"it holds {held}; looked under {', '.join(_KEYS)}", "Name its key with --key."
    )


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


def _without_prefixes(tensors: dict[str, Tensor]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield all prefixes removed so far and the tensors without them, at first with none removed."""
    stripped = ""
    while True:
        yield stripped, tensors
        prefix = next((p for p in _PREFIXES if tensors and all(name.startswith(p) for name in tensors)), None)
        if prefix is None:
            return
        stripped += prefix
        tensors = {name.removeprefix(prefix): t for name, t in tensors.items()}


def _shapes(tensors: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(t.shape) for name, t in tensors.items()}
