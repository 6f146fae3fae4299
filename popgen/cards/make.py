"""Makes the card of a folder, and writes it where no other stands."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from popgen.cards.audits import check_audit, read_audit
from popgen.cards.card import Card, write_card
from popgen.cards.generator import generator_card
from popgen.cards.results import adapted_card, generated_card, merged_card, ranked_card, search_card
from popgen.cards.zoo import zoo_card
from popgen.errors import BadInput, BrokenFile, PopgenError, brief
from popgen.hub.kinds import ADAPTED, AUDIT, GENERATED, GENERATOR, MERGED, RANKED, SEARCH, ZOO, Kind
from popgen.json_text import parse_json

_OTHERS: dict[str, Callable[[Path, str | None], Card]] = {
    ZOO.name: zoo_card,
    SEARCH.name: search_card,
    ADAPTED.name: adapted_card,
    MERGED.name: merged_card,
    GENERATED.name: generated_card,
    RANKED.name: ranked_card,
}


def make_card(folder: Path, kind: Kind, name: str | None = None, audit: Path | None = None) -> Card:
    """Return the card of a folder.

    Args:
        name: the repository OWNER/NAME that it is for; None: none yet.
        audit: what `popgen audit` of the generator wrote; None: `audit/` in the folder, where it is there.

    Raises:
        NotFound, BadInput: there is no such audit, it is of another generator, or the folder is no generator's.
        BrokenFile: a file is not what popgen wrote.
    """
    if audit is not None and kind is not GENERATOR:
        raise BadInput(f"an audit is given for a {kind.name}", "an audit is of a generator", "Leave --audit out.")
    try:
        if kind is GENERATOR:
            return generator_card(folder, name, _audit_of(folder, audit))
        return _OTHERS[kind.name](folder, name)
    except PopgenError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise BrokenFile(
            f"the {kind.name} in {folder} cannot be read", brief(error), "Make or copy it again."
        ) from error


def keep_card(folder: Path, kind: Kind) -> None:
    """Write the card of a folder that was just written, unless somebody wrote or edited the one that is there.

    A card is an addition: what it cannot be made of is no reason to fail for the work that is done.
    """
    try:
        write_card(folder, make_card(folder, kind))
    except PopgenError:
        return


def _audit_of(folder: Path, given: Path | None) -> dict[str, Any] | None:
    place = given if given is not None else folder / AUDIT
    if given is None and not place.is_file():
        return None
    found = read_audit(place)
    zoo = parse_json((folder / "config.json").read_text(encoding="utf-8"))["provenance"]["zoo_sha256"]
    weights = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    check_audit(found, zoo, weights)
    return found
