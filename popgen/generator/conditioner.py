"""Computes the conditions that latents are sampled under, from a data set or its description and an architecture."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.configs.generator import EncoderConfig
from popgen.data import DataSet
from popgen.data.classes import match_classes
from popgen.encoders.arch import ArchTextEncoder
from popgen.encoders.examples import ENCODERS, ExampleEncoder, load_example_encoder
from popgen.encoders.texts import TextExampleEncoder, is_text_encoder
from popgen.errors import BadInput
from popgen.generator.draws import draw_features
from popgen.generator.model.conditions import DataSetEncoder, Description, arch_vectors
from popgen.generator.records import Condition
from popgen.generator.task_sets import TaskKind, task_set
from popgen.generator.texts import StoredTexts


class Conditioner:
    """Holds the frozen encoders that the settings name; they are loaded when they are first needed.

    `stored` has embeddings of architectures, which need no encoder of texts.
    """

    def __init__(self, config: EncoderConfig) -> None:
        self.stored = StoredTexts()
        self._config = config
        self._examples: ExampleEncoder | None = None
        self._texts: ArchTextEncoder | None = None

    def load(self, specs: Iterable[ArchSpec], described: bool = False) -> ExampleEncoder:
        """Load what conditions on these architectures need, and return the encoder of examples.

        Args:
            described: whether data sets are described in words, which need the encoder of texts, too.

        Raises:
            PopgenError: an encoder is not on this machine and cannot be downloaded.
        """
        if described or not self.stored.holds(self._config.text, specs):
            self._text_encoder()
        return self._example_encoder()

    def _example_encoder(self) -> ExampleEncoder:
        if self._examples is None:
            self._examples = load_example_encoder(self._config.images)
        return self._examples

    def _text_encoder(self) -> ArchTextEncoder:
        if self._texts is None:
            self._texts = ArchTextEncoder.load(self._config.text)
        return self._texts

    @torch.no_grad()
    def condition(
        self,
        data_encoder: DataSetEncoder,
        spec: ArchSpec,
        data: DataSet | Description,
        classes: list[str],
        n: int,
        seed: int,
        kind: TaskKind = "both",
    ) -> Condition:
        """Return `n` conditions on an architecture and a data set.

        The embedding of a data set is noisy, because it is computed from a few images. Each condition averages it over
        its own draws of images (see `draw_features`). A description has a single embedding, which is repeated.

        Args:
            classes: names of the training classes, with which the classes of the data set are matched.
            kind: what of a data set of texts is shown.

        Raises:
            BadInput: the data set cannot be a condition, see `check_data`.
            PopgenError: an encoder is not on this machine and cannot be downloaded.
        """
        if not isinstance(data, Description):
            self.check_data(data)
        is_stored = self.stored.holds(self._config.text, [spec])
        vector = arch_vectors([spec], self.stored.encode if is_stored else self._text_encoder().encode)
        if isinstance(data, Description) and is_text_encoder(self._config.images):
            embedding = self._described(data_encoder, data).expand(n, -1)
        elif isinstance(data, Description):
            embedding = data_encoder.from_text(self._text_encoder().encode([data.text])).expand(n, -1)
        else:
            drawn = draw_features(data, self._example_encoder(), self._config, n, seed, kind)
            class_index = self._class_index(data, classes)
            embedding = data_encoder(drawn.flatten(0, 1), class_index).unflatten(0, drawn.shape[:2]).mean(1)
        return Condition(embedding, vector.expand(n, -1))

    def _described(self, data_encoder: DataSetEncoder, data: Description) -> Tensor:
        """The embedding (1, out) of a task of texts that is given by words alone."""
        encoder = self._example_encoder()
        assert isinstance(encoder, TextExampleEncoder)
        words = encoder.words(data.text, data.phrases)
        sets = task_set(words, words[:0], self._config.images_per_class, "words")
        embedding: Tensor = data_encoder(sets[None])
        return embedding

    def by_description(self, text: str, known: dict[str, str]) -> list[str]:
        """Names of tasks by the similarity of their descriptions to a text, the most similar first."""
        names = [name for name, description in known.items() if description]
        vectors = self._text_encoder().encode([text, *(known[name] for name in names)])
        return [names[i] for i in (vectors[1:] @ vectors[0]).argsort(descending=True, stable=True).tolist()]

    def check_data(self, data: DataSet) -> None:
        """Check that a data set can be a condition.

        Raises:
            BadInput: it has no images where the encoder takes images, no training examples, or no training images of a
                class, if the condition uses labels.
        """
        if is_text_encoder(self._config.images) and not data.has_texts:
            raise BadInput(
                f"data set {data.name!r} has no texts",
                f"its examples have the shape {data.shape}, and the generator's conditions are made from texts",
                "Use text:FILE, or another generator.",
            )
        if not is_text_encoder(self._config.images) and self._config.images not in ENCODERS and not data.has_images:
            raise BadInput(
                f"data set {data.name!r} has no images",
                f"its examples have the shape {data.shape}, and the generator's conditions are made from images",
                "Use a data set of images, or a generator that was trained on such examples.",
            )
        if len(data.train) == 0:
            raise BadInput(f"data set {data.name!r} has no training examples", "the condition is made from them", "")
        if self._config.labels:
            data.check_classes("train")

    def _class_index(self, data: DataSet, classes: list[str]) -> Tensor | None:
        """Index of each class among the training classes, or None if any is unknown."""
        if not self._config.labels:
            return None
        if list(data.classes) == classes:  # Names that stand there twice could not be matched one by one.
            return torch.arange(len(classes))
        index = match_classes(data.classes, classes)
        return None if None in index else torch.tensor(index)
