"""The licences of the networks that something was made from, and what its card can honestly say about its own."""

from __future__ import annotations

from collections.abc import Mapping

from popgen.cards.card import bullets

UNKNOWN = "unknown"
# Identifiers of the hub, https://huggingface.co/docs/hub/repositories-licenses; others are `other` with a name.
_OF_HUB = frozenset(
    [
        "apache-2.0",
        "mit",
        "openrail",
        "afl-3.0",
        "artistic-2.0",
        "bsl-1.0",
        "bsd",
        "bsd-2-clause",
        "bsd-3-clause",
        "bsd-3-clause-clear",
        "cc",
        "cc0-1.0",
        "cc-by-2.0",
        "cc-by-2.5",
        "cc-by-3.0",
        "cc-by-4.0",
        "cc-by-sa-3.0",
        "cc-by-sa-4.0",
        "cc-by-nc-2.0",
        "cc-by-nc-3.0",
        "cc-by-nc-4.0",
        "cc-by-nd-4.0",
        "cc-by-nc-nd-3.0",
        "cc-by-nc-nd-4.0",
        "cc-by-nc-sa-2.0",
        "cc-by-nc-sa-3.0",
        "cc-by-nc-sa-4.0",
        "ecl-2.0",
        "epl-1.0",
        "epl-2.0",
        "eupl-1.1",
        "eupl-1.2",
        "agpl-3.0",
        "gpl",
        "gpl-2.0",
        "gpl-3.0",
        "lgpl",
        "lgpl-2.1",
        "lgpl-3.0",
        "isc",
        "mpl-2.0",
        "ms-pl",
        "ncsa",
        "odbl",
        "osl-3.0",
        "postgresql",
        "ofl-1.1",
        "pddl",
        "unlicense",
        "wtfpl",
        "zlib",
    ]
)


def licence_fields(counts: Mapping[str, int]) -> dict[str, str]:
    """The header's fields: the licence that all parents share, or `other` with the names of all.

    Args:
        counts: how many parents have each licence.

    >>> licence_fields({"BSD-3-Clause": 3})
    {'license': 'bsd-3-clause'}
    >>> licence_fields({"MIT": 3, "unknown": 1})
    {'license': 'other', 'license_name': 'mixed: MIT, unknown'}
    """
    names = sorted(counts)
    if not names or names == [UNKNOWN]:
        return {"license": UNKNOWN}
    if len(names) > 1:
        return {"license": "other", "license_name": f"mixed: {', '.join(names)}"}
    known = names[0].lower() in _OF_HUB
    return {"license": names[0].lower()} if known else {"license": "other", "license_name": names[0]}


def licence_text(counts: Mapping[str, int], parents: str = "checkpoints") -> str:
    """Each licence with its count, and what follows from them.

    Args:
        parents: what has the licences, in the plural.
    """
    if not counts:
        return "The licences of the networks that this was made from are not recorded. Ask whoever made it before you use it."
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    lines = bullets(
        f"{name}: {count:,} {parents if count > 1 else parents.removesuffix('s')}" for name, count in ordered
    )
    if UNKNOWN in counts:
        says = f"The licence of {counts[UNKNOWN]:,} is not known: nobody has said that their weights may be used or passed on."
    elif len(counts) > 1:
        says = "What is made from all of them has to keep to every one of these licences, and so to the strictest."
    else:
        says = "What is made from them is under the same licence, as far as weights have one."
    return f"{lines}\n\n{says}"
