"""The card of a generator, from its config.json and codes.json."""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Any

from popgen.cards.audits import audit_scores, audit_text
from popgen.cards.card import Card, Score, bullets, data_text, number, some, source_names, table
from popgen.cards.licences import licence_fields, licence_text
from popgen.cards.parents import base_models, licence_counts, parent_lines
from popgen.cards.settings import settings_block
from popgen.json_text import parse_json


def generator_card(folder: Path, name: str | None, audit: dict[str, Any] | None) -> Card:
    """The card of the generator in a folder.

    Args:
        name: the repository that it is for; None: the folder.
        audit: the content of an audit of it.
    """
    config = parse_json((folder / "config.json").read_text(encoding="utf-8"))
    codes = parse_json((folder / "codes.json").read_text(encoding="utf-8"))
    made, parents = config["provenance"], config["provenance"].get("parents") or {}
    whole = {**parents, "zoo": made["zoo"], "zoo_sha256": made["zoo_sha256"]}
    counts, retrieval = licence_counts(parents), made.get("metrics", {}).get("retrieval") or {}
    units = {code.get("unit", "accuracy") for code in codes}
    title, named = (name or made["zoo"]).rpartition("/")[2], "FOLDER" if name is None else f"hub:{name}"
    header = {
        **licence_fields(counts),
        "tags": ["popgen", "weight-generation", "model-zoo", *sorted(config["archs"])],
        **source_names(made["data"]),
        **base_models(made.get("zoo_name"), *parents.get("bases", {})),
    }
    archs, has_latents = sorted(config["archs"]), config["generator"]["vae"]["steps"] > 0
    summary = (
        f"A generator of popgen: given one of the architectures {some(archs)} and a few images of "
        "a data set, it makes weights of a network for it. It holds no images."
    )
    scores = [*audit_scores(audit), *(_scores(retrieval, made) if units <= {"accuracy"} else [])]
    sections = [
        ("How it was made", _how(config)),
        ("From what", bullets([*parent_lines(whole), f"architectures: {some(archs)}", _data(made)])),
        ("Licences", licence_text(counts)),
        ("Audit", audit_text(audit)),
        ("Numbers", _numbers(codes, retrieval)),
        ("Intended use", _use(archs[0], named, made, has_latents)),
        ("Limits", _limits(made, has_latents)),
    ]
    return Card(title, summary, header, sections, scores)


def _how(config: dict[str, Any]) -> str:
    made, settings = config["provenance"], config["generator"]
    metrics = made.get("metrics", {})
    took = f", in {metrics['seconds']:,.0f} seconds on {metrics.get('device', '?')}" if metrics.get("seconds") else ""
    lines = [
        f"popgen {made.get('popgen') or 'of an unknown version'}",
        f"command: `popgen train SPEC.yaml`{took}, seed {settings.get('seed', 0)}",
        *_cut_short(settings, metrics),
        f"encoder of images: {settings['encoders']['images']}, of texts: {settings['encoders']['text']}",
    ]
    return f"{bullets(lines)}\n\n{settings_block('The settings of the spec', {'generator': settings})}"


def _cut_short(settings: dict[str, Any], metrics: dict[str, Any]) -> list[str]:
    """A line on the stages that did fewer steps than the spec gives, because their held-out measure was flat."""
    given = {"vae": settings["vae"], "tuning": settings["tune"], "restoring": settings["restore"]}
    done = metrics.get("steps", {})
    short = [
        f"{stage} after {done[stage]:,} of {section['steps']:,} steps"
        for stage, section in given.items()
        if 0 < done.get(stage, 0) < section["steps"]
    ]
    return [f"stages cut short, because their held-out measure was flat: {', '.join(short)}"] if short else []


def _data(made: dict[str, Any]) -> str:
    names = [data_text(name) for name in made["data"]]
    return f"data sets ({len(names)}): {some(names)}"


def _numbers(codes: list[dict[str, Any]], retrieval: dict[str, Any]) -> str:
    rows = []
    for arch in sorted({code["arch"] for code in codes}):
        own = [code for code in codes if code["arch"] == arch]
        known = retrieval.get(arch, {})
        rows.append(
            [
                arch,
                str(len(own)),
                *(
                    _mean([code.get(f"{split}_accuracy", code.get(f"{split}_score")) for code in own])
                    for split in ("val", "test")
                ),
                *(number(known.get(key)) for key in ("train_decoded", "held_out_original", "held_out_decoded")),
            ]
        )
    columns = [
        "architecture",
        "checkpoints",
        "val",
        "test",
        "val, decoded",
        "val, held out",
        "val, held out and decoded",
    ]
    says = (
        "Mean scores of the stored training checkpoints ± standard error over them, on the validation and the test split of each one's "
        "data set; of the same decoded from their codes; and of checkpoints of lineages that were held out, as they are and decoded."
    )
    return f"{says}\n\n{table(columns, rows)}"


def _mean(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    return number(statistics.fmean(known), statistics.stdev(known) / math.sqrt(len(known)) if len(known) > 1 else None)


def _scores(retrieval: dict[str, Any], made: dict[str, Any]) -> list[Score]:
    found = []
    for arch, scores in sorted(retrieval.items()):
        group = "held_out" if "held_out_decoded" in scores else "train"
        if f"{group}_decoded" in scores and made["data"]:
            kind = "held-out" if group == "held_out" else "training"
            data = made["data"][0].partition("/")[0]
            found.append(Score(scores[f"{group}_decoded"], data, "validation", f"{arch}, {kind} checkpoints decoded"))
    return found


def _use(arch: str, named: str, made: dict[str, Any], has_latents: bool) -> str:
    if not has_latents:
        says = "To search for weights for images of other classes, of which few have labels, along directions from the published network."
        return f"{says}\n\n```sh\npopgen search --arch {arch} --data folder:PHOTOS --generator {named}\n```"
    data = data_text(made["data"][0]) if made["data"] else "DATA"
    command = f"popgen search --arch {arch} --data {data} --generator {named}"
    says = "To start a search for weights, or to sample networks, for images of the same classes and a kind that is near the training data."
    classes = f" The classes are {some(made['classes'])}." if made.get("classes") else ""
    return f"{says}{classes}\n\n```sh\n{command}\n```"


def _limits(made: dict[str, Any], has_latents: bool) -> str:
    if not has_latents:
        few = "With many labels training beats any search along directions; it can start from what the search found."
        head = "A head is fitted to the labels of each data set: it has none of its own."
        return bullets([head, few, *made.get("metrics", {}).get("remarks", [])])
    lines = [
        "Networks for other classes need a new head: `popgen search --head refit`.",
        "Far from the training data, generated networks can be worse than any checkpoint of the zoo; the table of `popgen search` says so.",
        "Whether what it makes is new is a question of its own, see the audit above.",
    ]
    if made.get("foreign"):
        lines.append(
            "Some training checkpoints were not trained by popgen, so what test images they have seen is not known."
        )
    return bullets([*lines, *made.get("metrics", {}).get("remarks", [])])
