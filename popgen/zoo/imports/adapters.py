"""Adapters in the format of peft: a folder with adapter_config.json and adapter_model.safetensors.

The architecture is read from both. Heads that were trained beside the adapter are left out, because popgen makes the head of
the data set's label phrases or fits one. Where the base is not here, the tensors alone are the architecture.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from popgen.archs import ArchConfig
from popgen.archs.adapters.config import HUB_NAMES, WITHOUT_BASE, adapter_config
from popgen.archs.adapters.inputs import TextInputs
from popgen.archs.adapters.names import PREFIX
from popgen.errors import BadInput, BrokenFile, NotFound, Offline, brief
from popgen.json_text import parse_json
from popgen.zoo.imports.causes import os_cause
from popgen.zoo.imports.checkpoint import ForeignCheckpoint
from popgen.zoo.imports.stored import Stored, stored_tensors

SETTINGS, WEIGHTS, PICKLED = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
_TENSOR = re.compile(r"base_model\.model\.(?:.+?)\.(\d+)\.(.+)\.lora_([AB])\.weight")
_HEADS = ("classifier", "pre_classifier", "score", "pooler", "qa_outputs", "lm_head")
_OTHER_METHODS = {
    "use_dora": "DoRA also trains the length of each column",
    "use_qalora": "QA-LoRA pools the inputs of a quantised base",
    "use_bdlora": "BD-LoRA has block-diagonal matrices",
    "lora_bias": "its low-rank matrices have biases",
    "fan_in_fan_out": "its base stores weights transposed, as GPT-2 does",
    "rank_pattern": "its layers have ranks of their own",
    "alpha_pattern": "its layers have strengths of their own",
    "layer_replication": "it repeats layers of its base",
    "target_parameters": "it changes parameters that are no linear layers",
    "trainable_token_indices": "it also trains embeddings of tokens",
    "alora_invocation_tokens": "aLoRA is active behind certain tokens only",
}
# Ways to begin that change the base as well, so that the adapter does not fit the base as it was published.
_CHANGED_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


def is_adapter_folder(path: Path) -> bool:
    """Whether a path is a folder in the format of peft, or one of the files in it."""
    # A name that no file can have is no error here, as it would be for `Path.is_file`.
    is_file = os.path.isfile(path / SETTINGS)
    return is_file or (path.name in (SETTINGS, WEIGHTS, PICKLED) and path.with_name(SETTINGS).is_file())


def complete_adapter(foreign: ForeignCheckpoint) -> ForeignCheckpoint:
    """The description of an adapter, completed by its architecture, its name, and the heads that are left out.

    Raises:
        NotFound: there are no weights, or the base that `foreign` names is not there.
        BadInput: the adapter is not plain LoRA, its weights are pickled, or an architecture is given that is not its own.
        BrokenFile: a file is not what its name says, or the two do not fit each other.
    """
    folder = foreign.path if foreign.path.is_dir() else foreign.path.parent
    settings = _settings(folder / SETTINGS)
    _check_plain(folder, settings)
    tensors = stored_tensors(_weights(folder))
    heads = _heads(folder, tensors)
    tensors = [one for one in tensors if one.name not in heads]
    config = _config(folder, settings, tensors, foreign.base)
    if foreign.arch and foreign.arch != config.name:
        raise BadInput(
            f"{folder} is an adapter, and --arch names {foreign.arch!r}",
            f"its own settings make it {config.name}",
            "Leave --arch out; --base names its base and --as its architecture's name in the zoo.",
        )
    ignore = (*foreign.ignore, *heads)
    name = foreign.name or re.sub(r"[^\w.-]", "-", folder.resolve().name)
    return replace(foreign, path=folder / WEIGHTS, arch=config.name, config=config, ignore=ignore, name=name)


def _settings(file: Path) -> dict[str, Any]:
    try:
        content = parse_json(file.read_bytes())
    except OSError as error:
        raise os_cause(file, error) from error
    except (ValueError, RecursionError) as error:
        raise BrokenFile(f"{file} is not JSON", brief(error), "Copy the adapter again.") from error
    if not isinstance(content, dict) or not isinstance(content.get("peft_type"), str):
        raise BrokenFile(f"{file} is not what peft writes", "it has no peft_type", "Copy the adapter again.")
    return content


def _check_plain(folder: Path, settings: dict[str, Any]) -> None:
    """Refuse what is not plain LoRA, and say what it is."""
    todo = "Merge it into its base where it was made (merge_and_unload), or train plain LoRA."
    if settings["peft_type"] != "LORA":
        raise BadInput(
            f"{folder} is an adapter of the kind {settings['peft_type']}", "only LoRA is read", "Train plain LoRA."
        )
    for key, why in _OTHER_METHODS.items():
        if settings.get(key):
            raise BadInput(f"{folder} is not plain LoRA: {key} is {settings[key]!r}", why, todo)
    if settings.get("bias", "none") != "none":
        raise BadInput(
            f"{folder} is not plain LoRA: bias is {settings['bias']!r}", "it also trains biases of the base", todo
        )
    start = settings.get("init_lora_weights")
    if isinstance(start, str) and start.startswith(_CHANGED_BASE):
        raise BadInput(
            f"{folder} began with init_lora_weights={start!r}",
            "that changes the base as well",
            "Convert it as peft's documentation says (path_initial_model_for_weight_conversion).",
        )


def _weights(folder: Path) -> Path:
    if (folder / WEIGHTS).is_file():
        return folder / WEIGHTS
    if (folder / PICKLED).exists():
        raise BadInput(
            f"{folder} holds its weights as {PICKLED}",
            "that is a pickle, and adapters are not unpickled",
            "Load it with peft where it was made, and save it by save_pretrained(FOLDER, safe_serialization=True).",
        )
    raise NotFound(f"{folder} holds no {WEIGHTS}", f"it has {SETTINGS}", "Copy the whole folder.")


def _heads(folder: Path, tensors: list[Stored]) -> list[str]:
    """Names of the tensors of heads.

    Raises:
        BadInput: there are tensors of neither the adapter nor a head.
    """
    others = [one.name for one in tensors if not _TENSOR.fullmatch(one.name)]
    strange = [name for name in others if name.removeprefix("base_model.model.").partition(".")[0] not in _HEADS]
    if strange:
        raise BadInput(
            f"{folder} also trains other tensors than LoRA in its layers and a head",
            ", ".join(strange[:4]) + (", ..." if strange[4:] else ""),
            "Merge it into its base where it was made (merge_and_unload).",
        )
    if len(others) == len(tensors):
        raise BrokenFile(f"{folder / WEIGHTS} holds no LoRA tensors", "it holds a head alone", "Copy it again.")
    return others


def _config(folder: Path, settings: dict[str, Any], tensors: list[Stored], base: str) -> ArchConfig:
    """The architecture of the adapter: on its base, or of its tensors alone where the base is not here."""
    matches = [(_TENSOR.fullmatch(one.name), one.shape) for one in tensors]
    found = [(int(m[1]), m[2], m[3], shape) for m, shape in matches if m]
    r = settings.get("r")
    ranks = {shape[0] if side == "A" else shape[-1] for _, _, side, shape in found if len(shape) == 2}
    if not isinstance(r, int) or ranks != {r} or any(len(shape) != 2 for *_, shape in found):
        shown = ", ".join(map(str, sorted(ranks)))
        raise BrokenFile(f"{folder}: its settings and weights differ", f"r is {r}, and {shown} in its tensors", "")
    layers = sorted({layer for layer, *_ in found})
    named = settings.get("target_modules")
    modules = {module.rpartition(".")[2] for _, module, *_ in found}
    targets = sorted(named if isinstance(named, list) else modules)
    stated = str(settings.get("base_model_name_or_path") or "")
    name = base or {hub: own for own, hub in HUB_NAMES.items()}.get(stated, stated)
    alpha = _alpha(folder, settings, r)
    options = f"r:{r}/alpha:{alpha}/targets:{'+'.join(targets)}/layers:{layers[0]}-{layers[-1]}"
    full = f"{PREFIX}{name}/{options}"
    try:
        config = adapter_config(full)
    except (NotFound, Offline):
        if base:
            raise
        width = min(shape[1] for _, _, side, shape in found if side == "A")
        shapes = {one.name: list(one.shape) for one in sorted(tensors, key=_order)}
        inputs = TextInputs(name, frozen=layers[0], width=width)
        held = {"base": name, "r": r, "alpha": alpha, "targets": targets, "layers": layers, "tensors": shapes}
        return ArchConfig(full, WITHOUT_BASE, held, inputs, width)
    if layers != list(range(layers[0], layers[-1] + 1)):
        raise BadInput(
            f"{folder} changes the layers {', '.join(map(str, layers))}",
            "an adapter of popgen changes a range without gaps",
            "Train one on a range of layers.",
        )
    return config


def _alpha(folder: Path, settings: dict[str, Any], r: int) -> int:
    """The strength: what the adapter adds has the factor alpha / r; rsLoRA's alpha / sqrt(r) (arXiv 2312.03732) is converted."""
    alpha = float(settings.get("lora_alpha", 8)) * (math.sqrt(r) if settings.get("use_rslora") else 1)
    if not alpha.is_integer():
        what = "rsLoRA's factor alpha / sqrt(r)" if settings.get("use_rslora") else "its lora_alpha"
        raise BadInput(
            f"{folder}: {what} is no whole alpha divided by r",
            f"lora_alpha is {settings.get('lora_alpha')}, r is {r}",
            "Use plain LoRA, or a rank with a whole square root.",
        )
    return int(alpha)


def _order(one: Stored) -> tuple[int, str]:
    match = _TENSOR.fullmatch(one.name)
    assert match is not None
    return int(match[1]), one.name
