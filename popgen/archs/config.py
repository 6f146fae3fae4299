"""ArchConfig: the description from which a network is built and its inputs are prepared."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from popgen.archs import outside
from popgen.archs.inputs import INPUTS, ImageInputs, Inputs
from popgen.archs.names import is_outside
from popgen.errors import BrokenFile, near_matches
from popgen.tasks import CLASSIFICATION
from popgen.trust import add_spec_folder, is_trusted, own_code, trust

# Options of networks from outside that repeat classes and inputs, or say which base a language model is.
_REDUNDANT = ("num_classes", "in_chans", "img_size", "base_sha256")
# Options of adapters that say which base it is, and what a data set's classes are called.
_NOT_IN_TEXT = ("base_sha256", "phrases", "head", "tensors")
_TYPES = {"name": str, "builder": str, "options": dict, "classes": int, "task": str}  # types in JSON


@dataclass(frozen=True)
class ArchConfig:
    """The builder of a network with its options, and what the network reads and returns; converts to and from JSON."""

    name: str
    builder: str  # a key of popgen.archs.builders.BUILDERS, or `module:function`, `timm:NAME`, `hub:OWNER/REPO:ENTRY`
    options: dict[str, Any] = field(default_factory=dict)  # keyword arguments of the builder
    inputs: Inputs = ImageInputs()
    classes: int = 10  # outputs for each target: the length of the output's last axis
    task: str = CLASSIFICATION  # a key of popgen.tasks.TASKS

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON types.

        Image classifiers are written with flat keys (input_shape, mean, std), as in the first version of the format;
        other inputs are nested under `inputs`.
        """
        content: dict[str, Any] = {"name": self.name, "builder": self.builder, "options": self.options}
        inputs = self.inputs.to_json()
        if self.inputs.kind == ImageInputs.kind:
            content |= {"input_shape": inputs.pop("shape"), "classes": self.classes, **inputs}
        else:
            content |= {"inputs": {"kind": self.inputs.kind, **inputs}, "classes": self.classes}
        return content if self.task == CLASSIFICATION else {**content, "task": self.task}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ArchConfig:
        """The inverse of `to_json`.

        Raises:
            BrokenFile: this version of popgen does not know the kind of inputs.
            TypeError: a field is missing, is unknown, or has a value of another type.
        """
        for field_name, types in _TYPES.items():
            if not isinstance(data.get(field_name, types()), types):
                raise TypeError(f"{field_name} of an architecture is {data[field_name]!r:.80}, not {types.__name__}")
        rest = dict(data)
        inputs = rest.pop("inputs", None)
        if inputs is None:
            names = {"input_shape": "shape", "mean": "mean", "std": "std"}
            images = {new: rest.pop(old) for old, new in names.items() if old in rest}
            return cls(inputs=ImageInputs.from_json(images), **rest)
        kind = inputs.get("kind")
        if kind not in INPUTS:
            raise BrokenFile(
                f"architecture {data.get('name')!r} takes inputs of the kind {kind!r}",
                f"known here: {near_matches(str(kind), INPUTS)}",
                "Update popgen.",
            )
        fields = {key: value for key, value in inputs.items() if key != "kind"}
        return cls(inputs=INPUTS[kind].from_json(fields), **rest)

    def text(self) -> str:
        """Canonical text of the architecture, the input of the architecture encoder.

        >>> from popgen.archs import arch_config
        >>> arch_config("mlp-s").text()
        'mlp network, hidden 64, input 1x8x8, 10 classes'
        """
        redundant = _REDUNDANT if is_outside(self.builder) else _NOT_IN_TEXT
        options = sorted((key, value) for key, value in self.options.items() if key not in redundant)
        parts = [f"{key.replace('_', ' ')} {_plain(value)}" for key, value in options]
        return ", ".join(
            [outside.describe_builder(self.builder), *parts, self.inputs.text(), f"{self.classes} classes"]
        )

    def __hash__(self) -> int:
        return hash(repr(self))  # options may hold lists, which cannot be hashed

    def __reduce__(self) -> tuple[Any, ...]:
        folders = own_code()["folders"] if ":" in self.builder else []
        return _unpickle, (self.to_json(), is_trusted(self.builder), folders)


def with_classes(config: ArchConfig, classes: int) -> ArchConfig:
    """The same architecture with another number of outputs; options called `classes` or `num_classes` change with it.

    >>> with_classes(ArchConfig("net", "timm:resnet18", {"num_classes": 1000}), 7).options
    {'num_classes': 7}
    """
    options = {key: classes if key in ("classes", "num_classes") else value for key, value in config.options.items()}
    return replace(config, classes=classes, options=options)


def differences(one: ArchConfig, other: ArchConfig) -> list[str]:
    """One line for each field or option in which two architectures of one name differ.

    >>> differences(ArchConfig("a", "mlp", {"hidden": [64]}), ArchConfig("a", "mlp", {"hidden": [32]}))
    ['hidden [64], not [32]']
    """
    first, second = ({**config.to_json(), **config.options} for config in (one, other))
    keys = [key for key in {**first, **second} if key not in ("name", "options")]
    return [f"{key} {first.get(key)}, not {second.get(key)}" for key in keys if first.get(key) != second.get(key)]


def _unpickle(data: dict[str, Any], trusted: bool, folders: list[str]) -> ArchConfig:
    """Restore a pickled configuration, for example in a worker; its builder is trusted and found as by the sender."""
    if trusted:
        trust(data["builder"])
    for folder in folders:
        add_spec_folder(folder)
    return ArchConfig.from_json(data)


def _plain(value: Any) -> str:
    """An option's value in words, the items of a list separated by spaces."""
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
