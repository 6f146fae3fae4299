"""Names of splits, and the count of what was read of each split and what was passed over."""

from __future__ import annotations

from collections.abc import Iterable

from popgen.errors import BadInput

_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
_SPLIT_OF = {name: split for split, names in _NAMES.items() for name in names}
_NAMED = 3  # names of files that a remark gives as examples


def split_of(name: str) -> str | None:
    """The split that a folder or a table is called after, in any case: train, val, test, or None.

    >>> split_of("Valid"), split_of("dev"), split_of("Testing"), split_of("extra")
    ('val', 'val', 'test', None)
    """
    return _SPLIT_OF.get(name.casefold())


def name_splits(name: str, found: Iterable[str]) -> dict[str, str]:
    """The split's own name for each of train, val and test that is among the names `found`.

    Args:
        name: the data set's name, for the error.

    Raises:
        BadInput: two names mean the same split.
    """
    splits: dict[str, str] = {}
    for own in found:
        split = split_of(own)
        if split is None:
            continue
        if split in splits:
            raise BadInput(
                f"{name!r} has two splits that mean {split}: {splits[split]} and {own}",
                "only one of them can be used",
                "Rename or remove the other one, or put both together.",
            )
        splits[split] = own
    return splits


class PassedOver:
    """Counts the files or rows of one split that were passed over, by reason, with examples of each."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._examples: dict[str, list[str]] = {}

    def add(self, reason: str, example: str, count: int = 1) -> None:
        """Count something that was passed over.

        Args:
            reason: words that follow its number, such as "in sub-folders".
            example: its name, or what it has in common with others; a remark gives the first three.
            count: the number of files or rows.
        """
        if count:
            self._counts[reason] = self._counts.get(reason, 0) + count
            examples = self._examples.setdefault(reason, [])
            if example not in examples:
                examples.append(example)

    def text(self) -> str:
        """The counts in words, or "" if nothing was passed over."""
        texts = []
        for reason, count in self._counts.items():
            examples = self._examples[reason]
            more = ", ..." if len(examples) > _NAMED else ""
            texts.append(f"{count} {reason} ({', '.join(examples[:_NAMED])}{more})")
        return ", ".join(texts)


def say_counts(
    read: dict[str, int], passed_over: dict[str, PassedOver], kind: str, noun: str = "images"
) -> tuple[str, ...]:
    """Remarks: one line on the examples that were read of each split, and one for each split that left something out.

    Args:
        read: the number of images by split; a pool that has no splits has the key `all`.
        kind: what the source holds, such as "files".
        noun: what the examples are.
    """
    counts = ", ".join(f"{split} {count}" for split, count in read.items())
    missing = [split for split in ("val", "test") if split not in read and "all" not in read]
    cut = f"; {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} cut from train" if missing else ""
    split_here = f"{noun} read: {read['all']}, split here into train, val and test" if "all" in read else ""
    lines = [split_here or f"{noun} read: {counts}{cut}"]
    for split, passed in passed_over.items():
        if passed.text():
            place = "" if split == "all" else f"{split}: "
            lines.append(f"{place}{kind} passed over: {passed.text()}")
    return tuple(lines)
