"""Encoder of images: the image tower of an open_clip CLIP maps each image to a unit vector.

A model's name is `clip-tiny` (ships with popgen), `local-dir:FOLDER`, `hf-hub:OWNER/NAME`, or `MODEL/PRETRAINED` from
open_clip's own table. Folders with a ResNet tower, as that of clip-tiny, are read by popgen/encoders/resnet.py; all
others are loaded by open_clip.create_model, after names and folders have been checked. With `+statistics` after the
name, the image statistics of popgen/encoders/statistics.py are appended to each vector.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from popgen.encoders.resnet import ClipResNet
from popgen.encoders.statistics import statistics
from popgen.errors import BadInput, BrokenFile, NotFound, Offline, unknown_name
from popgen.json_text import parse_json
from popgen.refs import asset, asset_names
from popgen.types import Images

BATCH = 256  # images in each forward pass; it bounds the memory of a large CLIP and changes no result
_STATISTICS = "+statistics"
_NAMES = (
    "Names: clip-tiny, local-dir:FOLDER, hf-hub:OWNER/NAME, or MODEL/PRETRAINED such as ViT-B-32/laion2b_s34b_b79k."
)
_WITHOUT_HUB = (
    "Use clip-tiny (ships with popgen), or where there is a network run `hf download OWNER/NAME --local-dir FOLDER`, "
    "copy the folder and name local-dir:FOLDER."
)


@dataclass(frozen=True)
class ImageEncoder:
    """A frozen image tower with its own preprocessing; `dim` is the length of its vectors."""

    name: str
    visual: nn.Module
    dim: int
    device: str = "cpu"

    @classmethod
    def load(cls, name: str, device: str = "cpu", with_open_clip: bool = False) -> ImageEncoder:
        """Load a CLIP by its name and freeze it.

        Args:
            with_open_clip: build every image tower with open_clip, which draws random numbers for its parameters
                before it reads them. What a training draws afterwards, and so its result, depends on that.

        Raises:
            NotFound: no model, folder or hub repository has this name, or the folder lacks files.
            BadInput: the folder cannot be loaded without a network.
            BrokenFile: the folder's configuration and weights are damaged or do not fit together.
            Offline: the weights are not on this machine and cannot be fetched.

        >>> encoder = ImageEncoder.load("clip-tiny")
        >>> encoder.features(torch.rand(2, 1, 8, 8)).shape
        torch.Size([2, 128])
        """
        visual = _load_visual(name.removesuffix(_STATISTICS), with_open_clip).to(device).eval().requires_grad_(False)
        encoder = cls(name, visual, 0, device)
        return cls(name, visual, encoder.features(torch.zeros(1, 3, 8, 8)).shape[1], device)

    @torch.no_grad()
    def features(self, images: Images) -> Float[Tensor, "n dim"]:
        """Encode images as CLIP's unit vectors, followed by the image statistics if the name asks for them.

        The result is in float32 on the device of the images.

        Args:
            images: values in [0, 1], with one or three channels.

        Raises:
            BadInput: the images have another number of channels or axes, are integers, or have values outside [0, 1].

        >>> ImageEncoder.load("clip-tiny").features(torch.zeros(1, 3, 28, 28)).norm().round().item()
        1.0
        """
        _check_images(images)
        if not len(images):
            return torch.zeros(0, self.dim, device=images.device)
        return torch.cat([self._forward(part) for part in images.split(BATCH)]).to(images.device)

    def _forward(self, images: Tensor) -> Tensor:
        images = images.to(self.device, torch.float32).expand(-1, 3, -1, -1)
        visual = self.visual
        output = visual(visual.prepare(images) if isinstance(visual, ClipResNet) else _prepare(visual, images))
        pooled = output[0] if isinstance(output, tuple) else output  # some towers return their tokens, too
        features = F.normalize(pooled.float(), dim=-1)
        return torch.cat([features, statistics(images)], dim=1) if self.name.endswith(_STATISTICS) else features


def _prepare(visual: nn.Module, images: Tensor) -> Tensor:
    """Resize and normalise images (n, 3, h, w) as open_clip does for this image tower."""
    from open_clip.transform import PreprocessCfg, image_transform_v2
    from torchvision.transforms import Normalize

    settings = cast(dict[str, Any], visual.preprocess_cfg)  # open_clip stores it on the image tower
    for step in image_transform_v2(PreprocessCfg(**settings), is_train=False).transforms:
        if isinstance(step, Normalize):
            images = images.clamp(0, 1)  # bicubic resizing leaves values slightly outside [0, 1]
        images = step(images)
    return images


def _load_visual(name: str, with_open_clip: bool) -> nn.Module:
    """Load the image tower of the CLIP with this name (without +statistics)."""
    packaged = asset("encoders", name)
    if packaged is not None and _is_open_clip(packaged):
        return _from_folder(packaged, with_open_clip)
    if name.startswith("local-dir:"):
        return _from_folder(Path(name.removeprefix("local-dir:")).expanduser(), with_open_clip)
    if name.startswith("hf-hub:"):
        owner, slash, model = name.removeprefix("hf-hub:").partition("/")
        if not (owner and slash and model):
            raise NotFound(
                f"image encoder {name!r} is not a hub name", "a hub name has the form hf-hub:OWNER/NAME", _NAMES
            )
        _check_reachable(name, f"{owner}/{model}")
        return _from_hub(name, name)
    import open_clip

    model, _, tag = name.rpartition("/")
    if (model, tag) not in open_clip.list_pretrained():
        raise _unknown(name, model, tag)
    # Weights trained with the quick GELU need a flag, which the table records; without it open_clip would only warn.
    settings = open_clip.get_pretrained_cfg(model, tag)
    if settings.get("hf_hub"):
        _check_reachable(name, "/".join(settings["hf_hub"].split("/")[:2]))
    return _from_hub(name, model, pretrained=tag, force_quick_gelu=bool(settings.get("quick_gelu", False)))


def _check_reachable(name: str, repository: str) -> None:
    from popgen.encoders._hub import check_reachable

    check_reachable(f"image encoder {name!r}", repository)


def _is_open_clip(folder: Path | None) -> bool:
    return folder is not None and (folder / "open_clip_config.json").is_file()


def _from_folder(folder: Path, with_open_clip: bool) -> nn.Module:
    """Load the image tower of a folder in open_clip's format, after checking that it is complete."""
    config, weights = folder / "open_clip_config.json", folder / "open_clip_model.safetensors"
    if not folder.is_dir():
        raise NotFound(
            f"image encoder: there is no folder {folder}", "local-dir: names a folder on this machine", _NAMES
        )
    if not config.is_file():
        raise NotFound(f"image encoder: {folder} has no open_clip_config.json", f"it holds {_listing(folder)}", _NAMES)
    if not any(folder.glob("*.safetensors")):
        todo = "Convert the weights with safetensors.torch.save_file, or download a repository that has them."
        raise NotFound(f"image encoder: {folder} has no .safetensors weights", f"it holds {_listing(folder)}", todo)
    try:
        settings = parse_json(config.read_text(encoding="utf-8"))
        model, preprocess = settings["model_cfg"], settings.get("preprocess_cfg", {})
        foreign = model["text_cfg"].get("hf_model_name")
        is_resnet = ClipResNet.reads(model, preprocess)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BrokenFile(
            f"image encoder: {config} is not an open_clip configuration", f"{type(error).__name__}: {error}", _NAMES
        ) from error
    if foreign:
        why = f"its text tower is built from {foreign!r} on the hub, and a folder must load without a network"
        raise BadInput(f"image encoder: {folder} is not complete", why, "Choose a CLIP with a text tower of its own.")
    try:
        if is_resnet and weights.is_file() and not with_open_clip:
            return ClipResNet.load(weights, model, preprocess)
        import open_clip

        from popgen.encoders._quiet import quiet

        with quiet():
            return open_clip.create_model(f"local-dir:{folder}", require_pretrained=True).visual
    except Exception as error:
        why = f"{type(error).__name__}: {_one_line(error)}"
        raise BrokenFile(f"image encoder: open_clip cannot load {folder}", why, "Copy the folder again.") from error


def _from_hub(name: str, model: str, **settings: object) -> nn.Module:
    """Load an image tower from the hub's cache or the hub."""
    import open_clip
    from huggingface_hub.errors import RepositoryNotFoundError

    from popgen.encoders._quiet import quiet

    try:
        with quiet():
            return open_clip.create_model(model, require_pretrained=True, **settings).visual
    except Exception as error:
        missing = _caused_by(error, RepositoryNotFoundError)
        why = f"{type(missing or error).__name__}: {_one_line(missing or error)}"
        if missing:
            raise NotFound(f"image encoder {name!r} is not on the hub", why, _NAMES) from error
        raise Offline(f"image encoder {name!r} could not be fetched", why, _WITHOUT_HUB) from error


def _unknown(name: str, model: str, tag: str) -> NotFound:
    """A NotFound with the nearest tags if open_clip has the model, or else with the nearest names."""
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(model)
    if tags:
        return unknown_name(f"pretrained tag of {model}", tag, tags, _NAMES)
    packaged = [known for known in asset_names("encoders") if _is_open_clip(asset("encoders", known))]
    return unknown_name("image encoder", name, [*packaged, *map("/".join, open_clip.list_pretrained())], _NAMES)


def _check_images(images: Tensor) -> None:
    """Refuse images that CLIP cannot read: a wrong shape, integers, or values outside [0, 1]."""
    shape = tuple(images.shape)
    if images.ndim != 4 or shape[1] not in (1, 3):
        raise BadInput(f"images of shape {shape} cannot be encoded", "expected (n, c, h, w) with c 1 or 3", "")
    if not images.is_floating_point():
        raise BadInput(
            f"images of type {images.dtype} cannot be encoded", "expected floats in [0, 1]", "Divide by 255."
        )
    if len(images) and not (images.amin() >= 0 and images.amax() <= 1):
        span = f"they run from {images.amin().item():g} to {images.amax().item():g}"
        raise BadInput("images must lie in [0, 1]", span, "Undo the normalisation, or divide by 255.")


def _caused_by(error: BaseException | None, kind: type[BaseException]) -> BaseException | None:
    """The first exception of this kind in an exception's chain of causes, or None."""
    while error is not None and not isinstance(error, kind):
        error = error.__cause__ or error.__context__
    return error


def _one_line(error: BaseException) -> str:
    """The first 300 characters of an error's message on one line."""
    return " ".join(str(error).split())[:300]


def _listing(folder: Path) -> str:
    """The first eight names in a folder, for a message."""
    return ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
