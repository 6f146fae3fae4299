"""Networks of timm, by name: `timm:resnet18`, `timm:vit_tiny_patch16_224/img_size:32`.

Image size, normalisation and classes come from timm's own records. Nothing is downloaded: networks are built without
timm's weights, and weights come from checkpoints.
"""

from __future__ import annotations

from typing import Any

import timm
from timm.data import ImageNetInfo, infer_imagenet_subset
from torch import nn

from popgen.errors import BadInput, unknown_name

# Arguments of timm.create_model that read or download weights.
_FILES = {"pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_strict", "checkpoint_path", "cache_dir"}


def timm_fields(name: str, options: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Return the ArchConfig fields that timm records for a model: options, input_shape, classes, mean and std.

    Args:
        name: the model's name, with or without the tag of its published weights.
        options: arguments of timm.create_model, such as num_classes, in_chans, img_size, drop_path_rate.
        given: fields that the user sets; `input_shape` and `classes` become options where the model depends on them.

    Raises:
        NotFound: timm has no such model or tag.
        BadInput: the model has no classes, or an option would read a file.

    >>> timm_fields("resnet18", {}, {})["input_shape"], timm_fields("resnet18", {"in_chans": 1}, {})["mean"][:1]
    ((3, 224, 224), (0.449,))
    """
    if not timm.is_model(name):
        raise unknown_name("timm model", name, timm.list_models(), "timm.list_models() lists them.")
    try:
        record = timm.get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError as error:
        known = timm.list_pretrained(f"{name.partition('.')[0]}.*")
        raise unknown_name("timm model", name, known, "The part behind the point names published weights.") from error
    _check_options(name, options)
    size: tuple[int, ...] = tuple(record.input_size)
    options = {"num_classes": given.get("classes") or record.num_classes, **options}
    if "input_shape" in given:
        channels, *pixels = given["input_shape"]
        if channels != size[0]:
            options["in_chans"] = channels
        if record.fixed_input_size and tuple(pixels) != size[1:]:
            options["img_size"] = pixels[0] if pixels[0] == pixels[1] else list(pixels)
    if not options["num_classes"]:
        raise BadInput(f"timm:{name} makes features and no classes", "", f"Name timm:{name}/num_classes:10, say.")
    side = options.get("img_size", size[1:])
    height, width = (side, side) if isinstance(side, int) else side
    channels = options.get("in_chans", size[0])
    return {
        "options": options,
        "input_shape": (channels, height, width),
        "classes": options["num_classes"],
        "mean": _per_channel(record.mean, channels),
        "std": _per_channel(record.std, channels),
    }


def timm_network(name: str, options: dict[str, Any]) -> nn.Module:
    """Build a timm model with fresh weights.

    Raises:
        BadInput: the model refuses its options, or an option would read a file.
        TypeError: the model does not know one of the options.
    """
    _check_options(name, options)
    try:
        net: nn.Module = timm.create_model(name, pretrained=False, **options)
    except (RuntimeError, ValueError, AssertionError, KeyError) as error:
        raise BadInput(f"timm:{name} refuses {options}", str(error), "Correct the options.") from error
    return net


def timm_class_names(name: str, classes: int) -> tuple[str, ...]:
    """Class names of a model's published weights, or () if timm does not know them or their number is not `classes`.

    >>> timm_class_names("resnet18", 1000)[1], timm_class_names("resnet18", 10)
    ('goldfish, Carassius auratus', ())
    """
    record = timm.get_pretrained_cfg(name)
    if record is None or record.num_classes != classes:
        return ()
    if record.label_names:
        return tuple(record.label_names)
    subset = infer_imagenet_subset(record.to_dict())
    if subset is None:
        return ()
    info = ImageNetInfo(subset)
    names = [info.index_to_description(i) for i in range(classes)]
    shared = {n for n in names if names.count(n) > 1}  # two ImageNet classes are called crane
    return tuple(f"{n} ({info.index_to_label_name(i)})" if n in shared else n for i, n in enumerate(names))


def _check_options(name: str, options: dict[str, Any]) -> None:
    """Refuse options that would read or download weights."""
    if refused := _FILES & options.keys():
        raise BadInput(f"timm:{name}: {min(refused)} is no option here", "popgen reads weights from checkpoints", "")


def _per_channel(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """One value per channel; the mean of `values` for each channel if their number differs."""
    if len(values) == channels:
        return tuple(values)
    return (round(sum(values) / len(values), 6),) * channels
