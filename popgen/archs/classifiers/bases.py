"""Where a classifier comes from: a folder of transformers or a name of its hub, with its configuration, tokenizer and weights."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedTokenizerBase,
)
from transformers.image_processing_base import ImageProcessingMixin
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
)

from popgen.archs.classifiers.labels import named_labels
from popgen.archs.from_transformers import SAFE, Source
from popgen.errors import BadInput, PopgenError
from popgen.types import StateDict

TEXTS, IMAGES = "texts", "images"  # what a classifier reads
_FORM = "Name a folder with config.json and model.safetensors, or OWNER/NAME of the hub."
_SOURCE = Source("hf:", "classifier", _FORM)
# What a classifier reads -> the loader of such models, and transformers' names of their classes by the type of model.
_LOADERS: dict[str, tuple[Any, dict[str, Any]]] = {
    TEXTS: (AutoModelForSequenceClassification, MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES),
    IMAGES: (AutoModelForImageClassification, MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES),
}
# Other tasks of a classifier than choosing one of its classes.
_OTHER_TASKS = {"regression": "gives numbers", "multi_label_classification": "gives several labels"}


@lru_cache(maxsize=32)
def read_config(base: str) -> PretrainedConfig:
    """Return the configuration of a base; it must not be changed.

    Raises:
        NotFound, Offline, BadInput: there is no such base, or it cannot be fetched or read.
    """
    config: PretrainedConfig = _SOURCE.read(base, lambda: AutoConfig.from_pretrained(base, **SAFE))
    return config


def what_it_reads(base: str, new_head: bool = False) -> str:
    """Return TEXTS or IMAGES, by the class of transformers that the configuration of a base names.

    Args:
        new_head: whether a network without a head for classes is taken as well.

    Raises:
        NotFound, Offline: as `read_config`.
        BadInput: the class is no classifier of transformers, or one that does not choose among classes.
    """
    config = read_config(base)
    own = (getattr(config, "architectures", None) or ["no class"])[0]
    found = {
        reads: _names_of(names[config.model_type])
        for reads, (_, names) in _LOADERS.items()
        if config.model_type in names
    }
    exact = [reads for reads, names in found.items() if own in names]
    if not exact and not (found and new_head):
        what, why = f"hf:{base} is no classifier", f"its config.json names {own}, of the type {config.model_type!r}"
        todo = f"Give it a new head: hf:{base}/num_classes:2, for example." if found else _FORM
        raise BadInput(what, why, todo)
    task = getattr(config, "problem_type", None)
    if exact and (task in _OTHER_TASKS or config.num_labels < 2) and not new_head:
        why = f"its problem_type is {task}: it {_OTHER_TASKS[task]}" if task in _OTHER_TASKS else "it has one output"
        raise BadInput(f"hf:{base} does not choose among classes", why, "Name a classifier of two or more classes.")
    return (exact or list(found))[0]


def _names_of(classes: str | tuple[str, ...]) -> tuple[str, ...]:
    """Names of classes, of which transformers has one for most types of models."""
    return (classes,) if isinstance(classes, str) else classes


@lru_cache(maxsize=8)
def read_tokenizer(base: str) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a base.

    Raises:
        NotFound, Offline, BadInput: it cannot be read, or has no token to pad with.
    """
    found: PreTrainedTokenizerBase = _SOURCE.read(base, lambda: AutoTokenizer.from_pretrained(base, **SAFE))
    if found.pad_token_id is None:
        raise BadInput(
            f"the tokenizer of hf:{base} has no token to pad with",
            "texts of several lengths are read together",
            "Set its pad_token and the model's config.pad_token_id, and save both again.",
        )
    return found


def read_preprocessing(base: str) -> dict[str, Any]:
    """Return what the base's preprocessor_config.json says; {} without one."""
    try:
        found, _ = _SOURCE.read(base, lambda: ImageProcessingMixin.get_image_processor_dict(base))
    except PopgenError:
        return {}
    return dict(found)


def label_names(base: str) -> tuple[str, ...]:
    """Return the names of a base's outputs in their order; () where they are only numbered, as LABEL_0."""
    return named_labels(read_config(base).id2label)


def config_for(base: str, classes: int) -> PretrainedConfig:
    """Return a copy of the base's configuration with so many outputs."""
    config = read_config(base)
    made: PretrainedConfig = type(config).from_dict(config.to_dict())
    if made.num_labels != classes:
        made.num_labels = classes
    made.problem_type = None
    return made


def fresh_model(base: str, reads: str, classes: int) -> nn.Module:
    """Build a base's model with fresh weights and so many outputs.

    Raises:
        NotFound, Offline: as `read_config`.
        BadInput: its settings make no model, or one that has one tensor under two names.
    """
    loader, _ = _LOADERS[reads]
    model: nn.Module = _SOURCE.read(base, lambda: loader.from_config(config_for(base, classes), dtype=torch.float32))
    seen: dict[int, str] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) in seen:
            raise BadInput(
                f"hf:{base} has one tensor under two names", f"{seen[id(tensor)]} and {name}", "Name another model."
            )
        seen[id(tensor)] = name
    return model


def pretrained_state(base: str, classes: int | None = None) -> StateDict:
    """Return a base's own weights in float32, by the names of `fresh_model`.

    Args:
        classes: the number of outputs; where it is not that of the base, the head is new, always with the same weights.

    Raises:
        NotFound, Offline: as `read_config`.
        BadInput: weights are missing or are no safetensors, or the base is no classifier and `classes` is not given.
    """
    reads = what_it_reads(base, new_head=classes is not None)
    new_head = _has_new_head(base, classes)
    config = config_for(base, classes or read_config(base).num_labels)
    settings = {"use_safetensors": True, "dtype": torch.float32, "ignore_mismatched_sizes": new_head, **SAFE}
    loader, _ = _LOADERS[reads]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, found = _SOURCE.read(
            base, lambda: loader.from_pretrained(base, config=config, output_loading_info=True, **settings)
        )
    missing = sorted(found["missing_keys"])
    if missing and not new_head:
        raise BadInput(
            f"hf:{base} lacks weights of its own",
            ", ".join(missing[:4]),
            "Save the whole classifier by save_pretrained.",
        )
    state: StateDict = model.state_dict()
    return state


def _has_new_head(base: str, classes: int | None) -> bool:
    """Whether a base with so many outputs has a head that is not its own."""
    config = read_config(base)
    try:
        what_it_reads(base)
    except BadInput:
        return True
    return classes is not None and classes != config.num_labels
