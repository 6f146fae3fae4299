"""The training data of a generator: normalised weights of each architecture, and the training images of each data set.

Held-out lineages are kept apart: they are used by the gate and for figures, and are never trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.configs.generator import EncoderConfig
from popgen.data import DataSet, describe, load_data
from popgen.data.images.augment import flip_and_crop
from popgen.encoders.arch import ArchTextEncoder
from popgen.encoders.examples import ExampleEncoder, load_example_encoder
from popgen.encoders.texts import TextExampleEncoder
from popgen.errors import BadInput
from popgen.generator.model.conditions import arch_vectors
from popgen.generator.task_sets import drawn_kind, task_set
from popgen.networks.forward import fewer
from popgen.types import Images, Labels
from popgen.weights import Scaling
from popgen.zoo import Checkpoint, Zoo
from popgen.zoo.stand_in import ReadData
from popgen.zoo.weight_rows import WeightRows

# Called with the number of data sets whose features are computed, and that of all.
_PREPARED = 1000  # examples of a data set that are prepared, where preparation is costly
OnData = Callable[[int, int], None]


@dataclass(frozen=True)
class ArchCheckpoints:
    """One architecture's checkpoints."""

    spec: ArchSpec
    scaling: Scaling
    records: list[Checkpoint]
    x: WeightRows  # normalised weights, one row for each of `records`
    held_out: list[Checkpoint]
    held_out_x: WeightRows  # normalised weights, one row for each of `held_out`
    vector: Tensor  # (width,), the condition on the architecture

    @cached_property
    def rows(self) -> dict[str, list[int]]:
        """Rows of `x` that belong to each data set."""
        found: dict[str, list[int]] = {}
        for i, record in enumerate(self.records):
            found.setdefault(record.data, []).append(i)
        return found


@dataclass(frozen=True)
class TrainingData:
    """Everything that training reads: checkpoints, data sets, and the frozen encoders' features of both conditions.

    Attributes:
        archs: the checkpoints of each architecture.
        data_sets: those of the zoo first, then those without checkpoints.
        features: for each data set and class the features (images, dim) of training images; without labels a data set
            has one class.
        sentences: for each data set the sentence embedding (text_dim,) of its description.
        device: where weights, inputs and features are used.
        augment: the augmentation of images that networks are trained on, none or flip-crop.
        read: reads a data set by its name, or what stands in for it.
        words: for each data set of texts the vectors (1 + classes, dim) of its description and its phrases.
    """

    archs: dict[str, ArchCheckpoints]
    data_sets: dict[str, DataSet]
    features: dict[str, list[Tensor]]
    sentences: dict[str, Tensor]
    feature_dim: int
    text_dim: int
    device: str = "cpu"
    augment: str = "none"
    read: ReadData = load_data
    words: dict[str, Tensor] = field(default_factory=dict)
    _all_features: dict[str, Tensor] = field(default_factory=dict, repr=False)
    _states: dict[tuple[str, str], tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False)

    @property
    def with_checkpoints(self) -> list[str]:
        """Names of the data sets that networks of the zoo were trained on."""
        known = {record.data for own in self.archs.values() for record in own.records}
        return [name for name in self.data_sets if name in known]

    @property
    def foreign(self) -> list[str]:
        """Names of the data sets for which the zoo has a network that popgen did not train."""
        records = [record for own in self.archs.values() for record in own.records]
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
        read: ReadData = load_data,
        on_data: OnData = lambda _done, _total: None,
    ) -> TrainingData:
        """Read the zoo, its data sets, and their features.

        Args:
            extra: names of data sets that no network of the zoo was trained on.
            memory: GB of weights that are kept in memory; the weights of a larger zoo are read when they are needed.
            device, augment, read: see the attributes.
            on_data: called with the number of data sets whose features are computed, and that of all; first with 0.

        Raises:
            BadInput: an architecture with fewer than two training checkpoints, an extra data set that is held out or has
                other classes, a class without training images where conditions use labels.
        """
        texts = ArchTextEncoder.load(config.text)
        images = load_example_encoder(config.images, device, with_open_clip=True)
        fits = sum(4 * zoo.spec(record.arch).size for record in zoo.records) <= memory * 1e9
        archs = {name: _checkpoints(zoo, name, texts, fits, device) for name in zoo.archs}
        names = sorted({r.data for own in archs.values() for r in own.records})
        data_sets = {name: read(name) for name in names}
        more = {name: read(name) for name in extra}
        _check_extra(zoo, archs, data_sets, more)
        data_sets |= more
        spec = next(iter(archs.values())).spec
        data_sets = {name: fewer(one, spec) for name, one in data_sets.items()}
        features = _read_all(data_sets, images, config, on_data)
        described = texts.encode([describe(name, data.description) for name, data in data_sets.items()]).to(device)
        sentences = dict(zip(data_sets, described, strict=True))
        words = {}
        if isinstance(images, TextExampleEncoder):
            words = {name: images.words(one.description, one.label_phrases) for name, one in data_sets.items()}
        return cls(archs, data_sets, features, sentences, images.dim, texts.dim, device, augment, read, words)

    def draw_images(self, arch: str, data: str, count: int) -> tuple[Images, Labels]:
        """Return `count` random training images, as the architecture takes them, and their labels (count,)."""
        inputs = self.archs[arch].spec.config.inputs
        if inputs.costly:
            return self._draw_prepared(arch, data, count)
        train = self.data_sets[data].train
        pick = torch.randint(len(train), (count,), device="cpu")
        images, labels = train.inputs[pick].to(self.device), train.targets[pick].to(self.device)
        images = images if self.augment == "none" else flip_and_crop(images)
        return inputs.prepare(images), labels

    def _draw_prepared(self, arch: str, data: str, count: int) -> tuple[Tensor, Tensor]:
        """Random examples of at most 1,000 whose preparation, which costs as much as the network, was done once."""
        if (arch, data) not in self._states:
            train = self.data_sets[data].train
            order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0), device="cpu")[:_PREPARED]
            prepared = self.archs[arch].spec.config.inputs.prepare(train.inputs[order].to(self.device))
            self._states[arch, data] = prepared, train.targets[order].to(self.device)
        prepared, targets = self._states[arch, data]
        pick = torch.randint(len(targets), (count,), device="cpu")
        return prepared[pick], targets[pick]

    def spec_for(self, own: ArchCheckpoints, data: str) -> ArchSpec:
        """The architecture with the outputs of a data set's classes."""
        return own.spec.for_classes(self.data_sets[data].label_phrases)

    def draw_features(self, data: str, per_class: int) -> Tensor:
        """Return the features (classes, per_class, dim) of a new draw of images; of texts, a set of words and texts."""
        if data in self.words:
            texts = self.features[data][0]
            return task_set(self.words[data], texts, per_class, drawn_kind()).to(self.device)
        first, picks = 0, []
        for features in self.features[data]:
            picks.append(first + torch.randint(len(features), (per_class,), device="cpu"))
            first += len(features)
        return self._joined(data)[torch.stack(picks)].to(self.device)

    def _joined(self, data: str) -> Tensor:
        """The features (images, dim) of all classes of a data set, one class after the other; joined once."""
        if data not in self._all_features:
            self._all_features[data] = torch.cat(self.features[data])
        return self._all_features[data]


def _checkpoints(zoo: Zoo, name: str, texts: ArchTextEncoder, fits: bool, device: str) -> ArchCheckpoints:
    """Return the checkpoints of one architecture; two or more of them can be trained on."""
    spec, records = zoo.spec(name), zoo.select(arch=name, held_out=False)
    held_out = zoo.select(arch=name, held_out=True)
    if len(records) < 2:
        raise BadInput(
            f"the zoo {zoo.name!r} has {len(records)} training checkpoints of {name!r}",
            "a generator needs two or more",
            "Build or import more.",
        )
    scaling = Scaling.of(spec, zoo.reference(name), zoo.scales(name)).to(device)
    x, held_out_x = (WeightRows(zoo, chosen, scaling, fits, device) for chosen in (records, held_out))
    vector = arch_vectors([spec], texts.encode)[0].to(device)
    return ArchCheckpoints(spec, scaling, records, x, held_out, held_out_x, vector)


def check_episodes(archs: dict[str, ArchCheckpoints], weight: float) -> None:
    """Refuse episodes for architectures whose head is not made of phrases.

    Raises:
        BadInput: there are such architectures, and the loss of episodes has a weight.
    """
    others = [name for name, own in archs.items() if not own.spec.is_adapter]
    if weight and others:
        raise BadInput(
            f"generator.tune.episodes is {weight:g}, and {others[0]} is no adapter",
            "a head is fitted in an episode from phrases for the classes",
            "Leave it out.",
        )


def _check_extra(
    zoo: Zoo, archs: dict[str, ArchCheckpoints], of_zoo: dict[str, DataSet], extra: dict[str, DataSet]
) -> None:
    held_out = {r.data for r in zoo.select(held_out=True)} - of_zoo.keys()
    for name, data in extra.items():
        if name in held_out:
            raise BadInput(
                f"generator.tune.tasks has {name!r}, which the zoo holds out", "it would not be held out any more", ""
            )
        for arch, own in archs.items():
            classes, spec = len(data.classes), own.spec.for_classes(data.label_phrases)
            if classes != spec.config.classes:
                raise BadInput(
                    f"generator.tune.tasks has {name!r} with {classes} classes",
                    f"{arch} has {spec.config.classes} outputs",
                    "Name data sets with the classes of the zoo's.",
                )


def _read_all(
    data_sets: dict[str, DataSet], encoder: ExampleEncoder, config: EncoderConfig, on_data: OnData
) -> dict[str, list[Tensor]]:
    """Return the features of all data sets, by name."""
    features: dict[str, list[Tensor]] = {}
    for name, data in data_sets.items():
        on_data(len(features), len(data_sets))
        features[name] = _features(data, encoder, config)
    on_data(len(features), len(data_sets))
    return features


def _features(data: DataSet, encoder: ExampleEncoder, config: EncoderConfig) -> list[Tensor]:
    """Return the features of at most `config.pool` images of each class, or of all classes together without labels."""
    if config.labels:
        data.check_classes("train")
    order = torch.arange(len(data.train), device="cpu")
    if config.pool is not None:
        order = torch.randperm(len(order), generator=torch.Generator(device="cpu").manual_seed(0), device="cpu")
    labels = data.train.targets[order]
    by_class = [order[labels == label] for label in range(len(data.classes))] if config.labels else [order]
    return [encoder.features(data.train.inputs[images[: config.pool]]) for images in by_class]
