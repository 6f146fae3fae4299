"""Writes an archive: a zoo in a new folder whose checkpoints are coded. The zoo that it is made of is only read.

While it is being written, the folder has the file archiving.jsonl with the scores so far and no zoo.json, so that nothing takes it for a zoo;
the same command then goes on with these scores. zoo.json is written last.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from popgen.cards.make import keep_card
from popgen.errors import BadInput, BrokenFile
from popgen.files import check_empty, write_text
from popgen.hub.kinds import ZOO
from popgen.json_text import json_text
from popgen.networks.threads import for_networks, threads
from popgen.zoo.archive.bases import Bases, base_options, needed_bases
from popgen.zoo.archive.budget import Form, choose_forms
from popgen.zoo.archive.choose import Choice, Plan, forms, loss_of, smallest_plan, with_codes
from popgen.zoo.archive.codecs.layout import Layout
from popgen.zoo.archive.codecs.table import CODECS, LOSSLESS
from popgen.zoo.archive.coded import CodedNetwork, overhead, write_coded
from popgen.zoo.archive.generated import FOLDER, Codes
from popgen.zoo.archive.rows import rows_of
from popgen.zoo.archive.scores import Scores
from popgen.zoo.columns import write_columns
from popgen.zoo.index import write_index
from popgen.zoo.info import ARCHIVE_FORMAT
from popgen.zoo.record import Checkpoint, records_sha256, weights_sha256
from popgen.zoo.shards import shard_name
from popgen.zoo.store import Zoo
from popgen.zoo.verify import find_damaged

_UNFINISHED = "archiving.jsonl"
_TYPICAL, _SAMPLE = "int5", 24  # the codec and the number of checkpoints by which bases are compared under a total
Show = Callable[[str, int, int], None]  # what is being done, how much of it is done, of how much


@dataclass(frozen=True)
class Limit:
    """What an archive may lose: nothing, so many points for each checkpoint, or as little as a total of bytes allows."""

    max_loss: float | None = None
    max_bytes: int | None = None

    @property
    def is_lossless(self) -> bool:
        """Whether every checkpoint comes back bit by bit."""
        return self.max_loss is None and self.max_bytes is None

    @property
    def text(self) -> str:
        """The limit in words."""
        if self.max_bytes is not None:
            return f"at most {self.max_bytes:,} bytes of weights"
        return "lossless" if self.max_loss is None else f"at most {self.max_loss:g} points lost by any checkpoint"


@dataclass(frozen=True)
class Archived:
    """An archive that was written, and what it costs. Points are hundredths of accuracy on validation images, or percent of a perplexity."""

    folder: str
    networks: int
    limit: str
    zoo_bytes: int  # weights as float32, shared starts and bases included
    archive_bytes: int  # coded shards, bases included, and the generator if there is one
    mean_loss: float
    worst_loss: float
    codecs: dict[str, int]  # number of checkpoints in each form, such as `int4 of start`
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """The keys of --json; they are stable."""
        return {**vars(self), "smaller": self.zoo_bytes / self.archive_bytes}


def archive_zoo(
    zoo: Zoo,
    out: Path,
    limit: Limit,
    *,
    codes: Codes | None = None,
    images: int | None = None,
    data_dir: str | None = None,
    show: Show = lambda *_: None,
) -> Archived:
    """Write a zoo's archive to a new folder, or go on where an earlier call with the same folder was interrupted.

    Args:
        codes: a generator whose codes are one more form; needs a limit of points.
        images: validation images at most on which a network is scored.
        show: is called with the progress.

    Raises:
        NotFound: a data set of the zoo does not exist.
        BadInput: the folder is not empty or lies in the zoo, the zoo is empty or has lost something already, the bytes do not suffice.
        BrokenFile: the zoo is damaged.
    """
    began = time.monotonic()
    _check(zoo, out, limit)
    scores = None
    if not limit.is_lossless:
        scores = Scores(zoo, images, data_dir, out / _UNFINISHED)
        scores.check_data(zoo.data)
    else:
        write_text(out / _UNFINISHED, "")
    try:
        with threads(for_networks(max(zoo.spec(arch).size for arch in zoo.archs))):
            choose = _budget_plans if limit.max_bytes else _smallest_plans
            plans = choose(zoo, scores, limit, show)
            if codes is not None and scores is not None and limit.max_loss is not None:
                plans = _with_codes(zoo, out, plans, codes, scores, limit.max_loss)
    finally:
        if scores is not None:
            scores.write()
    stored = [record for arch, plan in plans.items() for record in _write_shard(zoo, out, arch, plan)]
    _write_texts(zoo, out, sorted(stored, key=lambda r: r.id), limit, images)
    _verify(zoo, out, limit)
    return _report(zoo, out, plans, limit, time.monotonic() - began)


def _check(zoo: Zoo, out: Path, limit: Limit) -> None:
    """Refuse what cannot be archived, and remove what an interrupted call left, but for its scores."""
    if not zoo.records:
        raise BadInput(f"the zoo {zoo.folder} has no checkpoints", "there is nothing to archive", "Name another zoo.")
    if not limit.is_lossless and _is_lossy(zoo):
        raise BadInput(
            f"{zoo.folder} is an archive that has lost something already",
            "its losses would add up unseen",
            "Archive the zoo that it was made of, or use --lossless.",
        )
    if out.resolve().is_relative_to(zoo.folder.resolve()):
        raise BadInput(f"{out} lies in the zoo {zoo.folder}", "the zoo is not changed", "Choose another --out.")
    if (out / _UNFINISHED).exists() and not (out / "zoo.json").exists():
        for left in ("shards", FOLDER):
            shutil.rmtree(out / left, ignore_errors=True)
    else:
        check_empty(out, "an archive")


def _smallest_plans(zoo: Zoo, scores: Scores | None, limit: Limit, show: Show) -> dict[str, Plan]:
    return {
        arch: smallest_plan(zoo, zoo.select(arch=arch), scores, limit.max_loss, partial(show, arch))
        for arch in zoo.archs
    }


def _with_codes(
    zoo: Zoo, out: Path, plans: dict[str, Plan], codes: Codes, scores: Scores, max_loss: float
) -> dict[str, Plan]:
    """The plans with codes of the generator, which is written into the archive, if that is smaller with it."""
    found = dict(plans)
    for arch, plan in plans.items():
        codec = codes.codec(arch, zoo.select(arch=arch)[0].fingerprint)
        if codec is not None:
            found[arch] = with_codes(zoo, zoo.select(arch=arch), plan, codec, scores, max_loss)
    spared = sum(plan.bytes - found[arch].bytes for arch, plan in plans.items())
    if spared and codes.save(out / FOLDER) < spared:
        return found
    shutil.rmtree(out / FOLDER, ignore_errors=True)
    return plans


def _budget_plans(zoo: Zoo, scores: Scores | None, limit: Limit, show: Show) -> dict[str, Plan]:
    """The plans with the least loss under a total of bytes."""
    assert scores is not None and limit.max_bytes is not None
    bases, found, left = {}, [], limit.max_bytes
    for arch in zoo.archs:
        records, layout = zoo.select(arch=arch), Layout.of(zoo.spec(arch))
        bases[arch] = _smallest_bases(zoo, records, layout)
        left -= bases[arch].bytes + overhead(layout, bases[arch].coded, len(records))
        for done, (record, flat) in enumerate(rows_of(zoo, records), start=1):
            tried = forms(layout, flat, bases[arch])
            found.append(
                [
                    Form(len(n.packed), loss_of(layout, record, flat, n, bases[arch], scores), (n.codec, n.base))
                    for n in tried
                ]
            )
            show(arch, done, len(records))
    chosen = iter(choose_forms(found, left))
    plans = {}
    for arch in zoo.archs:
        layout, decoded = Layout.of(zoo.spec(arch)), bases[arch].decoded
        plans[arch] = Plan(bases[arch])
        for _, flat in rows_of(zoo, zoo.select(arch=arch)):
            form = next(chosen)
            codec, base = form.key
            packed = CODECS[codec].encode(layout, flat, None if base < 0 else decoded[base])
            plans[arch].choices.append(Choice(CodedNetwork(codec, base, packed), form.loss))
    return plans


def _smallest_bases(zoo: Zoo, records: Sequence[Checkpoint], layout: Layout) -> Bases:
    """The set of bases with the smallest total if a sample of the checkpoints is written in the codec `_TYPICAL`."""
    sample = [flat for _, flat in rows_of(zoo, records[:: max(1, len(records) // _SAMPLE)])]

    def total(bases: Bases) -> float:
        sizes = [
            min(len(one.packed) for one in forms(layout, flat, bases, {_TYPICAL: CODECS[_TYPICAL]})) for flat in sample
        ]
        return bases.bytes + len(records) * sum(sizes) / len(sizes)

    return min(base_options(zoo, records, layout, lossless=False), key=total)


def _write_shard(zoo: Zoo, out: Path, arch: str, plan: Plan) -> list[Checkpoint]:
    """Write the coded shard of an architecture and return the records of its checkpoints."""
    records, layout, names = zoo.select(arch=arch), Layout.of(zoo.spec(arch)), [*plan.bases.coded]
    stored = []
    for record, choice in zip(records, plan.choices, strict=True):
        network = choice.network
        if network.codec != LOSSLESS:
            decoded = weights_sha256(torch.from_numpy(network.decode(layout, plan.bases.decoded, plan.codecs)))
            says = f"archived as {_form(network, names)}: {choice.loss:.2f} points lost on validation images"
            note = "; ".join(filter(None, [record.note, f"{says}, sha256 before {record.sha256[:16]}"]))
            record = record.model_copy(update={"sha256": decoded, "note": note})
        stored.append(record)
    shard = shard_name(records[0].fingerprint, [record.sha256 for record in stored])
    write_coded(out / shard, layout, plan.bases.coded, [choice.network for choice in plan.choices], arch)
    return [r.model_copy(update={"shard": shard, "row": len(names) + i}) for i, r in enumerate(stored)]


def _write_texts(zoo: Zoo, out: Path, records: list[Checkpoint], limit: Limit, images: int | None) -> None:
    """Write the index, the card, and at last zoo.json."""
    has = {"start": zoo.start, "base": zoo.base}
    references = {arch: [kind for kind, get in has.items() if get(arch) is not None] for arch in zoo.archs}
    facts = {
        "limit": limit.text,
        "lossless": limit.is_lossless and not _is_lossy(zoo),
        "images": images,
        "zoo_sha256": zoo.sha256,
        "sha256": records_sha256(records),
        "references": references,
    }
    write_index(out / "index.jsonl", records)
    write_columns(out, records)
    info = {**zoo.info, "format": ARCHIVE_FORMAT, "archive": facts}
    write_text(out / "zoo.json", json_text(info, indent=1) + "\n")
    keep_card(out, ZOO)
    (out / _UNFINISHED).unlink()


def _verify(zoo: Zoo, out: Path, limit: Limit) -> None:
    """Decode every checkpoint of the archive and compare its hash; that of a lossless archive is the zoo's."""
    made = Zoo.open(out)
    problems = [f"{checkpoint_id}: {why}" for checkpoint_id, why in find_damaged(made).items()]
    if limit.is_lossless and made.sha256 != zoo.sha256:
        problems.append("its checkpoints are not those of the zoo")
    if problems:
        raise BrokenFile(f"the archive {out} is damaged", problems[0], "Remove it and make it again; the zoo is whole.")


def _report(zoo: Zoo, out: Path, plans: dict[str, Plan], limit: Limit, seconds: float) -> Archived:
    losses = [choice.loss for plan in plans.values() for choice in plan.choices]
    codecs = Counter(_form(choice.network, [*plan.bases.coded]) for plan in plans.values() for choice in plan.choices)
    return Archived(
        folder=str(out),
        networks=len(zoo),
        limit=limit.text,
        zoo_bytes=float32_bytes(zoo),
        archive_bytes=sum(file.stat().st_size for at in ("shards", FOLDER) for file in (out / at).glob("*")),
        mean_loss=sum(losses) / len(losses),
        worst_loss=max(losses),
        codecs=dict(codecs.most_common()),
        seconds=round(seconds, 1),
    )


def float32_bytes(zoo: Zoo) -> int:
    """Bytes of a zoo's checkpoints, and of the starts and bases that they share, as float32."""
    shared = [needed_bases(zoo, arch) for arch in zoo.archs]
    return 4 * (
        sum(zoo.spec(record.arch).size for record in zoo.records)
        + sum(flat.size for one in shared for flat in one.values())
    )


def _is_lossy(zoo: Zoo) -> bool:
    """Whether it is an archive whose checkpoints are not those of the zoo that it was made of, bit by bit."""
    return zoo.is_archive and not zoo.info["archive"].get("lossless")


def _form(network: CodedNetwork, names: Sequence[str]) -> str:
    """The form of a network in words."""
    return network.codec if network.base < 0 else f"{network.codec} of {names[network.base].partition(' ')[0]}"
