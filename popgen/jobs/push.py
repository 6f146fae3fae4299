"""`popgen push`: sends a generator, a zoo or results to the Hugging Face hub, with a card."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from popgen.cards.card import may_replace
from popgen.cards.make import make_card
from popgen.errors import BrokenFile
from popgen.hub.kinds import AUDIT, CARD, GENERATOR, ZOO, Kind, kind_of
from popgen.hub.names import HubName
from popgen.hub.upload import Upload, audit_upload, card_upload, collect, send
from popgen.jobs.names import check_push_names


@dataclass(frozen=True)
class Pushed:
    """What was sent, or with `--dry-run` would be."""

    name: str
    kind: str
    files: dict[str, int]  # sizes in bytes by path
    left_out: list[str]  # files of the folder that do not belong to its kind, and stay
    card: str  # `written` by popgen, or `kept` as somebody wrote it
    commit: str | None = None  # None with --dry-run
    url: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The keys of --json; they are stable."""
        return {**vars(self), "bytes": sum(self.files.values())}


def push(
    name: str,
    folder: str,
    *,
    private: bool = False,
    revision: str | None = None,
    message: str | None = None,
    audit: str | None = None,
    dry_run: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Pushed:
    """Send a folder to the hub as the repository `name` (OWNER/NAME), which is made where it is missing.

    A card that somebody wrote or edited is sent as it is; otherwise popgen writes one, with what the folder holds. Paths of
    this machine are replaced in records of runs. Weights are checked first: nothing damaged is sent.

    Args:
        private: make the repository private.
        revision: the branch; None: main.
        message: of the commit.
        audit: the file or folder that `popgen audit` of this generator wrote; None: `audit/` in the folder.
        dry_run: check everything, and ask nothing of the hub.
        say: called with a line for every decision that a user should know of.

    Raises:
        BadInput: a name, a secret or path in a text, an audit of another generator; no token, no right, no room on the hub.
        NotFound: popgen did not write the folder.
        BrokenFile: a file of it is damaged.
        Offline: the hub does not answer.
    """
    check_push_names(name, folder, revision)
    place = Path(folder)
    kind = kind_of(place)
    uploads, left_out = collect(place, kind)
    _check_weights(place, kind)
    card = make_card(place, kind, name, None if audit is None else Path(audit)).text()
    is_own = may_replace(place / CARD)
    if not is_own:
        say(f"{CARD} was written or edited by hand and is sent as it is")
        card = (place / CARD).read_text(encoding="utf-8")
    if audit is not None:
        uploads = [*(one for one in uploads if one.path != AUDIT), audit_upload(Path(audit))]
    uploads = [card_upload(card, place, kind), *uploads]
    if left_out:
        say(
            f"not sent, because no {kind.name} has them: {', '.join(left_out[:8])}{', ...' if len(left_out) > 8 else ''}"
        )
    sizes = {one.path: one.size for one in uploads}
    pushed = Pushed(name, kind.name, sizes, left_out, "written" if is_own else "kept")
    return pushed if dry_run else _sent(pushed, HubName(name, revision), kind, uploads, message, private)


def _sent(
    pushed: Pushed, name: HubName, kind: Kind, uploads: list[Upload], message: str | None, private: bool
) -> Pushed:
    commit, url = send(name, kind, uploads, message or f"popgen push of a {kind.name}", private)
    return Pushed(**{**vars(pushed), "commit": commit, "url": url})


def _check_weights(folder: Path, kind: Kind) -> None:
    """Refuse a generator or zoo that could not be loaded from the hub.

    Raises:
        BrokenFile: a file is damaged, or does not fit the others.
    """
    if kind is GENERATOR:
        from popgen.generator import Generator  # noqa: PLC0415 - torch, after everything that needs none

        Generator.from_pretrained(folder)
    if kind is ZOO:
        from popgen.zoo import Zoo  # noqa: PLC0415 - as above

        problems = Zoo.open(folder).verify()
        if problems:
            what = f"the zoo {folder} has {len(problems)} problem{'s' if len(problems) > 1 else ''}"
            raise BrokenFile(
                what, problems[0], "`popgen zoo verify` lists them; restore those files, or build it again."
            )
