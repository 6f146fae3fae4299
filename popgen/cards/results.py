"""The cards of results: a search, an adapted network, generated and ranked networks."""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Any

from popgen.cards.card import Card, Score, bullets, data_text, number, pipeline, source_names, table
from popgen.cards.licences import licence_fields, licence_text
from popgen.cards.parents import base_models, licence_counts, parent_lines
from popgen.cards.settings import settings_block
from popgen.configs.command import search_command
from popgen.configs.load import parse, read_yaml
from popgen.configs.search import SearchConfig, nested
from popgen.json_text import parse_json
from popgen.tasks import score_key

_LOAD = "The files are plain state dicts:\n\n```python\nfrom safetensors.torch import load_file\n\nstate = load_file({file!r})\n```"
_HEADS = {"keep": "kept", "remap": "remapped by class name", "refit": "refitted in closed form on training examples"}
_CLASSES = (
    "The network answers with the classes of its data set, and is worth what the numbers say on such images alone."
)


def search_card(folder: Path, name: str | None) -> Card:
    """The card of a finished search."""
    content, config = _result(folder), read_yaml(folder / "config.yaml")
    settings = parse(nested(config["search"]), SearchConfig, str(folder / "config.yaml"))
    settings = settings.model_copy(update={"data": data_text(settings.data), "data_dir": None})
    recorded, results = config["recorded"], content["results"]
    parents, data = recorded.get("parents") or {}, results[0]["data"]
    archs = [one["arch"] for one in results]
    scores = [score for one in results for score in _scores(one, one["rows"][-1], _how_found(one))]
    tables = [f"**{one['arch']}**\n\n{_rows(one['rows'])}" for one in results]
    errors = "± is the standard error of a score on that many images. The best validation score was chosen among many, so it flatters."
    versions = ", ".join(f"{key} {value}" for key, value in (recorded.get("versions") or {}).items())
    how = [
        f"popgen {recorded.get('popgen', content.get('popgen', '?'))}{f', {versions}' if versions else ''}",
        f"command: `{search_command(settings)}`",
        f"seed {settings.seed}; weights were chosen by validation images, test images were used for the table alone",
        *(f"{one['arch']}: {_tuned(one)['text']}" for one in results if _tuned(one)),
    ]
    return _card(
        folder,
        name,
        summary=f"Weights of {', '.join(archs)} for the data set {data_text(data)}, found by `popgen search`.",
        parents=parents,
        bases=(settings.generator, settings.zoo),
        data=data,
        archs=archs,
        how=bullets(how),
        numbers="\n\n".join([*tables, errors]),
        scores=scores,
        file=f"best-{archs[0]}.safetensors",
    )


def adapted_card(folder: Path, name: str | None) -> Card:
    """The card of a network that `popgen adapt` wrote."""
    content = _result(folder)
    made, row = content.get("made_with") or {}, content["rows"][-1]
    kept = "the base came back" if content["is_base"] else f"chosen: {content['chosen']}"
    gain = f"{content['gain']:+.3f} ± {content['error']:.3f} nats of mutual information over the base, on images that did not choose"
    how = [
        f"popgen {made.get('popgen', '?')}",
        f"command: `popgen adapt --arch {content['arch']} --data {data_text(content['data'])}`, seed {made.get('seed', 0)}",
        f"{content['images']:,} unlabelled images, {content['networks']:,} networks compared; {kept}",
        f"estimated gain: {gain}",
    ]
    columns = ["network", "information (nats)", "val accuracy", "test accuracy"]
    rows = [
        [one["name"], f"{one['information']:.3f}", *map(number, (one["val_accuracy"], one["test_accuracy"]))]
        for one in content["rows"]
    ]
    return _card(
        folder,
        name,
        summary=f"A {content['arch']}, fitted to images of {data_text(content['data'])} without labels by `popgen adapt`.",
        parents=content.get("made_from") or {},
        bases=((content.get("made_from") or {}).get("generator"),),
        data=content["data"],
        archs=[content["arch"]],
        how=bullets(how),
        numbers=table(columns, rows),
        scores=_scores(content, row, "adapted"),
        file="weights.safetensors",
    )


def merged_card(folder: Path, name: str | None) -> Card:
    """The card of networks that `popgen merge` wrote."""
    content = _result(folder)
    rows, unit, settings = content["rows"], content["unit"], dict(content["made_with"]["settings"])
    data, arch = list(dict.fromkeys(content["data"])), content["arch"]
    keys = [score_key(unit, split) for split in ("val", "test")]
    merged = next(row for row in rows if row["weights"] and content["best"] in (None, row["name"]))
    how = [
        f"popgen {content['made_with']['popgen']}",
        f"experts: {', '.join(content['experts'])}",
        f"base: {content['base'] or 'none'}",
        f"data sets: {', '.join(map(data_text, data)) or 'none'}",
        *([f"aligned first: {', '.join(content['aligned'])}"] if content["aligned"] else []),
        f"{merged['name']}: {merged['what']}",
    ]
    shown = [[row["name"], row["what"], *(number(row[key]) for key in keys)] for row in rows]
    scores = [
        Score(row[key], row["data"], shown_as, f"{arch}, {merged['name']}", unit)
        for row in merged["by_data"]
        for key, shown_as in zip(keys, ("validation", "test"), strict=True)
    ]
    return _card(
        folder,
        name,
        summary=f"A {arch} that `popgen merge` made of {len(content['experts'])} networks without training.",
        parents=content["made_from"],
        bases=(settings["zoo"],),
        data=data[0] if data else "",
        archs=[arch],
        how=f"{bullets(how)}\n\n{settings_block('The settings', settings)}",
        numbers=f"Means over the data sets.\n\n{table(['', 'network', f'val {unit}', f'test {unit}'], shown)}",
        scores=scores,
        file=f"merged-{merged['name']}.safetensors",
    )


def generated_card(folder: Path, name: str | None) -> Card:
    """The card of networks that `popgen generate` wrote."""
    content = _result(folder)
    networks, settings, scores, rows = content["networks"], content["settings"], [], []
    archs, data = settings["archs"], settings.get("data") or ""
    for arch in archs:
        own = [one for one in networks if one["arch"] == arch]
        known = [one["val_accuracy"] for one in own if one.get("val_accuracy") is not None]
        error = statistics.stdev(known) / math.sqrt(len(known)) if len(known) > 1 else None
        mean = statistics.fmean(known) if known else None
        rows.append([arch, str(len(own)), number(mean, error), number(max(known, default=None))])
        if mean is not None:
            scores.append(Score(mean, data, "validation", f"{arch}, mean of {len(own)} generated networks"))
    described = f"in words: {settings['describe']}" if settings.get("describe") else f"the images of {data_text(data)}"
    how = [
        f"popgen {content['popgen']}",
        f"command: `popgen generate`, {settings['n']} of each, for {described}",
        f"seed {settings['seed']}",
    ]
    kept = {key: value for key, value in settings.items() if key not in ("data_dir", "base", "address", "data")}
    says = "Mean of the networks ± standard error over them, and the best one, on validation images."
    return _card(
        folder,
        name,
        summary=f"Networks of {', '.join(archs)} for {described}, made by `popgen generate` without a search.",
        parents=content.get("made_from") or {},
        bases=((content.get("made_from") or {}).get("generator"),),
        data=data,
        archs=archs,
        how=f"{bullets(how)}\n\n{settings_block('The settings', kept)}",
        numbers=f"{says}\n\n{table(['architecture', 'networks', 'val accuracy', 'best'], rows)}",
        scores=scores,
        file=f"{archs[0]}/00.safetensors",
    )


def ranked_card(folder: Path, name: str | None) -> Card:
    """The card of the best checkpoints of a zoo that `popgen rank` wrote."""
    content = _result(folder)
    made, parents, written = content["made_with"], content["made_from"], content["written"]
    of_id = {row["id"]: row for row in content["rows"]}
    data, archs = content["data"], list(dict.fromkeys(one["arch"] for one in written))
    how = [
        f"popgen {made['popgen']}",
        f"command: `popgen rank --data {data_text(data)}`, seed {made['seed']}",
        f"{len(of_id):,} checkpoints of the zoo {content['zoo']} compared by {content['method']} ({content['what']}): {content['why']}",
        f"{content['images']:,} image passes of {content['exhaustive']:,} for an exhaustive evaluation; nothing was trained",
        *(f"{one['id']}: the head was {_HEADS.get(one['head'], one['head'])}" for one in written),
    ]
    rows = [
        [one["id"], number(of_id[one["id"]]["score"], of_id[one["id"]]["error"]), number(one["val_score"])]
        for one in written
    ]
    shown = table(["checkpoint", content["what"], f"val {written[0]['unit']}"], rows)
    return _card(
        folder,
        name,
        summary=f"The best of {len(of_id):,} checkpoints of the zoo {content['zoo']} for {data_text(data)}, by `popgen rank`.",
        parents=parents,
        bases=(),
        data=data,
        archs=archs,
        how=bullets(how),
        numbers=f"{shown}\n\nThe best was chosen on these images among many, so its validation score flatters.",
        scores=[Score(one["val_score"], data, "validation", one["id"], one["unit"]) for one in written],
        file=Path(written[0]["weights"]).name,
    )


def _card(
    folder: Path,
    name: str | None,
    **facts: Any,
) -> Card:
    """A card of results; `facts` are the parts that differ between the kinds."""
    parents, data, archs = facts["parents"], facts["data"], facts["archs"]
    counts = licence_counts(parents)
    units = {score.unit for score in facts["scores"]}
    header = {
        **licence_fields(counts),
        "tags": ["popgen", "weight-generation", *archs],
        **pipeline(units),
        **source_names([data]),
        **base_models(*facts["bases"], *parents.get("bases", {})),
    }
    use = f"To use the networks as they are, to fine-tune them, or as starts of another search. {_LOAD.format(file=facts['file'])}"
    sections = [
        ("How it was made", facts["how"]),
        (
            "From what",
            bullets([*parent_lines(parents), f"architectures: {', '.join(archs)}", f"data set: {data_text(data)}"]),
        ),
        ("Licences", licence_text(counts)),
        ("Numbers", facts["numbers"]),
        ("Intended use", use),
        (
            "Limits",
            bullets(
                [_CLASSES, "Whether it is new, or a copy of a parent, is what `popgen audit` says of its generator."]
            ),
        ),
    ]
    title = (name or folder.resolve().name).rpartition("/")[2]
    return Card(title, facts["summary"], header, sections, facts["scores"])


def _tuned(one: dict[str, Any]) -> dict[str, Any]:
    """What training after the search gained; {} where there was none."""
    return dict((one.get("details") or {}).get("tuned") or {})


def _how_found(one: dict[str, Any]) -> str:
    return "found by search" if one["rows"][-1]["name"] == "search" else "found by search and fine-tuned"


def _result(folder: Path) -> dict[str, Any]:
    return dict(parse_json((folder / "result.json").read_text(encoding="utf-8")))


def _scores(one: dict[str, Any], row: dict[str, Any], how: str) -> list[Score]:
    found = []
    for split, shown in (("val", "validation"), ("test", "test")):
        value = row.get(f"{split}_accuracy", row.get(f"{split}_score"))
        if value is not None:
            found.append(Score(value, one["data"], shown, f"{one['arch']}, {how}", row.get("unit", "accuracy")))
    return found


def _rows(rows: list[dict[str, Any]]) -> str:
    shown = []
    for row in rows:
        scores = [
            number(row.get(f"{split}_accuracy", row.get(f"{split}_score")), row.get(f"{split}_standard_error"))
            for split in ("val", "test")
        ]
        shown.append([row["name"].replace("_", " "), f"{row['evaluations']:,}", *scores])
    return table(["network", "evaluations", "val", "test"], shown)
