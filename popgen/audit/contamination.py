"""Finds images or texts that a search chooses on and that its checkpoints were trained on, or that are in two splits of its data.

A network has memorised its training images, so its accuracy on them is too high. Variants are removed from the names on both sides, because
a rotated image is the same image. Checkpoints that `popgen zoo build` trained have seen the training split alone. ForeignCheckpoint checkpoints have
seen all but the test split, because popgen cuts its validation split from the images that everybody else trains on. Texts are
compared without case and white space.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from popgen.audit.overlap import Overlap, overlap
from popgen.data import DataSet, load_data
from popgen.data.load import is_local, split_name
from popgen.data.subsets import SUBSETS
from popgen.errors import PopgenError
from popgen.generator import Generator
from popgen.texts import same_text, to_texts
from popgen.zoo import Zoo

_KINDS = {"train": "training", "val": "validation", "test": "test"}


def contamination(
    data: DataSet, generator: Generator | None, zoo: Zoo | None, data_dir: str | None = None
) -> dict[str, Any]:
    """Count the images or texts that each training set shares with the validation and the test split.

    Returns:
        `within`: a list of {split, among, exact, near, of}, one for each split whose images are among those of another
        split of the same data set;
        `shared`: a list of {data, seen, val: {exact, near, of}, test: ...}, where `seen` is `train` or `train+val`;
        `checked` and `not_checked`: names of training sets; those that are not on this machine are not checked (nothing is
        downloaded for this).
    """
    shared, checked, not_checked = [], [], []
    if not data.has_images and not data.has_texts:  # nothing else is compared
        return {"within": [], "shared": [], "checked": [], "not_checked": []}
    plain = _plain(data.name)
    own = data if plain == data.name else _local(plain, data_dir, required=True) or data
    inside = _within(own)
    for name, foreign in sorted(_trained_on(generator, zoo).items()):
        known = own if name in (plain, data.name) else _local(name, data_dir)
        if known is None:
            not_checked.append(name)
            continue
        checked.append(name)
        if known.noun != own.noun:
            continue  # images and texts have nothing in common
        if known is own and not foreign:
            counts = {split: inside[split, "train"] for split in ("val", "test")}
        else:
            seen = [known.train.inputs, known.val.inputs] if foreign else [known.train.inputs]
            counts = {split: _shared(own, getattr(own, split).inputs, seen) for split in ("val", "test")}
        if any(counts.values()):
            found = {split: vars(count) for split, count in counts.items()}
            shared.append({"data": name, "seen": "train+val" if foreign else "train", **found})
    within = [{"split": split, "among": among, **vars(count)} for (split, among), count in inside.items() if count]
    if own.val is own.train:  # `labels:` says so in its name
        within = [one for one in within if (one["split"], one["among"]) == ("test", "train")]
    return {"within": within, "shared": shared, "checked": checked, "not_checked": not_checked}


def _within(data: DataSet) -> dict[tuple[str, str], Overlap]:
    """How many images of a split are in another split of the same data set, by the names of both."""
    return {
        (split, among): _shared(data, getattr(data, split).inputs, [getattr(data, among).inputs])
        for split, among in (("val", "train"), ("test", "train"), ("test", "val"))
    }


def _shared(data: DataSet, examples: Tensor, seen: list[Tensor]) -> Overlap:
    """How many examples of a data set are among those that were seen."""
    if not data.has_texts:
        return overlap(examples, torch.cat(seen))
    known = {same_text(text) for other in seen for text in to_texts(other)}
    return Overlap(sum(same_text(text) in known for text in to_texts(examples)), 0, len(examples))


def say_contamination(found: dict[str, Any], data_set: DataSet, say: Callable[[str], None]) -> None:
    """Say a line for every affected training set, and one for those that were not compared."""
    data, noun = data_set.name, data_set.noun
    if noun == "examples":
        say(f"{data}: its examples are not compared with those that checkpoints were trained on; images and texts are")
    for one in found["within"] if noun == "images" else ():  # the remarks on a data set of texts say it
        effect = (
            "accuracy on them is inflated"
            if one["among"] == "train"
            else "the test score is not independent of the choice"
        )
        say(f"{data}: {_copies(one, one['split'], noun)} are among its own {_KINDS[one['among']]} {noun}: {effect}")
    for one in found["shared"]:
        texts = [
            _copies(one[split], split, noun) for split in ("val", "test") if one[split]["exact"] + one[split]["near"]
        ]
        say(
            f"{data}: {', '.join(texts)} are among the {noun} of {one['data']} that checkpoints were trained on "
            f"({one['seen']}): accuracy on them is inflated"
        )
    if found["not_checked"]:
        say(f"{data}: not compared with the training {noun} of {', '.join(found['not_checked'])}, which are not here")


def _copies(counts: dict[str, Any], split: str, noun: str) -> str:
    """Counts of copies in words."""
    if noun == "texts":
        return f"{counts['exact']} of {counts['of']} {_KINDS[split]} texts"
    return (
        f"{counts['exact'] + counts['near']} of {counts['of']} {_KINDS[split]} images "
        f"({counts['exact']} pixel for pixel, {counts['near']} as near copies)"
    )


def _trained_on(generator: Generator | None, zoo: Zoo | None) -> dict[str, bool]:
    """Plain names of all training sets, each with whether a foreign checkpoint was trained on it."""
    seen: dict[str, bool] = {}
    for name in () if generator is None else generator.provenance.data:
        foreign = generator is not None and name in generator.provenance.foreign
        seen[_plain(name)] = seen.get(_plain(name), False) or foreign
    for record in [] if zoo is None else zoo.select(held_out=False):
        seen[_plain(record.data)] = seen.get(_plain(record.data), False) or not record.built
    return seen


def _plain(name: str) -> str:
    """The name without variants. Subsets stay in it, because the images that they leave out were not seen."""
    source, modifiers = split_name(name)
    return "/".join([source, *(m for m in modifiers if m.partition(":")[0] in SUBSETS)])


def _local(name: str, data_dir: str | None, required: bool = False) -> DataSet | None:
    """The data set where it is on this machine. One that is broken counts as absent, unless it is `required`."""
    try:
        return load_data(name, data_dir) if is_local(name, data_dir) else None
    except PopgenError:
        if required:
            raise
        return None  # it is listed as not compared
