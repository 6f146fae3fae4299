"""What a card says of the networks that something was made from: their zoo, number, lineages, sources and licences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from popgen.cards.card import some


def parent_lines(parents: Mapping[str, Any]) -> list[str]:
    """Sentences about the parents, as `popgen.zoo.parents.parents_of` describes them."""
    lines = []
    if parents.get("generator"):
        lines.append(f"generator: `{parents['generator']}`, SHA-256 {str(parents.get('generator_sha256', ''))[:16]}...")
    if parents.get("zoo"):
        lines.append(f"zoo: {parents['zoo']}, SHA-256 {str(parents.get('zoo_sha256', ''))[:16]}...")
    if parents.get("checkpoints"):
        lines.append(f"{parents['checkpoints']:,} checkpoints of {parents['lineages']:,} lineages")
    bases = parents.get("bases") or {}
    lines += [f"they go back to {_base(name)}, licence {licence}" for name, licence in sorted(bases.items())]
    sources = parents.get("sources") or {}
    if sources:
        ordered = sorted(sources, key=lambda name: -sources[name])
        lines.append(f"sources: {some([f'{name} ({sources[name]:,})' for name in ordered], 6)}")
    return lines


def licence_counts(parents: Mapping[str, Any]) -> dict[str, int]:
    """How many parents have each licence, the networks that they go back to among them."""
    counts = dict(parents.get("licences") or {})
    for licence in (parents.get("bases") or {}).values():
        counts[licence] = counts.get(licence, 0) + 1
    return counts


def base_models(*names: str | None) -> dict[str, list[str]]:
    """The header's field for repositories of the hub that something was made from.

    >>> base_models("hub:ann/digits@0a1b", "digits", None)
    {'base_model': ['ann/digits']}
    """
    found = [
        name.removeprefix("hub:").partition("@")[0].partition("#")[0]
        for name in names
        if name and name.startswith("hub:")
    ]
    return {"base_model": list(dict.fromkeys(found))} if found else {}


def _base(reference: str) -> str:
    """The reference ZOO#ID with the zoo's name in place of its path."""
    zoo, mark, name = reference.partition("#")
    return reference if zoo.startswith("hub:") else f"{zoo.rstrip('/').rsplit('/', 1)[-1]}{mark}{name}"
