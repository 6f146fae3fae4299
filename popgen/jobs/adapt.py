"""`popgen adapt`: fits a published network to images of a new kind, without labels and without training."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from popgen import __version__
from popgen.adaptation.choose import Comparison
from popgen.adaptation.entropy import EntropySteps
from popgen.adaptation.points import PointDecoder
from popgen.adaptation.rows import Row, Table
from popgen.archs import ArchSpec, trust_named
from popgen.archs.inputs import ImageInputs
from popgen.cards.make import keep_card
from popgen.configs.adapt import AdaptConfig
from popgen.configs.sampling import Sampling
from popgen.data import DataSet, Part
from popgen.data.names import trust_sources
from popgen.data.unlabelled import load_images
from popgen.errors import BadInput
from popgen.files import check_empty, write_tensors, write_text
from popgen.generator import Generator
from popgen.hub.kinds import ADAPTED
from popgen.jobs.parents import made_from, with_commits
from popgen.jobs.searching.origin import open_zoo
from popgen.json_text import json_text
from popgen.networks.passes import Passes
from popgen.tasks import CLASSIFICATION

OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class AdaptedRow:
    """A row of the table; accuracies are None for images without labels."""

    name: str
    what: str
    information: float  # mutual information between image and prediction on validation images, in nats
    passes: int  # forward passes of an image that finding it takes, beside the condition; a backward pass counts as two
    val_accuracy: float | None
    test_accuracy: float | None


@dataclass(frozen=True)
class AdaptedBatch:
    """What was chosen for one batch of a stream, and the classes that it predicts."""

    first: int  # index of the batch's first image
    count: int
    chosen: str
    gain: float  # estimated gain over the base, in nats
    error: float
    accuracy: float | None
    base_accuracy: float | None
    predicted: list[int]  # indices of classes


@dataclass(frozen=True)
class Adapted:
    """The chosen network, its estimated gain over the base in nats of mutual information, and the table of rivals.

    Of a stream each batch has these; here they are None.
    """

    arch: str
    data: str
    images: int  # candidates were compared by so many
    networks: int  # candidates that were compared
    seconds: float
    chosen: str | None = None
    best: str | None = (
        None  # the middle of the most informative candidates, which is chosen unless the base is given back
    )
    gain: float | None = None
    error: float | None = None
    is_base: bool | None = None  # whether the base was given back
    why_base: str | None = None  # and why
    classes: float | None = (
        None  # effective number of classes in the predictions of the robust network, else of the base
    )
    rows: list[AdaptedRow] = field(default_factory=list)
    batches: list[AdaptedBatch] = field(default_factory=list)
    weights: str = ""
    made_with: dict[str, Any] = field(default_factory=dict)  # the version of popgen, and the seed
    made_from: dict[str, Any] = field(default_factory=dict)  # the generator, its zoo, and the licences in it

    def to_json(self) -> dict[str, Any]:
        """The keys of --json; they are stable."""
        plain = {name: value for name, value in vars(self).items() if name not in ("rows", "batches")}
        return {**plain, "rows": [vars(row) for row in self.rows], "batches": [vars(one) for one in self.batches]}


def adapt(
    config: AdaptConfig,
    out: str,
    say: Callable[[str], None] = lambda _: None,
    on_progress: OnProgress = lambda *_: None,
) -> Adapted:
    """Choose a network for the images and write it as `out/weights.safetensors`, with the table as `out/result.json`.

    Statistics and the condition come from training images, and the choice is made on validation images; test images with
    their labels are used once, for the table. The images of a flat folder are all three. With `config.batch` the images
    of a flat folder, else the test images, are a stream whose batches are adapted to one by one.

    Args:
        on_progress: called with what is counted, networks or batches, and the numbers done and of all.

    Raises:
        PopgenError: an unknown name, settings or data that do not fit, or an `out` that is not empty.
    """
    _finish(config)
    config = with_commits(config, say)
    trust_named([config.arch])
    trust_sources([config.data])
    generator = Generator.from_pretrained(config.generator)
    generator.check_latents()
    spec = _checked(generator, config)
    check_empty(Path(out), "an adapted network")
    classes = tuple(generator.provenance.classes) or tuple(map(str, range(spec.config.classes)))
    inputs = spec.config.inputs
    side = inputs.shape[-1] if isinstance(inputs, ImageInputs) else None
    data, labelled = load_images(config.data, classes, side, config.data_dir)
    for text in data.remarks:
        say(f"{config.data}: {text}")
    labelled = labelled and _fits(data, classes, say)
    _check_images(generator, data)
    generator.load_encoders()
    one = _Adaptation(generator, spec, data, labelled, config, on_progress)
    if config.batch is not None:
        return one.stream(Path(out), config.batch)
    return one.once(Path(out), networks_of_zoo(generator, config, say))


@dataclass(frozen=True)
class _Adaptation:
    """All that adapting needs, checked and loaded."""

    generator: Generator
    spec: ArchSpec
    data: DataSet
    labelled: bool
    config: AdaptConfig
    on_progress: OnProgress

    def once(self, out: Path, of_zoo: dict[str, Tensor]) -> Adapted:
        """Adapt to all images together, and write the network and the table."""
        began, config = time.monotonic(), self.config
        prepare = self.spec.config.inputs.prepare
        statistics, choice = (prepare(drawn(part, config).inputs) for part in (self.data.train, self.data.val))
        on_network = partial(self.on_progress, "networks")
        comparison = Comparison(self._decoder(self.data), statistics, Passes(self.spec, choice), on_network)
        candidates = comparison.candidates()
        made = comparison.choose(candidates)
        seconds = round(time.monotonic() - began, 1)
        table = Table(comparison, candidates, made, of_zoo, _entropy(config), _finish(config), config.seed)
        rows, chosen = [], None
        for chosen in table.rows():
            rows.append(_scored(self.spec, chosen, self.data, self.labelled))
        assert chosen is not None, "the last row is the chosen network"
        card = {"format": "pt", "popgen": __version__, "arch": config.arch, "data": config.data, "chosen": chosen.what}
        file = write_tensors(out / "weights.safetensors", self.spec.to_state(chosen.flat), card)
        adapted = Adapted(
            config.arch,
            config.data,
            images=len(choice),
            networks=len(candidates),
            seconds=seconds,
            chosen=chosen.what,
            best=made.best.text(),
            gain=made.gain,
            error=made.error,
            is_base=made.is_base,
            why_base=made.why_base,
            classes=made.classes,
            rows=rows,
            weights=str(file),
            **self._made(),
        )
        written = _written(adapted, out)
        keep_card(out, ADAPTED)
        return written

    def stream(self, out: Path, batch: int) -> Adapted:
        """Adapt to each batch of so many images by itself, and write the predictions."""
        began, config, networks = time.monotonic(), self.config, 0
        batches: list[AdaptedBatch] = []
        parts = list(_batches(self.data.test, batch))
        for number, (first, part) in enumerate(parts, 1):
            inputs = self.spec.config.inputs.prepare(part.inputs)
            decoder = self._decoder(replace(self.data, train=part, val=part, test=part))
            comparison = Comparison(decoder, inputs, Passes(self.spec, inputs))
            candidates = comparison.candidates()
            made, networks = comparison.choose(candidates), len(candidates)
            chosen = Table(comparison, candidates, made, finish=_finish(config), seed=config.seed).chosen()
            predicted, base = comparison.passes.outputs(chosen.flat).argmax(1), candidates[0].logits.argmax(1)
            accuracy, base_accuracy = (_share_right(answer, part, self.labelled) for answer in (predicted, base))
            batches.append(
                AdaptedBatch(
                    first,
                    len(part),
                    chosen.what,
                    made.gain,
                    made.error,
                    accuracy,
                    base_accuracy,
                    predicted.tolist(),
                )
            )
            self.on_progress("batches", number, len(parts))
        seconds = round(time.monotonic() - began, 1)
        count, described = len(self.data.test), self._made()
        return _written(Adapted(config.arch, config.data, count, networks, seconds, batches=batches, **described), out)

    def _made(self) -> dict[str, Any]:
        parents = made_from(self.generator, None, self.config.generator)
        return {"made_with": {"popgen": __version__, "seed": self.config.seed}, "made_from": parents}

    def _decoder(self, data: DataSet) -> PointDecoder:
        return make_decoder(self.generator, self.config.arch, data, self.config.seed)


def _written(adapted: Adapted, out: Path) -> Adapted:
    write_text(out / "result.json", json_text(adapted.to_json(), indent=1) + "\n")
    return adapted


def _checked(generator: Generator, config: AdaptConfig) -> ArchSpec:
    """Return the architecture's spec, and refuse a generator without a base, or whose conditions need labels."""
    spec = generator.spec(config.arch)
    if config.arch not in generator.bases:
        raise BadInput(
            f"the generator {config.generator!r} has no base of {config.arch!r}",
            "its zoo does not start from a trained network, so there is nothing to adapt",
            "Train one on a zoo whose spec has start: ZOO#ID, such as zoo_specs/cifar_shifts.yaml; or use popgen search.",
        )
    if generator.config.encoders.labels:
        raise BadInput(
            f"the generator {config.generator!r} has conditions that need labels",
            "it groups images by class (encoders.labels)",
            "Train it with encoders: {labels: false}, or use popgen search.",
        )
    if spec.config.task != CLASSIFICATION:
        raise BadInput(f"{config.arch!r} does {spec.config.task}", "adapt is for classification", "Use popgen search.")
    return spec


def _entropy(config: AdaptConfig) -> tuple[EntropySteps, ...]:
    asked = (EntropySteps("tent", config.tent), EntropySteps("eta", config.eta))
    return tuple(steps for steps in asked if steps.epochs)


def _finish(config: AdaptConfig) -> EntropySteps | None:
    return None if config.finish is None else EntropySteps.parse(config.finish)


def networks_of_zoo(generator: Generator, config: AdaptConfig, say: Callable[[str], None]) -> dict[str, Tensor]:
    """Return the weights (p,) of the zoo's networks by their ids; where the zoo is not here, that is said."""
    zoo = open_zoo(config.zoo, generator)
    records = [] if zoo is None else zoo.select(arch=config.arch, held_out=False)
    if zoo is None or not records:
        say(
            f"no row for the best network of the zoo {generator.provenance.zoo!r}, which is not here; --zoo names its folder"
        )
        return {}
    return dict(zip([one.id for one in records], zoo.matrix(records), strict=True))


def _fits(data: DataSet, classes: tuple[str, ...], say: Callable[[str], None]) -> bool:
    """Whether the labels of a data set are those of the network; if not, they are left out, which is said."""
    if data.classes == classes:
        return True
    say(f"{data.name}: its classes are not the network's ({', '.join(classes[:5])}, ...); labels are not used")
    return False


def _check_images(generator: Generator, data: DataSet) -> None:
    generator.check_data(data)
    fewest = min(len(data.train), len(data.val))
    if fewest < 2:
        raise BadInput(
            f"data set {data.name!r} has {fewest} images", "statistics need two or more", "Give more images."
        )


def drawn(part: Part, config: AdaptConfig) -> Part:
    """Return at most `config.images` images in a random order that the seed fixes."""
    order = torch.randperm(len(part), generator=torch.Generator().manual_seed(config.seed))
    return part.take(order[: config.images])


def _batches(part: Part, size: int) -> Iterator[tuple[int, Part]]:
    """Yield consecutive batches; a rest of one image joins the batch before it."""
    ends = [*range(size, len(part) - 1, size), len(part)]
    for first, last in zip([0, *ends[:-1]], ends, strict=True):
        yield first, part.take(torch.arange(first, last))


def make_decoder(generator: Generator, arch: str, data: DataSet, seed: int) -> PointDecoder:
    """Generate one network under the condition, and one at strength 0, which is for the average data set."""
    condition = generator.condition(arch, data, seed=seed)

    def generated(strength: float) -> Tensor:
        sampling = Sampling(strength=strength)
        latents = generator.sample(arch, data, 1, seed=seed, sampling=sampling, condition=condition)
        return generator.decode(arch, latents)[0]

    base, robust = generator.bases[arch], generator.robust.get(arch)
    return PointDecoder(generator.spec(arch), generator.scalings[arch], base, robust, generated(1.0), generated(0.0))


def _scored(spec: ArchSpec, row: Row, data: DataSet, labelled: bool) -> AdaptedRow:
    scores: list[float | None] = [None, None]
    if labelled:
        scores = [_accuracy(spec, row.flat, part) for part in (data.val, data.test)]
    return AdaptedRow(row.name, row.what, row.information, row.passes, *scores)


def _accuracy(spec: ArchSpec, flat: Tensor, part: Part) -> float | None:
    if not len(part):
        return None
    outputs = Passes(spec, spec.config.inputs.prepare(part.inputs)).outputs(flat)
    return _share_right(outputs.argmax(1), part, True)


def _share_right(predicted: Tensor, part: Part, labelled: bool) -> float | None:
    return float((predicted == part.targets).float().mean()) if labelled else None
