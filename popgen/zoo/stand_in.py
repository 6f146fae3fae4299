"""Training without a zoo's data: images at hand stand in for those of its data sets, and its networks say what they would answer.

The label of an image in place of a data set's is the class that the zoo's networks on this data set find likeliest on average: distillation
with hard labels (Hinton et al., arXiv 1503.02531; from other images than the teacher's: Orekondy et al., arXiv 1812.02766). A class that is likeliest
for too few training images gets those that are likeliest to be it, because conditions show images of each class. Every loss and figure of a
training is then about agreement with the zoo's networks on these images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from popgen.archs import ArchSpec
from popgen.configs.generator import StandInConfig
from popgen.data import DataSet, Part, load_data
from popgen.data.dataset import numbered_classes
from popgen.errors import BadInput, unknown_name
from popgen.networks.passes import Passes
from popgen.tasks import CLASSIFICATION
from popgen.zoo import Checkpoint, Zoo

_FEWEST = 10  # training images of each class
_TEACHERS = 4  # networks of each architecture that label the images in place of a data set's
ReadData = Callable[[str], DataSet]


def data_reader(zoo: Zoo, config: StandInConfig, data_dir: str | None = None) -> ReadData:
    """A function that reads a data set by its name, or what stands in for it.

    Args:
        data_dir: the folder of named data sets; None: POPGEN_DATA, else ./data.

    Raises:
        NotFound: the settings name a data set that the zoo does not have.
        BadInput: the zoo's networks do not classify.
    """
    if not config.images:
        return lambda name: load_data(name, data_dir)
    known = sorted({record.data for record in zoo.records})
    for name in config.data:
        if name not in known:
            raise unknown_name(
                "data set of the zoo", name, known, "generator.stand_in.data names those without images."
            )
    absent = set(config.data or known)
    images = load_data(config.images, data_dir)

    @cache
    def read(name: str) -> DataSet:
        return labelled_by(zoo, name, images) if name in absent else load_data(name, data_dir)

    return read


def labelled_by(zoo: Zoo, name: str, images: DataSet) -> DataSet:
    """Images with the answers of the zoo's networks on the data set `name` as labels.

    Networks that training may see are asked, others where there are no such.

    Raises:
        BadInput: they do not classify.
    """
    records = zoo.select(data=name, held_out=False) or zoo.select(data=name)
    teachers = list(_teachers(zoo, records))
    if any(spec.config.task != CLASSIFICATION or spec.is_adapter for spec, _ in teachers):
        raise BadInput(
            f"generator.stand_in cannot label images in place of {name!r}",
            "the zoo's networks on it do not classify images by themselves",
            "Name the data sets that they can label: generator.stand_in.data.",
        )
    outputs = teachers[0][0].config.classes
    classes = records[0].classes or numbered_classes(name, outputs - 1)

    def labelled(part: Part) -> Part:
        chances = torch.stack([_chances(spec, flat, part.inputs) for spec, flat in teachers]).mean(0)
        labels = chances.argmax(1)
        if part is images.train:
            for label in (labels.bincount(minlength=outputs) < _FEWEST).nonzero()[:, 0].tolist():
                labels[chances[:, label].topk(min(_FEWEST, len(labels))).indices] = label
        return Part(part.inputs, labels)

    remark = f"{name}: images of {images.name} stand in, labelled by {len(teachers)} networks of the zoo"
    made = replace(images.each(labelled), name=name, classes=classes, remarks=(remark,), groups=(), phrases=())
    return replace(made, description="")


def _teachers(zoo: Zoo, records: list[Checkpoint]) -> Iterator[tuple[ArchSpec, Tensor]]:
    for arch in sorted({record.arch for record in records}):
        own = [record for record in records if record.arch == arch][:_TEACHERS]
        for flat in zoo.matrix(own):
            yield zoo.spec(arch), flat


@torch.no_grad()
def _chances(spec: ArchSpec, flat: Tensor, images: Tensor) -> Tensor:
    """Probabilities (n, classes) of a network's answers."""
    return Passes(spec, spec.config.inputs.prepare(images)).outputs(flat).softmax(1)
