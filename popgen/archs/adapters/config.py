"""The configuration of an adapter from its name, and the ways in which a data set's classes enter it."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from popgen.archs.adapters.base import base_sha256, load_base
from popgen.archs.adapters.inputs import TextInputs
from popgen.archs.adapters.names import parse_adapter
from popgen.archs.adapters.network import centred_features
from popgen.archs.config import ArchConfig

BUILDER, WITHOUT_BASE = "lora", "lora-without-base"
HUB_NAMES = {"minilm": "sentence-transformers/all-MiniLM-L6-v2"}  # names of bases elsewhere


def adapter_config(name: str) -> ArchConfig:
    """The configuration of the adapter with this name; it has no classes yet, see `with_phrases`.

    Raises:
        PopgenError: the name does not fit, or the base cannot be loaded.
    """
    parsed = parse_adapter(name)
    base = load_base(parsed.base)
    first, last = parsed.layers or (0, len(base.layers) - 1)
    options = {
        "base": parsed.base,
        "base_sha256": base_sha256(parsed.base),
        "r": parsed.r,
        "alpha": parsed.alpha or 2 * parsed.r,
        "targets": list(parsed.targets),
        "layers": [first, last],
        "phrases": [],
        "head": "phrases",
    }
    inputs = TextInputs(parsed.base, parsed.context, first, base.width)
    return ArchConfig(name, BUILDER, options, inputs, base.width)


def is_adapter_config(config: ArchConfig) -> bool:
    """Whether a configuration is that of an adapter."""
    return config.builder == BUILDER


def phrase_features(config: ArchConfig) -> Tensor | None:
    """Features (classes, width) of an adapter's label phrases by the frozen base, centred; None for other architectures."""
    if not is_adapter_config(config) or not config.options["phrases"]:
        return None
    return centred_features(config.options["base"], tuple(config.options["phrases"]), config.inputs.context)  # type: ignore[attr-defined]


def with_phrases(config: ArchConfig, phrases: tuple[str, ...], head: str | None = None) -> ArchConfig:
    """An adapter's configuration with an output for each phrase; other architectures are returned as they are.

    Args:
        head: `phrases` or `linear`, see `adapter_network`; None keeps it.
    """
    if not is_adapter_config(config):
        return config
    options = {**config.options, "phrases": list(phrases), "head": head or config.options["head"]}
    return replace(config, options=options, classes=len(phrases) or config.inputs.shape[1] - 1)
