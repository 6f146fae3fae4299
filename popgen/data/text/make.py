"""Makes a data set of labelled texts: leaves out empty ones, and says what is unusual."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import torch

from popgen.data.dataset import SPLITS, DataSet, Part, from_parts
from popgen.data.sources.splits import PassedOver, say_counts
from popgen.data.text.tasks import TextTask
from popgen.errors import BadInput
from popgen.texts import LONGEST, PAIR, join_pair, same_text, to_bytes, to_texts

_MOST_BYTES = 4 * 2**30  # the limit for all texts of a data set, padded
_AMONG = (("val", "train"), ("test", "train"), ("test", "val"))


@dataclass(frozen=True)
class Example:
    """A text, or a pair of texts, with its label."""

    text: str | None
    second: str | None
    label: int  # an index of the classes
    where: str  # names it in remarks, such as "row 7"


def make_texts(
    name: str,
    classes: tuple[str, ...],
    splits: dict[str, list[Example]],
    passed_over: dict[str, PassedOver],
    task: TextTask,
    kind: str = "rows",
) -> DataSet:
    """A data set of the texts of each split, padded to one width; missing splits are cut from train.

    Args:
        classes: the class names, which the labels count; they are brought into the order of the task's phrases.
        splits: the texts of train, and of val and test if they have some of their own, or of `all`.
        passed_over: what was left out, by split; empty texts are added.
        kind: what the source holds, such as "files".

    Raises:
        BadInput: a split has no texts, the task's phrases are not those of the classes, or the texts need too much memory.
    """
    texts = {split: _texts(name, split, examples, passed_over[split]) for split, examples in splits.items()}
    ordered = task.order(classes)
    new_label = torch.tensor([ordered.index(one) for one in classes])
    pool = [text for own in texts.values() for text, _ in own]
    width = min(LONGEST, max(len(text.encode()) for text in pool))
    if len(pool) * width > _MOST_BYTES:
        raise BadInput(f"{name!r} needs {len(pool) * width / 2**30:.0f} GiB of memory", "", "Take fewer texts.")
    inputs = to_bytes(pool)
    ends = list(accumulate((len(own) for own in texts.values()), initial=0))
    parts = {
        split: Part(inputs[start:end], new_label[[label for _, label in own]])
        for (split, own), (start, end) in zip(texts.items(), pairwise(ends), strict=True)
    }
    counts = say_counts({split: len(part) for split, part in parts.items()}, passed_over, kind, "texts")
    data = from_parts(name, ordered, parts, counts)
    empty = [split for split in SPLITS if not len(getattr(data, split))]
    if empty:
        why = f"they cannot be cut into {' and '.join(empty)}: {len(pool)} in all"
        raise BadInput(f"{name!r} has too few texts", why, "Add some, or a column `split`.")
    phrases = tuple(task.phrases.values())
    remarks = (*counts, *_cut_remarks(pool), *_double_remarks(data), *task.remarks)
    return replace(data, description=task.description, phrases=phrases, remarks=remarks)


def _texts(name: str, split: str, examples: list[Example], passed: PassedOver) -> list[tuple[str, int]]:
    """The texts of a split that are not empty, with their labels; a pair is one text."""
    kept = []
    for one in examples:
        first, second = _clean(one.text or ""), _clean(one.second or "")
        if first.strip():
            # A pair keeps one byte more than there is room for, so that its cut is counted with the others.
            kept.append((join_pair(first, second if second.strip() else None, LONGEST + 1), one.label))
        else:
            passed.add("empty", one.where)
    if not kept:
        where = "" if split == "all" else f" in {split}"
        why = f"passed over: {passed.text()}" if passed.text() else "the split is empty"
        raise BadInput(f"{name!r} has no texts{where}", why, "Fill it or remove it.")
    return kept


def _clean(text: str) -> str:
    """A text without halves of UTF-16 characters, which JSON can hold, and without the character between pairs."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text).replace(PAIR, " ")


def _cut_remarks(texts: list[str]) -> tuple[str, ...]:
    cut = sum(len(text.encode()) > LONGEST for text in texts)
    return (f"{cut} of {len(texts)} texts are longer than {LONGEST:,} bytes and are cut",) if cut else ()


def _double_remarks(data: DataSet) -> tuple[str, ...]:
    """Remarks on texts of a split that stand in another one, too; case and white space do not count."""
    keys = {split: [same_text(text) for text in to_texts(getattr(data, split).inputs)] for split in SPLITS}
    remarks = []
    for split, among in _AMONG:
        known = set(keys[among])
        count = sum(key in known for key in keys[split])
        effect = (
            "accuracy on them is inflated" if among == "train" else "the test score is not independent of the choice"
        )
        if count:
            remarks.append(f"{count} of {len(keys[split])} {split} texts are among the {among} texts, too: {effect}")
    return tuple(remarks)
