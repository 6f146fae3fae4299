"""Matches the classes of two data sets by name: `car` of STL-10 is `automobile` of CIFAR-10.

Two names match if they are equal, or if they are equal once case, underscores, hyphens and punctuation are ignored and
known synonyms are replaced. Signs such as + and < are no punctuation, so that C+ is neither C nor C-; a hyphen is a sign
unless it stands between two words. A name that several classes have is not matched. The table of synonyms is short on purpose. It holds only words for the same thing, never
for related kinds: `monkey` is not `chimpanzee`. The digits are in it because torchvision's MNIST names its classes
`0 - zero`, `1 - one` and so on.
"""

from __future__ import annotations

import re
from collections import Counter
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

_SIGNS = r"+\-<>=≤≥≠±~^*%#!"
_DASHES = str.maketrans(dict.fromkeys("‐‑‒–—−", "-"))  # noqa: RUF001  # Unicode has several dashes and a minus.


def canonical(name: str) -> str:
    """The canonical form of a class name: lower case, with signs but without punctuation, the first of its synonyms.

    A name of punctuation only is returned as it is.

    >>> canonical("Aeroplane"), canonical("motor_bike"), canonical("0 - zero"), canonical("German_Shepherd")
    ('airplane', 'motor bike', '0', 'german shepherd')
    >>> canonical("C +"), canonical("C-"), canonical("< 5 mm"), canonical(">5 mm")
    ('c+', 'c-', '<5 mm', '>5 mm')
    """
    text = name.casefold().translate(_DASHES).replace("_", " ").strip()
    text = re.sub(r"(?<=\w)-(?=\w)|(?<=\w)\s+-\s+(?=\w)", " ", text)  # Hyphens between two words are no signs.
    text = re.sub(rf"[^\w{_SIGNS}]+", " ", text)
    plain = " ".join(re.sub(rf"\s*([{_SIGNS}])\s*", r"\1", text).split()) or name
    return _CANONICAL.get(plain, plain)


def match_classes(wanted: Sequence[str], known: Sequence[str]) -> list[int | None]:
    """Index in `known` of each wanted class, or None if no index or more than one is possible.

    An equal name goes before a synonym. A wanted class gets None, too, if an equal name has already claimed its match,
    or if another wanted class has the same canonical name.

    >>> match_classes(["bird", "Car", "monkey"], ["automobile", "bird"])
    [1, 0, None]
    >>> match_classes(["crane", "hen"], ["crane", "crane", "hen"])
    [None, 2]
    """
    by_name, by_canonical = _indices(known), _indices([canonical(name) for name in known])
    claimed = {index for name in wanted for index in by_name.get(name, [])}
    forms = [canonical(name) for name in wanted]
    names_count, forms_count = Counter(wanted), Counter(forms)
    found: list[int | None] = []
    for name, form in zip(wanted, forms, strict=True):
        if name in by_name:
            candidates, is_unique = by_name[name], names_count[name] == 1
        else:
            candidates = by_canonical.get(form, [])
            is_unique = forms_count[form] == 1 and not claimed.intersection(candidates)
        found.append(candidates[0] if is_unique and len(candidates) == 1 else None)
    return found


def _indices(names: Sequence[str]) -> dict[str, list[int]]:
    """The indices at which each name stands."""
    found: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        found.setdefault(name, []).append(index)
    return found


def renamed_classes(wanted: Sequence[str], known: Sequence[str]) -> dict[str, str]:
    """The known name of each wanted class that was matched under a different name.

    >>> renamed_classes(["bird", "car"], ["automobile", "bird"])
    {'car': 'automobile'}
    """
    pairs = zip(wanted, match_classes(wanted, known), strict=True)
    return {name: known[index] for name, index in pairs if index is not None and known[index] != name}
