"""Episodes: tasks of a few images, drawn from the classes of data sets that need no checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from popgen.configs.generator import EncoderConfig, EpisodesConfig
from popgen.data import DataSet, load_data
from popgen.data.images.augment import flip_and_crop
from popgen.encoders.examples import ExampleEncoder
from popgen.errors import BadInput
from popgen.generator.model.conditions import DataSetEncoder
from popgen.types import Images, Labels

_KEPT_BACK = 10  # one class of so many in a data set teaches what conditions propose, and not the directions
_POOL = 24  # images of each class whose features conditions are drawn from


@dataclass(frozen=True)
class Episode:
    """Images and their classes (n,), the support before the queries, and the features (1, images, dim) of a condition.

    The images are in batches (m, ...), which together are n: neighbours are in one batch unless their data sets have other sizes.
    `identities` (n,) are the classes among those of all data sets.
    """

    inputs: list[Images]
    labels: Labels
    identities: Labels
    support: int  # number of images in it
    features: Tensor


@dataclass(frozen=True)
class ClassImages:
    """The training images (n, ...) of one class, the features (pool, dim) of some of them, and its number among all classes."""

    images: Images
    features: Tensor
    identity: int


class EpisodeData:
    """The classes that episodes draw from, by data set."""

    def __init__(
        self, config: EpisodesConfig, per_condition: int, augment: str, classes: list[list[ClassImages]]
    ) -> None:
        self._config, self._per_condition, self._augment = config, per_condition, augment
        self.count = sum(map(len, classes))
        kept = [one for own in classes for one in own[_KEPT_BACK - 1 :: _KEPT_BACK]]
        self._kept_back, self._classes = [one for own in classes for one in own], classes
        if len(kept) > 1:
            hidden = {one.identity for one in kept}
            self._kept_back = kept
            self._classes = [[one for one in own if one.identity not in hidden] for own in classes]
        # A data set of many classes has more to teach; the root keeps those of few classes from being forgotten.
        self._shares = torch.tensor([len(own) for own in classes], device="cpu").float().sqrt()

    @classmethod
    def load(
        cls,
        config: EpisodesConfig,
        encoders: EncoderConfig,
        encoder: ExampleEncoder,
        augment: str,
        data_dir: str | None,
        on_data: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> EpisodeData:
        """Read the data sets, and compute the features of some images of each class.

        Raises:
            BadInput: a data set has texts, no two classes with enough images, or together there are fewer classes than an episode has.
        """
        found: list[list[ClassImages]] = []
        for done, name in enumerate(config.data):
            on_data(done, len(config.data))
            found.append(_classes_of(load_data(name, data_dir), config, encoder, sum(map(len, found))))
        on_data(len(config.data), len(config.data))
        total = sum(map(len, found))
        if total < config.ways:
            raise BadInput(
                f"generator.episodes.ways is {config.ways}, and the data sets have {total} classes together",
                f"they are {', '.join(config.data)}",
                "Lower it, or name more data sets.",
            )
        return cls(config, encoders.images_per_class, augment, found)

    def draw_kept_back(self) -> Episode:
        """Draw an episode of the classes that `draw` never shows, one in ten; of all where these would be fewer than two."""
        return self._episode(_some(self._kept_back, self._config.ways))

    def draw(self) -> Episode:
        """Draw an episode: the classes come from one data set, or from two in the share `mixed` of all episodes."""
        config = self._config
        order = torch.multinomial(self._shares, len(self._shares)).tolist()
        first = self._classes[order[0]]
        ways = min(config.ways, len(first))
        mixes = len(order) > 1 and float(torch.rand((), device="cpu")) < config.mixed
        own = int(torch.randint(1, ways, (), device="cpu")) if mixes and ways > 1 else ways
        chosen = _some(first, own)
        if mixes:
            chosen += _some(self._classes[order[1]], config.ways - own)
        return self._episode(chosen)

    def _episode(self, chosen: list[ClassImages]) -> Episode:
        config = self._config
        shots = config.shots[int(torch.randint(len(config.shots), (), device="cpu"))]
        drawn = [one.images[torch.randperm(len(one.images), device="cpu")[: config.images]] for one in chosen]
        parts = [images[:shots] for images in drawn] + [images[shots:] for images in drawn]
        inputs = [torch.cat(list(own)) for _, own in groupby(parts, key=lambda images: images.shape[1:])]
        index = torch.arange(len(chosen))
        labels = torch.cat([index.repeat_interleave(shots), index.repeat_interleave(config.images - shots)])
        identities = torch.tensor([one.identity for one in chosen])[labels]
        features = torch.cat([one.features for one in chosen])
        features = features[torch.randint(len(features), (self._per_condition,), device="cpu")]
        inputs = inputs if self._augment == "none" else list(map(flip_and_crop, inputs))
        return Episode(inputs, labels, identities, shots * len(chosen), features[None])

    @torch.no_grad()
    def embedding(self, encoder: DataSetEncoder, index: int, draws: int) -> Tensor:
        """Return the mean embedding (out,) of the data set with that index over so many draws of its images."""
        pool = torch.cat([one.features for one in self._classes[index]])
        drawn = pool[torch.randint(len(pool), (draws, 1, self._per_condition), device="cpu")]
        return encoder(drawn.to(encoder.read.weight.device)).mean(0)


def _classes_of(data: DataSet, config: EpisodesConfig, encoder: ExampleEncoder, before: int) -> list[ClassImages]:
    """The classes of a data set with enough training images for an episode; `before` are the numbers that are taken."""
    if not data.has_images:
        raise BadInput(f"generator.episodes.data has {data.name!r}, which has no images", "", "Leave it out.")
    found: list[ClassImages] = []
    for label in range(len(data.classes)):
        images = data.train.inputs[data.train.targets == label]
        if len(images) >= config.images:
            found.append(ClassImages(images, encoder.features(images[:_POOL]), before + len(found)))
    if len(found) < 2:
        raise BadInput(
            f"generator.episodes.data has {data.name!r} with {len(found)} classes of {config.images} training images or more",
            "an episode needs two or more",
            "Lower generator.episodes.images, or leave it out.",
        )
    return found


def _some(classes: list[ClassImages], count: int) -> list[ClassImages]:
    return [classes[i] for i in torch.randperm(len(classes), device="cpu")[:count].tolist()]
