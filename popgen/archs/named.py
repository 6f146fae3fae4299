"""Architectures by name: the table of built-in ones, and `arch_config`, which gives the configuration behind a name.

The CIFAR ResNets are those of He et al. 2016 (arXiv 1512.03385, section 4.2), with shortcut A.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from popgen.archs import outside
from popgen.archs.adapters.config import adapter_config
from popgen.archs.adapters.names import is_adapter
from popgen.archs.builders import construct
from popgen.archs.config import ArchConfig, with_classes
from popgen.archs.inputs import ImageInputs
from popgen.archs.names import BUILT_IN, is_outside, unknown_arch
from popgen.archs.variants import parse_options, split_options

_IMAGE_FIELDS = {"input_shape": "shape", "mean": "mean", "std": "std"}  # key in a spec -> field of ImageInputs


ARCHITECTURES: dict[str, ArchConfig] = {
    name: ArchConfig.from_json({"name": name, **content}) for name, content in BUILT_IN.items()
}


def arch_config(name: str, known: dict[str, ArchConfig] | None = None, /, **given: Any) -> ArchConfig:
    """Return the configuration of a named architecture: a built-in one, one of `known`, or one from outside.

    Names from outside are `timm:NAME`, `hub:OWNER/REPO:ENTRY`, `hub:FOLDER:ENTRY` and `module:function`, a callable
    that returns an nn.Module. The code behind a name given here counts as trusted and may run.

    Options can follow the name, as in `cnn-s/channels:12-24` or `timm:resnet18/in_chans:1`. They are then part of the
    configuration's name.

    Args:
        known: further named configurations, such as those of a zoo's spec.
        given: fields to replace: name, options (merged into the existing ones), input_shape, classes, mean, std.

    Raises:
        NotFound: no architecture has this name, or the architecture has no such option; the message lists the nearest.
        BadInput: a value does not fit, or nothing says what images a network from outside takes.
        Offline: a repository is neither on this machine nor reachable.

    >>> arch_config("cnn-s").options
    {'channels': [8, 16]}
    >>> arch_config("cnn-s/channels:12-24", name="wide", classes=3).options
    {'channels': [12, 24]}
    """
    table = {**ARCHITECTURES, **(known or {})}
    if name in table:
        return _replace_fields(table[name], given)
    if is_adapter(name):
        return _replace_fields(adapter_config(name), given)
    if is_outside(name):
        return _outside_config(name, given)
    base, options = split_options(name)
    if options:
        config = arch_config(base, known)
        return _replace_fields(replace(config, name=name, options=parse_options(name, config.options)), given)
    raise unknown_arch(name, table)


def _outside_config(name: str, given: dict[str, Any]) -> ArchConfig:
    """The configuration of a network from outside; without a number of classes, that of its last linear layer."""
    fields = outside.fields(name, given)
    config = ArchConfig.from_json({"name": name, "classes": 0, **fields})
    if not config.classes:
        outputs = [module.out_features for module in construct(config).modules() if isinstance(module, nn.Linear)]
        config = replace(config, classes=given.get("classes") or (outputs[-1] if outputs else ArchConfig.classes))
    return _replace_fields(config, {key: value for key, value in given.items() if key != "options"})


def _replace_fields(config: ArchConfig, given: dict[str, Any]) -> ArchConfig:
    """The configuration with the given fields replaced and the given options merged into its own."""
    fields = {**given, "options": {**config.options, **given.get("options", {})}}
    classes = fields.pop("classes", config.classes)
    images = {new: tuple(fields.pop(old)) for old, new in _IMAGE_FIELDS.items() if old in fields}
    config = replace(config, **fields)
    if isinstance(config.inputs, ImageInputs):
        inputs = replace(config.inputs, **images)
        inputs.check(config.name)
        config = replace(config, inputs=inputs)
    return config if classes == config.classes else with_classes(config, classes)
