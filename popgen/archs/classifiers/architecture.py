"""The architecture `hf:NAME`, with options as in `hf:NAME/context:64/num_classes:3`: a classifier of transformers.

Whether it reads texts or images follows from the class of transformers that its config.json names.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from popgen.archs.classifiers.bases import (
    IMAGES,
    fresh_model,
    read_config,
    read_preprocessing,
    read_tokenizer,
    what_it_reads,
)
from popgen.archs.classifiers.inputs import SequenceInputs
from popgen.archs.classifiers.network import ImageClassifier, TextClassifier
from popgen.archs.from_transformers import absolute
from popgen.errors import BadInput, unknown_name

_CONTEXT = 128  # tokens, where the name has no number
_OPTIONS = ("context", "num_classes")
_OF_IMAGES = ("input_shape", "mean", "std")
_UNBOUNDED = 2**20  # tokens, where a network has no table of positions
_EXAMPLE = "For example hf:{base}/num_classes:3."


def hf_fields(base: str, options: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Return the ArchConfig fields of a classifier: builder, options, inputs and classes.

    Args:
        base: the model, see `popgen.archs.classifiers.bases`.
        options: `num_classes`, which gives the network a new head where it is not the base's own number, and of texts
            `context`, the most tokens that are read.
        given: fields that the user sets.

    Raises:
        NotFound, Offline: there is no such model, or it cannot be fetched.
        BadInput: it is no classifier, an option or field does not fit, or nothing says what images it takes.
    """
    if unknown := sorted(options.keys() - set(_OPTIONS)):
        raise unknown_name(f"option of hf:{base}", unknown[0], _OPTIONS, _EXAMPLE.format(base=base))
    base, new = absolute(base), given.get("classes") or options.get("num_classes")
    reads = what_it_reads(base, new_head=new is not None)
    classes = read_config(base).num_labels if new is None else new
    if not isinstance(classes, int) or classes < 2:
        raise BadInput(
            f"hf:{base} cannot have {classes} classes", "a classifier has 2 or more", _EXAMPLE.format(base=base)
        )
    fields = {"builder": f"hf:{base}", "options": {"num_classes": classes}, "classes": classes}
    if reads == IMAGES:
        if "context" in options:
            raise BadInput(f"hf:{base} has no option 'context'", "it reads images", "Leave it out.")
        return {**fields, **_image_inputs(base, given)}
    if refused := sorted(given.keys() & set(_OF_IMAGES)):
        raise BadInput(f"hf:{base} has no {refused[0]}", "it reads texts", "Leave it out.")
    inputs = _text_inputs(base, classes, options.get("context"))
    return {**fields, "inputs": {"kind": SequenceInputs.kind, **inputs.to_json()}}


def hf_network(base: str, num_classes: int) -> nn.Module:
    """Build the network of a classifier, with fresh weights.

    Raises:
        NotFound, Offline, BadInput: as `popgen.archs.classifiers.bases.fresh_model`.
    """
    reads = what_it_reads(base, new_head=True)
    model = fresh_model(base, reads, num_classes)
    for module in model.modules():
        # Tables of positions are no weights, and popgen writes integers as zeros.
        integers = [name for name, one in module.named_buffers(recurse=False) if not one.is_floating_point()]
        module._non_persistent_buffers_set.update(set(integers) - {"num_batches_tracked"})  # noqa: SLF001
    return ImageClassifier(model) if reads == IMAGES else TextClassifier(model)


def _text_inputs(base: str, classes: int, context: Any) -> SequenceInputs:
    """The inputs of a classifier of texts, which reads at most as many tokens as it has positions."""
    tokenizer, config = read_tokenizer(base), read_config(base)
    if getattr(config, "pad_token_id", None) is None:
        raise BadInput(
            f"the configuration of hf:{base} has no pad_token_id",
            "texts of several lengths are read together",
            "Set its pad_token_id to that of the tokenizer, and save it again.",
        )
    longest = min(_positions(base, classes), tokenizer.model_max_length)
    context = min(_CONTEXT, longest) if context is None else context
    if not isinstance(context, int) or not 2 <= context <= longest:
        raise BadInput(
            f"hf:{base} cannot read {context} tokens", f"it reads 2 to {longest}", "For example /context:64."
        )
    return SequenceInputs(base, context, 3 if "token_type_ids" in tokenizer.model_input_names else 2)


def _positions(base: str, classes: int) -> int:
    """The most tokens of a text by the network's table of positions, whose first rows RoBERTa's kind leaves to padding."""
    most = getattr(read_config(base), "max_position_embeddings", None)
    if not isinstance(most, int) or most < 1:
        return _UNBOUNDED
    with torch.device("meta"):
        model = fresh_model(base, what_it_reads(base, new_head=True), classes)
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding) and module.padding_idx is not None:
            return most - module.padding_idx - 1
    return most


def _image_inputs(base: str, given: dict[str, Any]) -> dict[str, Any]:
    """The images that a classifier takes, by its preprocessor_config.json and the fields that the user sets."""
    config, said = read_config(base), read_preprocessing(base)
    size = said.get("crop_size") if said.get("do_center_crop") else said.get("size")
    size = size or getattr(config, "image_size", None)
    sides = _sides(size)
    channels = getattr(config, "num_channels", 3)
    found: dict[str, Any] = {} if sides is None else {"input_shape": (channels, *sides)}
    if said.get("do_normalize", True) and said.get("image_mean") and said.get("image_std"):
        found |= {"mean": tuple(said["image_mean"]), "std": tuple(said["image_std"])}
    elif said:
        found |= {"mean": (0.0,), "std": (1.0,)}
    found |= {key: given[key] for key in _OF_IMAGES if key in given}
    if missing := [key for key in _OF_IMAGES if key not in found]:
        raise BadInput(
            f"what images hf:{base} takes is not known: {', '.join(missing)}",
            "its preprocessor_config.json does not say" if said else "it has no preprocessor_config.json",
            "Give input_shape, mean and std: in the spec's archs, or popgen zoo import --input-shape 3,32,32 --mean ... --std ...",
        )
    return found


def _sides(size: Any) -> tuple[int, int] | None:
    """Height and width of a size as transformers writes it; None for others."""
    if isinstance(size, int):
        return size, size
    if isinstance(size, (list, tuple)) and len(size) == 2:
        return int(size[0]), int(size[1])
    if isinstance(size, dict) and {"height", "width"} <= size.keys():
        return int(size["height"]), int(size["width"])
    if isinstance(size, dict) and "shortest_edge" in size:
        return int(size["shortest_edge"]), int(size["shortest_edge"])
    return None
