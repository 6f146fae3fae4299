"""Matches classes of one data set with those of another by name: `car` of STL-10 is `automobile` of CIFAR-10.

Two names are the same when they are equal, or equal after case, underscores, hyphens and punctuation are put aside and known
synonyms replaced. The table of synonyms is short on purpose: only words for the same things, never a kind and its kin (`monkey`
is not `chimpanzee`). torchvision's MNIST calls the digits `0 - zero` and so on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_SYNONYMS = (
    ("airplane", "aeroplane", "plane"),
    ("automobile", "car", "motorcar", "auto"),
    ("truck", "lorry"),
    ("motorcycle", "motorbike"),
    ("bicycle", "bike"),
    ("sofa", "couch"),
    ("television", "tv"),
    ("mobile phone", "cell phone", "cellphone"),
    *(
        (f"{i}", f"{i} {word}")
        for i, word in enumerate(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
    ),
)
_FIRST = {word: words[0] for words in _SYNONYMS for word in words}


def canonical(name: str) -> str:
    """The name that all names of the same class share.

    >>> canonical("Aeroplane"), canonical("motor_bike"), canonical("0 - zero"), canonical("German_Shepherd")
    ('airplane', 'motor bike', '0', 'german shepherd')
    """
    plain = " ".join(re.sub(r"[\W_]+", " ", name.casefold()).split()) or name
    return _FIRST.get(plain, plain)


def match_classes(wanted: Sequence[str], known: Sequence[str]) -> list[int | None]:
    """For each wanted class its index in `known`; None where there is none, several, or another wanted class has it.

    >>> match_classes(["bird", "Car", "monkey"], ["automobile", "bird"])
    [1, 0, None]
    """
    same: dict[str, list[int]] = {}
    for index, name in enumerate(known):
        same.setdefault(canonical(name), []).append(index)
    exact = {name: index for index, name in enumerate(known)}
    taken = [exact[name] for name in wanted if name in exact]
    shared = [canonical(name) for name in wanted]
    found: list[int | None] = []
    for name, common in zip(wanted, shared, strict=True):
        others = same.get(common, [])
        free = len(others) == 1 and others[0] not in taken and shared.count(common) == 1
        found.append(exact[name] if name in exact else others[0] if free else None)
    return found


def renamed_classes(wanted: Sequence[str], known: Sequence[str]) -> dict[str, str]:
    """The classes that were matched under another name.

    >>> renamed_classes(["bird", "car"], ["automobile", "bird"])
    {'car': 'automobile'}
    """
    pairs = zip(wanted, match_classes(wanted, known), strict=True)
    return {name: known[row] for name, row in pairs if row is not None and known[row] != name}
