"""The card of a zoo, from its zoo.json and index.jsonl."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

from popgen.cards.card import Card, Score, bullets, data_text, number, pipeline, some, source_names, table
from popgen.cards.licences import licence_fields, licence_text
from popgen.cards.parents import base_models
from popgen.cards.settings import settings_block
from popgen.json_text import parse_json


def zoo_card(folder: Path, name: str | None) -> Card:
    """The card of the zoo in a folder.

    Args:
        name: the repository that it is for; None: the folder.
    """
    info = parse_json((folder / "zoo.json").read_text(encoding="utf-8"))
    lines = (folder / "index.jsonl").read_text(encoding="utf-8").split("\n")[:-1]  # an incomplete last line is none
    records: list[dict[str, Any]] = [parse_json(line) for line in lines]
    counts = dict(Counter(record["licence"] or "unknown" for record in records))
    archs, data = (list(dict.fromkeys(record[key] for record in records)) for key in ("arch", "data"))
    units = {_unit(record) for record in records}
    header = {
        **licence_fields(counts),
        "tags": ["popgen", "model-zoo", *sorted(archs)],
        **pipeline(units),
        **source_names(data),
        **base_models(*_bases(records)),
    }
    held_out = sum(record["held_out"] for record in records)
    lineages = len({record["lineage"] for record in records})
    summary = (
        f"A zoo of popgen: {len(records):,} checkpoints of {len(archs)} architectures on {len(data)} data "
        "sets, to train a generator of weights on, or to search around. The weights are safetensors."
    )
    named = "FOLDER" if name is None else f"hub:{name}"
    sections = [
        ("How it was made", _how(info, records)),
        (
            "From what",
            bullets(
                [
                    f"{len(records):,} checkpoints of {lineages:,} lineages, {held_out:,} of them held out from training generators",
                    f"architectures: {some(archs)}",
                    f"data sets ({len(data)}): {some([data_text(one) for one in data])}",
                    *(f"they go back to {base}" for base in _bases(records)),
                    _sources(records),
                ]
            ),
        ),
        ("Licences", licence_text(counts)),
        ("Numbers", _numbers(records, archs)),
        ("Intended use", _use(named)),
        ("Limits", _limits(records)),
    ]
    return Card(str(info["name"]), summary, header, sections, _scores(records, archs, data))


def _unit(record: dict[str, Any]) -> str:
    return "accuracy" if record["arch_config"].get("task", "classification") == "classification" else "score"


def _bases(records: list[dict[str, Any]]) -> list[str]:
    parents = {(record.get("parent") or "").removeprefix("start:") for record in records}
    return sorted(parent for parent in parents if "#" in parent)


def _how(info: dict[str, Any], records: list[dict[str, Any]]) -> str:
    spec, seeds = info.get("spec"), sorted({record["seed"] for record in records if record["seed"] is not None})
    versions = sorted({record["created_with"] for record in records if record["created_with"]})
    lines = [
        f"made with {', '.join(versions) or info.get('created_with', 'popgen')}",
        "command: " + ("`popgen zoo build SPEC.yaml`" if spec else "`popgen zoo import FILES`"),
        f"seeds: {some(list(map(str, seeds)))}" if seeds else "",
    ]
    block = settings_block("The spec", {"zoo": spec}) if spec else ""
    return f"{bullets(lines)}\n\n{block}".strip()


def _sources(records: list[dict[str, Any]]) -> str:
    found = Counter(record["source"] for record in records if record["source"])
    return f"sources: {some([f'{name} ({count:,})' for name, count in found.most_common()], 6)}" if found else ""


def _of(records: list[dict[str, Any]], arch: str, split: str) -> list[float]:
    own = [record["metrics"] for record in records if record["arch"] == arch]
    found = [metrics.get(f"{split}_accuracy", metrics.get(f"{split}_score")) for metrics in own]
    return [value for value in found if value is not None]


def _mean(values: list[float]) -> str:
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return number(statistics.fmean(values) if values else None, error)


def _numbers(records: list[dict[str, Any]], archs: list[str]) -> str:
    rows = []
    for arch in archs:
        count = sum(record["arch"] == arch for record in records)
        rows.append([arch, f"{count:,}", *(_mean(_of(records, arch, split)) for split in ("train", "val", "test"))])
    says = "Mean scores of the checkpoints as they were recorded ± standard error over checkpoints, each on its own data set."
    return f"{says}\n\n{table(['architecture', 'checkpoints', 'train', 'val', 'test'], rows)}"


def _scores(records: list[dict[str, Any]], archs: list[str], data: list[str]) -> list[Score]:
    found = []
    for arch in archs:
        values = _of(records, arch, "test")
        if values and all(_unit(record) == "accuracy" for record in records if record["arch"] == arch):
            where = data[0] if len(data) == 1 else data[0].partition("/")[0]
            found.append(Score(statistics.fmean(values), where, "test", f"{arch}, mean of {len(values):,} checkpoints"))
    return found


def _use(named: str) -> str:
    says = "To train a generator on, as experts and rivals of a search, and to study populations of networks."
    return f"{says}\n\n```sh\npopgen zoo list {named}\n```"


def _limits(records: list[dict[str, Any]]) -> str:
    foreign = sum(not record["source"].startswith("popgen zoo build ") for record in records)
    return bullets(
        [
            "The checkpoints are made to be many and alike, not to be the best of their kind.",
            f"{foreign:,} checkpoints were not trained by popgen: their scores are as stated or measured on import, and what test images "
            "they have seen is not known."
            if foreign
            else "",
        ]
    )
