"""ArchConfig: everything that is needed to build a network and to feed it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from popgen.archs import outside
from popgen.archs.inputs import INPUTS, ImageInputs, Inputs
from popgen.errors import BrokenFile, near_matches
from popgen.refs import is_trusted, trust
from popgen.tasks import CLASSIFICATION

_FOLLOWS = ("num_classes", "in_chans", "img_size")  # options of outside networks that say what the other fields say


@dataclass(frozen=True)
class ArchConfig:
    """Everything needed to build a network and to feed it: JSON in, JSON out."""

    name: str
    builder: str  # a key of BUILDERS, or `module:function`, `timm:NAME`, `hub:OWNER/REPO:ENTRY`
    options: dict[str, Any] = field(default_factory=dict)
    inputs: Inputs = ImageInputs()
    classes: int = 10  # outputs for each target
    task: str = CLASSIFICATION  # a key of popgen.tasks.TASKS

    def to_json(self) -> dict[str, Any]:
        """A dict of JSON types. Image classifiers keep the flat keys that files have had from the start."""
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
            BrokenFile: a kind of inputs that is not known here.
        """
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
        """The canonical sentence that the architecture encoder reads.

        >>> from popgen.archs import arch_config
        >>> arch_config("mlp-s").text()
        'mlp network, hidden 64, input 1x8x8, 10 classes'
        """
        said = _FOLLOWS if outside.is_outside(self.builder) else ()
        options = sorted((key, value) for key, value in self.options.items() if key not in said)
        parts = [f"{key.replace('_', ' ')} {_plain(value)}" for key, value in options]
        return ", ".join([outside.words(self.builder), *parts, self.inputs.text(), f"{self.classes} classes"])

    def __hash__(self) -> int:
        return hash(repr(self))  # options may hold lists, which have no hash of their own

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (self.to_json(), is_trusted(self.builder))


def with_classes(config: ArchConfig, classes: int) -> ArchConfig:
    """The same architecture with another number of outputs; options called `classes` or `num_classes` change with it.

    >>> with_classes(ArchConfig("net", "timm:resnet18", {"num_classes": 1000}), 7).options
    {'num_classes': 7}
    """
    options = {key: classes if key in ("classes", "num_classes") else value for key, value in config.options.items()}
    return replace(config, classes=classes, options=options)


def _received(data: dict[str, Any], trusted: bool) -> ArchConfig:
    """A configuration in a worker. A builder that the user has named in the sending process is trusted here, too."""
    if trusted:
        trust(data["builder"])
    return ArchConfig.from_json(data)


def _plain(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
