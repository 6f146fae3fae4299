"""Reading tensors from files that popgen did not write, and matching them with an architecture's.

This is the only file that calls `torch.load`, with weights_only=True: a file whose unpickling would run code is refused.
All other weights that popgen reads are safetensors.
"""

from __future__ import annotations

import pickle
import re
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
_KEYS = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params", "module")
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.")
# The function that rebuilds one numpy number. Training scripts often store their best accuracy as such a number.
_SCALAR = np.float64(0).__reduce__()[0]
_SAFE: list[Any] = [
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    *map(type, map(np.dtype, "fdliq")),
]


def read_tensors(path: Path, key: str | None = None) -> dict[str, Tensor]:
    """Read the floating-point tensors and counters of a checkpoint file.

    Args:
        key: path of the state dict in the file, such as `ema` or `state_dict.1`; None searches under usual names.

    Raises:
        NotFound: the file or the key does not exist.
        BrokenFile: the file is truncated, not a checkpoint, or a pickle that would run code.
        BadInput: the file has no state dict, or several.
    """
    if not path.is_file():
        raise NotFound(f"{path} is not a file", "a checkpoint is one file", f"Known endings: {', '.join(SUFFIXES)}.")
    content = _load(path)
    if key is not None:
        for step in key.split("."):
            content = _step(content, step, f"{path}: key {key!r}")
    found = _state_dict(content, path)
    kinds = {name: t.dtype for name, t in found.items() if t.is_complex() or t.is_quantized}
    if kinds:
        raise BadInput(
            f"{path} holds {next(iter(kinds.values()))} tensors",
            f"in {', '.join(list(kinds)[:3])}",
            "Use a checkpoint in float16, bfloat16, float32 or float64.",
        )
    return found


def fit_tensors(spec: ArchSpec, tensors: dict[str, Tensor], where: str) -> tuple[StateDict, str]:
    """Give tensors the architecture's names, in float32; returns them with a note on changes of names ("" for none).

    Names are first compared unchanged, then without the prefixes of wrappers. If they still differ, but number, order
    and shapes of the tensors agree, tensors are matched by order. Files in .safetensors have no order, so their names
    must agree.

    Raises:
        BadInput: the tensors are not the architecture's, or not finite; the message names each that does not fit.
    """
    best, fewest, prefix = tensors, len(spec.tensors) + len(tensors) + 1, ""
    for stripped, named in _without_prefixes(tensors):
        wrong = len(spec.differences(_shapes(named)))
        if wrong < fewest:
            best, fewest, prefix = named, wrong, stripped
    note = f"removed the prefix {prefix!r} from its names" if prefix else ""
    if fewest:
        values = [t for t in best.values() if t.is_floating_point()]
        if not where.endswith(".safetensors") and [tuple(t.shape) for t in values] == [t.shape for t in spec.tensors]:
            first = next(name for name, t in best.items() if t.is_floating_point())
            note = (
                f"names differ (such as {first} for {spec.tensors[0].name}): matched by order, count and shapes agree"
            )
            best = {mine.name: value for mine, value in zip(spec.tensors, values, strict=True)}
    state = {name: t.float() if t.is_floating_point() else t for name, t in best.items()}
    if spec.differences(_shapes(state)):
        fits = [name for name in ARCHITECTURES if not ArchSpec.from_config(name).differences(_shapes(state))]
        spec.check(state, where, f"Its tensors are those of {fits[0]!r}." if fits else "")
    spec.check(state, where)
    return spec.to_state(spec.to_flat(state)), note


def _load(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings(), torch.serialization.safe_globals(_SAFE):
            warnings.simplefilter(
                "ignore"
            )  # torch warns of old pickle protocols; files that it cannot read raise an error.
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refused(path, str(error)) from error
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
    ) as error:
        why = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'it ends too early'}"
        raise BrokenFile(
            f"{path} is truncated or not a checkpoint ({path.stat().st_size} bytes)",
            why,
            "Download it again, and check that it is a file of weights.",
        ) from error


def _refused(path: Path, message: str) -> PopgenError:
    wanted = re.search(r"GLOBAL ([\w.]+)", message)
    if wanted is None:
        why = (
            re.sub(r".*WeightsUnpickler error:|Check the documentation.*", "", message, flags=re.DOTALL).strip()
            or "not a state dict"
        )
        return BrokenFile(
            f"{path} is no checkpoint of plain tensors",
            why,
            "Save it with torch.save(model.state_dict(), FILE) or as .safetensors.",
        )
    return BrokenFile(
        f"{path} is refused: its pickle asks for {wanted[1]}, which is not a tensor",
        "unpickling that could run any code; nothing of it was run",
        "If you trust its source, load it there and save model.state_dict() as .safetensors.",
    )


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    """Find the mapping of names to tensors in the content of a file."""
    if isinstance(content, (list, tuple)) and len(content) == 1:
        return _state_dict(content[0], path)
    if isinstance(content, (list, tuple)) and content and all(isinstance(item, dict) for item in content):
        raise BadInput(
            f"{path} holds {len(content)} state dicts in a list",
            "one is imported at a time",
            "Choose one with --key: its place, such as state_dict.0.",
        )
    if isinstance(content, dict):
        tensors = {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
        inner = [k for k in _KEYS if isinstance(content.get(k), (dict, list, tuple)) and content[k]]
        if len(tensors) < len(content) and inner:
            return _state_dict(content[inner[0]], path)
        if tensors:
            return tensors
    held = f"keys {', '.join(map(str, list(content)[:8]))}" if isinstance(content, dict) else type(content).__name__
    raise BadInput(
        f"{path} holds no state dict", f"it holds {held}; looked under {', '.join(_KEYS)}", "Name the place with --key."
    )


def _step(content: Any, step: str, where: str) -> Any:
    if isinstance(content, dict) and step in content:
        return content[step]
    if isinstance(content, (list, tuple)) and step.isdecimal() and int(step) < len(content):
        return content[int(step)]
    known = (
        list(map(str, content))
        if isinstance(content, dict)
        else [str(i) for i in range(len(content))]
        if isinstance(content, (list, tuple))
        else []
    )
    raise NotFound(
        f"{where}: there is no {step!r}", f"nearest there: {near_matches(step, known)}", "Steps are separated by dots."
    )


def _without_prefixes(tensors: dict[str, Tensor]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield the removed prefix and the tensors: first unchanged, then with one more wrapper's prefix removed each time."""
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
