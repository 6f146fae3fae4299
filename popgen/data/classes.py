"""Matches the classes of two data sets by name: `car` of STL-10 is `automobile` of CIFAR-10.

Two names match if they are equal, or if they are equal once case, underscores, hyphens and punctuation are ignored and
known synonyms are replaced. The table of synonyms is short on purpose. It holds only words for the same thing, never
for related kinds: `monkey` is not `chimpanzee`. The digits are in it because torchvision's MNIST names its classes
`0 - zero`, `1 - one` and so on.
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
_CANONICAL = {word: synonyms[0] for synonyms in _SYNONYMS for word in synonyms}


def canonical(name: str) -> str:
    """The canonical form of a class name: lower case, without punctuation, the first of its synonyms.

    A name of punctuation only is returned as it is.

    >>> canonical("Aeroplane"), canonical("motor_bike"), canonical("0 - zero"), canonical("German_Shepherd")
    ('airplane', 'motor bike', '0', 'german shepherd')
    """
    plain = " ".join(re.sub(r"[\W_]+", " ", name.casefold()).split()) or name
    return _CANONICAL.get(plain, plain)


def match_classes(wanted: Sequence[str], known: Sequence[str]) -> list[int | None]:
    """Index in `known` of each wanted class, or None if no index or more than one is possible.

    An equal name goes before a synonym. A wanted class gets None, too, if an equal name has already claimed its match,
    or if another wanted class has the same canonical name.

    >>> match_classes(["bird", "Car", "monkey"], ["automobile", "bird"])
    [1, 0, None]
    """
    by_canonical: dict[str, list[int]] = {}
    for index, name in enumerate(known):
        by_canonical.setdefault(canonical(name), []).append(index)
    exact = {name: index for index, name in enumerate(known)}
    taken = [exact[name] for name in wanted if name in exact]
    wanted_canonical = [canonical(name) for name in wanted]
    found: list[int | None] = []
    for name, form in zip(wanted, wanted_canonical, strict=True):
        candidates = by_canonical.get(form, [])
        is_unique = len(candidates) == 1 and candidates[0] not in taken and wanted_canonical.count(form) == 1
        found.append(exact[name] if name in exact else candidates[0] if is_unique else None)
    return found


def renamed_classes(wanted: Sequence[str], known: Sequence[str]) -> dict[str, str]:
    """The known name of each wanted class that was matched under a different name.

    >>> renamed_classes(["bird", "car"], ["automobile", "bird"])
    {'car': 'automobile'}
    """
    pairs = zip(wanted, match_classes(wanted, known), strict=True)
    return {name: known[index] for name, index in pairs if index is not None and known[index] != name}
