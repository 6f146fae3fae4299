"""Measures how far a data set is from those that a generator was trained on, and what training on it would take."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.data import DataSet
from popgen.data.classes import match_classes
from popgen.generator.family.reference import LEAST, Distance, Reference, summary
from popgen.generator.family.verdict import Cost, Family
from popgen.generator.generator import Generator
from popgen.networks.passes import Passes
from popgen.tasks import get_task

_IMAGES = 500  # training images whose features sum up a data set, as many as a condition without labels reads
_DRAWS = 8  # embeddings, where there are no summaries of images
_BATCH = 64  # images of a pass that is timed
_SECONDS = 0.03  # time for which passes are repeated


def look(generator: Generator, arch: str, data: DataSet, spec: ArchSpec, weights: Tensor) -> Family | None:
    """Return what is known of a data set before networks are generated for it; None where nothing can be measured.

    That is so for texts, and for generators of earlier versions that were trained on fewer than three data sets.

    Args:
        arch: the trained architecture that networks are generated from.
        spec: the architecture of these networks; it differs where `arch` is transplanted.
        weights: any weights (p,) of it, to measure the time of a pass.

    Raises:
        BadInput: the data set cannot be a condition, see `Generator.check_data`.
        PopgenError: an encoder is not on this machine and cannot be downloaded.
    """
    distance = None if data.has_texts else _distance(generator, arch, data)
    if distance is None:
        return None
    of_accuracy = get_task(spec.config.task).unit == "accuracy"
    scores = [code.val_score for code in generator.records if code.arch == arch and code.val_score is not None]
    known = tuple(sorted(scores)) if of_accuracy else ()
    classes = generator.spec(arch).config.classes, len(data.classes)
    return Family(data.name, distance, known, classes, Cost(len(data.train), passes_per_second(spec, data, weights)))


def reference_of(features: Iterable[Iterable[Tensor]]) -> Reference | None:
    """Return the summaries of data sets from the features (images, dim) of each of their classes; None for fewer than three."""
    points = [summary(torch.cat([one.cpu() for one in classes]))[0] for classes in features]
    return Reference(torch.stack(points), "images") if len(points) >= LEAST else None


@torch.no_grad()
def _distance(generator: Generator, arch: str, data: DataSet) -> Distance | None:
    generator.check_data(data)
    reference = generator.reference
    if reference is not None and not _is_part(data.classes, generator.provenance.classes):
        order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))[:_IMAGES]
        return reference.distance(*summary(generator.load_encoders().features(data.train.inputs[order])))
    if len(generator.data_vectors) < LEAST:
        return None
    drawn = generator.condition(arch, data, _DRAWS).data
    error = float(drawn.var(0).sum()) / _DRAWS
    return Reference(generator.data_vectors, "embedding").distance(drawn.mean(0), error)


def _is_part(classes: Sequence[str], known: Sequence[str]) -> bool:
    """Whether a data set has some of the training classes and no other: the images of a few classes differ from those of all."""
    index = match_classes(classes, known)
    return None not in index and len(set(index)) < len(known)


def passes_per_second(spec: ArchSpec, data: DataSet, weights: Tensor) -> float:
    """Return how many images a second a network classifies on this machine, measured for some hundredths of a second."""
    inputs = spec.config.inputs.prepare(data.train.inputs[:_BATCH])
    passes = Passes(spec, inputs)
    passes.outputs(weights)  # the first pass prepares the network
    began, count = time.perf_counter(), 0
    while count == 0 or time.perf_counter() - began < _SECONDS:
        passes.outputs(weights)
        count += len(inputs)
    return count / (time.perf_counter() - began)
