"""What training sees of a zoo: normalised weights by architecture, and the training images of each data set.

Held-out lineages are kept apart; they serve the gate and the report, and are never trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.configs.generator import EncoderConfig
from popgen.data import DataSet, describe, load_data
from popgen.data.images.augment import flip_and_crop
from popgen.encoders.arch import ArchTextEncoder
from popgen.encoders.examples import ExampleEncoder, load_example_encoder
from popgen.errors import BadInput
from popgen.generator.model.conditions import arch_vectors
from popgen.types import Images, Labels
from popgen.weights import Scaling
from popgen.zoo import Checkpoint, Zoo
from popgen.zoo.weight_rows import WeightRows


@dataclass(frozen=True)
class ArchTask:
    """One architecture's checkpoints."""

    spec: ArchSpec
    scaling: Scaling
    records: list[Checkpoint]
    x: WeightRows  # rows as in `records`
    held_out: list[Checkpoint]
    held_out_x: WeightRows
    vector: Tensor  # the architecture's condition

    @cached_property
    def rows(self) -> dict[str, list[int]]:
        """For each data set its rows."""
        found: dict[str, list[int]] = {}
        for i, record in enumerate(self.records):
            found.setdefault(record.data, []).append(i)
        return found


@dataclass(frozen=True)
class Tasks:
    """All of a zoo that training uses."""

    archs: dict[str, ArchTask]
    data: dict[str, DataSet]
    features: dict[str, list[Tensor]]  # per data set, per class: image features (images, dim) of the training split;
    # without labels there is one class
    sentences: dict[str, Tensor]  # per data set: the sentence embedding (text_dim,) of its description
    feature_dim: int
    text_dim: int
    device: str = "cpu"
    augment: str = "none"
    data_dir: str | None = None  # the folder of named data sets

    @property
    def with_checkpoints(self) -> list[str]:
        """The data sets that networks of the zoo were trained on."""
        known = {record.data for task in self.archs.values() for record in task.records}
        return [name for name in self.data if name in known]

    @property
    def foreign(self) -> list[str]:
        """Those of them with a network that popgen did not train."""
        records = [record for task in self.archs.values() for record in task.records]
        return sorted({record.data for record in records if not record.built})

    @classmethod
    def load(
        cls,
        zoo: Zoo,
        config: EncoderConfig,
        extra: Sequence[str] = (),
        memory: float = 4.0,
        device: str = "cpu",
        augment: str = "none",
        data_dir: str | None = None,
    ) -> Tasks:
        """Read the zoo, its data sets, and their features.

        Args:
            extra: names of data sets that no network of the zoo was trained on.
            memory: GB of weights that are kept; the weights of a larger zoo are read when they are needed.
            device: where weights, inputs and features are used.
            augment: what is done to the images that networks are trained on: none or flip-crop.
            data_dir: the folder of named data sets; None: POPGEN_DATA, else ./data.

        Raises:
            BadInput: a zoo without training checkpoints, an extra data set that is held out or has other classes.
        """
        texts, images = ArchTextEncoder.load(config.text), load_example_encoder(config.images, device)
        fits = sum(4 * zoo.spec(record.arch).size for record in zoo.records) <= memory * 1e9
        archs = {}
        for name in zoo.archs:
            spec, records = zoo.spec(name), zoo.select(arch=name, held_out=False)
            held_out = zoo.select(arch=name, held_out=True)
            if len(records) < 2:
                raise BadInput(
                    f"the zoo {zoo.name!r} has {len(records)} training checkpoints of {name!r}",
                    "a generator needs two or more",
                    "Build or import more.",
                )
            scaling = Scaling.of(spec, zoo.reference(name), zoo.scales(name)).to(device)
            x, held_out_x = (WeightRows(zoo, part, scaling, fits, device) for part in (records, held_out))
            vector = arch_vectors([spec], texts)[0].to(device)
            archs[name] = ArchTask(spec, scaling, records, x, held_out, held_out_x, vector)
        names = sorted({r.data for t in archs.values() for r in t.records})
        data = {name: load_data(name, data_dir) for name in names}
        more = {name: load_data(name, data_dir) for name in extra}
        _check_extra(zoo, archs, data, more)
        data |= more
        features = {name: _features(data_set, images, config) for name, data_set in data.items()}
        sentences = dict(zip(data, texts.encode([describe(name) for name in data]).to(device), strict=True))
        return cls(archs, data, features, sentences, images.dim, texts.dim, device, augment, data_dir)

    def draw_images(self, arch: str, data: str, count: int) -> tuple[Images, Labels]:
        """`count` random training images, as the architecture takes them, with labels."""
        part = self.data[data].train
        pick = torch.randint(len(part), (count,), device="cpu")
        images, labels = part.inputs[pick].to(self.device), part.targets[pick].to(self.device)
        images = images if self.augment == "none" else flip_and_crop(images)
        return self.archs[arch].spec.config.inputs.prepare(images), labels

    def draw_features(self, data: str, per_class: int) -> Tensor:
        """Features of a new draw of images: (classes, per_class, dim)."""
        drawn = [f[torch.randint(len(f), (per_class,), device="cpu")] for f in self.features[data]]
        return torch.stack(drawn).to(self.device)


def _check_extra(zoo: Zoo, archs: dict[str, ArchTask], data: dict[str, DataSet], extra: dict[str, DataSet]) -> None:
    held_out = {r.data for r in zoo.select(held_out=True)} - data.keys()
    for name, extra_data in extra.items():
        if name in held_out:
            raise BadInput(
                f"generator.tune.tasks has {name!r}, which the zoo holds out", "it would not be held out any more", ""
            )
        classes = len(extra_data.classes)
        for arch, task in archs.items():
            if classes != task.spec.config.classes:
                raise BadInput(
                    f"generator.tune.tasks has {name!r} with {classes} classes",
                    f"{arch} has {task.spec.config.classes} outputs",
                    "Name data sets with the classes of the zoo's.",
                )


def _features(data: DataSet, encoder: ExampleEncoder, config: EncoderConfig) -> list[Tensor]:
    """Of each class, or of all classes together where the condition does without labels; at most `config.pool` each."""
    order = torch.arange(len(data.train), device="cpu")
    if config.pool is not None:
        order = torch.randperm(len(order), generator=torch.Generator(device="cpu").manual_seed(0), device="cpu")
    labels = data.train.targets[order]
    groups = [order[labels == label] for label in range(len(data.classes))] if config.labels else [order]
    return [encoder.features(data.train.inputs[group[: config.pool]]) for group in groups]
