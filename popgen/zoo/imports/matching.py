"""Fits the tensors of a foreign file to an architecture: by name, if need be under a prefix, else by order.

Nothing is matched on shapes alone. The weight, bias, mean and variance of a batch norm have one shape, so that an
order which differs would permute them without any sign of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise

from torch import Tensor

from popgen.archs import ARCHITECTURES, ArchSpec
from popgen.errors import BadInput
from popgen.types import StateDict

# Prefixes that wrappers such as DataParallel, torch.compile and training scripts put before every name.
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.")
_NAMED_TENSORS = 6  # names of tensors in an error message
_LORA = re.compile(r"(^|[._])lora_(A|B|up|down|embedding_A|embedding_B|magnitude_vector)\b")


def fit_tensors(spec: ArchSpec, tensors: dict[str, Tensor], where: str) -> tuple[StateDict, str]:
    """Rename tensors to the architecture's names and convert them to float32.

    Names are tried as they are, then without the prefix under which all names of the architecture are found, then with
    the prefix that only the architecture's names have. If they still differ, tensors are matched by order, provided
    that the last parts of the names (weight, bias, running_mean, ...) and the shapes agree one by one. The tensors of a
    .safetensors file are sorted, so its names have to agree.

    Args:
        where: path or hub entry of the tensors, for messages; its suffix tells a .safetensors file.

    Returns:
        The state dict, and a note on the changes to names ("" if there were none).

    Raises:
        BadInput: the tensors are of another architecture or not finite, there are more of them, they fit under several
            prefixes, or are integers; the message names those that do not fit.
    """
    matched, note = _match_names(spec, tensors, where)
    if matched is None:
        matched, note = _match_order(spec, tensors, where)
    if matched is None:
        raise _misfit(spec, tensors, where)
    integers = [t.name for t in spec.tensors if not matched[t.name].is_floating_point()]
    if integers:
        raise BadInput(
            f"{where} holds {str(matched[integers[0]].dtype).removeprefix('torch.')} values as weights",
            f"in {_listed(integers)}",
            "Use a checkpoint in float16, bfloat16, float32 or float64.",
        )
    state = {name: t.float() if t.is_floating_point() else t for name, t in matched.items()}
    spec.check(state, where)
    return spec.to_state(spec.to_flat(state)), note


def _match_names(spec: ArchSpec, tensors: dict[str, Tensor], where: str) -> tuple[dict[str, Tensor] | None, str]:
    """The tensors under the architecture's names, where their own names are the same but for a prefix, and a note.

    Raises:
        BadInput: the file holds all tensors of the architecture, and others or the same again.
    """
    own = _common_prefix([t.name for t in spec.tensors])
    for added in dict.fromkeys(("", own)):
        wanted = {t.name.removeprefix(added): t.shape for t in spec.tensors}
        fitting = [prefix for prefix in _prefixes(wanted, tensors) if _holds(wanted, tensors, prefix)]
        if not fitting:
            continue
        if len(fitting) > 1 and "" not in fitting:
            raise BadInput(
                f"{where} holds the network {spec.name!r} {len(fitting)} times",
                f"under the prefixes {', '.join(map(repr, fitting))}",
                f"Leave the others out, such as --ignore '{fitting[-1]}*'.",
            )
        prefix = "" if "" in fitting else fitting[0]
        _check_surplus(spec, tensors, prefix, added, where)
        notes = [f"removed the prefix {prefix!r} from its names"] if prefix else []
        notes += [f"put {added!r} before its names"] if added else []
        return {added + name.removeprefix(prefix): t for name, t in tensors.items()}, " and ".join(notes)
    return None, ""


def _prefixes(wanted: Mapping[str, tuple[int, ...]], tensors: Mapping[str, Tensor]) -> list[str]:
    """All prefixes under which the first wanted name is found, in the order of the file."""
    first = next(iter(wanted), "")
    return list(dict.fromkeys(name.removesuffix(first) for name in tensors if name.endswith(first)))


def _holds(wanted: Mapping[str, tuple[int, ...]], tensors: Mapping[str, Tensor], prefix: str) -> bool:
    """Whether all wanted tensors are there under a prefix, with their shapes."""
    found = (tensors.get(prefix + name) for name in wanted)
    return all(t is not None and t.shape == shape for t, shape in zip(found, wanted.values(), strict=True))


def _check_surplus(spec: ArchSpec, tensors: Mapping[str, Tensor], prefix: str, added: str, where: str) -> None:
    """Refuse tensors beside those of the architecture, which has all of its own under `prefix`.

    Raises:
        BadInput: there are such tensors; the message names them, and the option that leaves them out.
    """
    known = {prefix + name.removeprefix(added) for name in (*(t.name for t in spec.tensors), *spec.counters)}
    surplus = [name for name in tensors if name not in known]
    if surplus and _named_like(_shapes(tensors, prefix)):  # The layers of a deeper network are no surplus.
        raise _misfit(spec, tensors, where)
    if surplus:
        under = f" under the prefix {prefix!r}" if prefix else ""
        shapes = [f"{name} {tuple(tensors[name].shape)}" for name in surplus]
        patterns = " ".join(f"--ignore '{name}'" for name in surplus[:2])
        raise BadInput(
            f"{where} holds all tensors of {spec.name!r}{under}, and {len(surplus)} more",
            f"not in the network: {_listed(shapes)}",
            f"If they are no layers, leave them out: {patterns}{' ...' if surplus[2:] else ''} (* stands for any text; in a "
            "spec, ignore: [...]). Else the network is another one.",
        )


def _match_order(spec: ArchSpec, tensors: dict[str, Tensor], where: str) -> tuple[dict[str, Tensor] | None, str]:
    """The tensors in the architecture's order under its names, where each agrees in shape and last part of its name."""
    found = {name: t for name, t in tensors.items() if t.is_floating_point()}
    names, expected = list(found), [t.name for t in spec.tensors]
    agrees = (
        [tuple(t.shape) for t in found.values()] == [t.shape for t in spec.tensors]
        and [name.rpartition(".")[2] for name in names] == [name.rpartition(".")[2] for name in expected]
        and _layer_starts(names) == _layer_starts(expected)
    )
    if not agrees or _is_sorted(names) or where.lower().endswith((".safetensors", ".json")):
        return None, ""
    first = next(i for i, (name, wanted) in enumerate(zip(names, expected, strict=True)) if name != wanted)
    note = f"names differ (such as {names[first]} for {expected[first]}): tensors were matched by order"
    matched = {wanted: t for wanted, t in zip(expected, found.values(), strict=True)}
    return matched, f"{note}, in which shapes and last parts of names agree"


def _layer_starts(names: list[str]) -> list[bool]:
    """Whether each tensor but the first belongs to another layer than the one before it."""
    owners = [name.rpartition(".")[0] for name in names]
    return [after != before for before, after in pairwise(owners)]


def _is_sorted(names: list[str]) -> bool:
    """Whether names are sorted as text and not as numbers (10 before 2), so that their order says nothing."""
    by_number = sorted(names, key=lambda name: [(part.isdecimal(), part.zfill(9)) for part in re.split(r"(\d+)", name)])
    return names == sorted(names) != by_number


def _misfit(spec: ArchSpec, tensors: Mapping[str, Tensor], where: str) -> BadInput:
    """The error for tensors that fit neither by name nor by order, told under the prefix that leaves fewest differences."""
    if any(map(_LORA.search, tensors)) and not any(_LORA.search(t.name) for t in spec.tensors):
        return BadInput(
            f"{where} holds a LoRA adapter, not the weights of {spec.name!r}",
            f"low-rank changes to a base network, such as {next(filter(_LORA.search, tensors))}",
            "Merge it into its base (in PEFT merge_and_unload()), and import the merged weights.",
        )
    prefixes = ["", *_known_prefixes(tensors), _common_prefix(list(tensors))]
    best = min((_shapes(tensors, p) for p in prefixes), key=lambda renamed: len(spec.differences(renamed)))
    lines = spec.differences(best)
    other = _named_like(best)
    return BadInput(
        f"{where} does not fit the architecture {spec.name!r}: {len(lines)} tensors differ",
        "; ".join(lines[:_NAMED_TENSORS]) + (" ..." if lines[_NAMED_TENSORS:] else ""),
        f"Its tensors are those of {other!r}." if other else "Name the architecture that the file was made with.",
    )


def _shapes(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, tuple[int, ...]]:
    return {name.removeprefix(prefix): tuple(t.shape) for name, t in tensors.items()}


def _named_like(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """The first built-in architecture that has exactly these tensors, or ""."""
    return next((name for name in ARCHITECTURES if not ArchSpec.from_config(name).differences(shapes)), "")


def _known_prefixes(names: Mapping[str, object]) -> list[str]:
    """The prefixes of wrappers that all names have, one after the other: module., module.model., ..."""
    found, stripped = list[str](), ""
    while names:
        prefix = next((p for p in _PREFIXES if all(name.startswith(stripped + p) for name in names)), None)
        if prefix is None:
            break
        stripped += prefix
        found.append(stripped)
    return found


def _common_prefix(names: list[str]) -> str:
    """The longest prefix of whole parts, each with its dot, that all names have; no name becomes empty.

    >>> _common_prefix(["net.conv.weight", "net.conv.bias"]), _common_prefix(["conv1.weight", "conv2.weight"])
    ('net.conv.', '')
    """
    common = ""
    for parts in zip(*(name.split(".")[:-1] for name in names), strict=False):
        if len(set(parts)) > 1:
            break
        common += f"{parts[0]}."
    return common


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_NAMED_TENSORS]) + (", ..." if names[_NAMED_TENSORS:] else "")
