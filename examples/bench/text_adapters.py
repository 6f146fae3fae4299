"""Adapters for tasks that no zoo's adapter was trained on, from 0, 16, 64 and 200 labels: the search's rows, and after training.

    python examples/bench/text_adapters.py GENERATOR ZOO TEXTS --out OUT [--tasks cr,ag_news] [--labels 0,16,64,200] [--draws 1]

TEXTS is a folder with a table NAME.jsonl.gz for each task and a tasks.json; each task's test split is cut to --test texts. Each
cell is a search with its table in OUT/TASK-LABELS-DRAW, and a cell that is there is not run again. The rows are all made by
`popgen search`; without labels, networks are scored with the head of the label phrases.
"""

from __future__ import annotations

import argparse
import gzip
import json
import shutil
import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from popgen.configs.search import SearchConfig
from popgen.data import DataSet, load_data
from popgen.generator import Generator
from popgen.generator.task_sets import TASK_KINDS, TaskKind
from popgen.jobs.search import search_in
from popgen.networks.forward import task_score
from popgen.networks.threads import threads
from popgen.zoo import Zoo

ROWS = (
    "frozen",
    "average_of_all",
    "nearest",
    "best_zoo",
    *(f"generated_{kind}" for kind in reversed(TASK_KINDS)),
    "search",
)
TRAINED = ("frozen", "average_of_all", "nearest", *(f"generated_{kind}" for kind in reversed(TASK_KINDS)), "search")
EPOCHS = {16: 20, 64: 10, 200: 5}  # Epochs of the training behind the table, by the number of labels.


def prepare(source: Path, tasks: list[str], folder: Path, most: int) -> None:
    """Copy the tables of the tasks, with test splits cut to `most` texts."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(source / "tasks.json", folder / "tasks.json")
    for task in tasks:
        kept, tested = [], 0
        for line in gzip.decompress((source / f"{task}.jsonl.gz").read_bytes()).decode().splitlines(keepends=True):
            is_test = json.loads(line)["split"] == "test"
            tested += is_test
            if not is_test or tested <= most:
                kept.append(line)
        (folder / f"{task}.jsonl").write_text("".join(kept), encoding="utf-8")


def without_labels(generator: Generator, zoo: Zoo, arch: str, name: str) -> dict[str, float]:
    """Test accuracies with the head of the label phrases."""
    data, spec = load_data(name), generator.spec(arch)
    closest = generator.closest(arch, data)
    means = {kind: _mean(generator, arch, data, kind)[0] for kind in TASK_KINDS}
    flats = {
        "frozen": zoo.reference(arch),
        "average_of_all": zoo.matrix(zoo.records).mean(0),
        "nearest": zoo.matrix([record for record in zoo.records if record.data == closest[0]]).mean(0),
        **means,
    }
    return {row: task_score(spec, flat, data, "test") for row, flat in flats.items()}


def retrieval(generator: Generator, zoo: Zoo, arch: str, most: int) -> None:
    """Print mean test accuracies over the zoo's tasks: its adapters, and what is generated from words, another task's words, nothing."""
    spec, names = generator.spec(arch), generator.provenance.data
    rows: dict[str, list[float]] = {}
    tasks = {name: load_data(name) for name in names}
    for i, name in enumerate(names):
        order = torch.randperm(len(tasks[name].test), generator=torch.Generator().manual_seed(0))[:most]
        data = replace(tasks[name], test=tasks[name].test.take(order))
        other = tasks[names[(i + len(names) // 2) % len(names)]]
        flats = {
            "zoo": zoo.matrix([record for record in zoo.records if record.data == name]),
            "words": _mean(generator, arch, data, "words"),
            "both": _mean(generator, arch, data, "both"),
            "another task's words": _mean(generator, arch, other, "words"),
            "nothing": _mean(generator, arch, data, "none"),
            "frozen": zoo.reference(arch)[None],
        }
        for row, networks in flats.items():
            scores = [task_score(spec, flat, data, "test") for flat in networks]
            rows.setdefault(row, []).append(statistics.mean(scores))
        print(name, {row: round(values[-1], 3) for row, values in rows.items()}, flush=True)
    print("mean", {row: round(statistics.mean(values), 4) for row, values in rows.items()})


def _mean(generator: Generator, arch: str, data: DataSet, kind: TaskKind) -> Tensor:
    """The network (1, p) of the mean of 16 samples for a task."""
    condition = generator.condition(arch, data, 16, kind=kind)
    return generator.decode(arch, generator.sample(arch, data, 16, condition=condition).mean(0, keepdim=True))


def with_labels(given: argparse.Namespace, arch: str, task: str, labels: int, draw: int) -> dict[str, float]:
    """Test accuracies of the rows of a search, and of four of them after training."""
    config = SearchConfig(
        archs=[arch],
        data=f"text:{given.out}/tasks/{task}.jsonl/labels:{labels}@{draw}",
        generator=str(given.generator),
        zoo=str(given.zoo),
        evaluations=given.evaluations,
        population=4,
        baselines=given.baselines,
        seed=draw,
        compute={"workers": 0},
        finetune={"mode": "never", "epochs": [EPOCHS.get(labels, 10)]},
    )
    began = time.process_time()
    found = search_in(config, given.out / f"{task}-{labels}-{draw}")
    rows = {row.name: row for row in found.rows}
    scores = {name: rows[name].test_score for name in ROWS if name in rows}
    scores |= {
        f"{name}, trained": rows[name].finetuned[0].test_score
        for name in TRAINED
        if name in rows and rows[name].finetuned
    }
    scores |= {f"{name}, left out": rows[name].val_loss for name in ROWS if name in rows}
    scores["cpu_seconds"] = round(time.process_time() - began, 1)
    return scores


def table(cells: dict[str, dict[str, float]], tasks: list[str], labels: int, draws: int) -> str:
    """The cells of one number of labels in Markdown; means over draws, and over tasks in the last column."""
    rows = list(
        dict.fromkeys(
            row for name, cell in cells.items() if f"-{labels}-" in name for row in cell if "left out" not in row
        )
    )
    lines = [f"| {labels} labels | {' | '.join(tasks)} | mean |", f"|---|{'---|' * (len(tasks) + 1)}"]
    for row in rows:
        values = [
            statistics.mean(found)
            for task in tasks
            if (found := [cells[k][row] for d in range(draws) if row in cells.get(k := f"{task}-{labels}-{d}", {})])
        ]
        if len(values) == len(tasks):
            digits = 0 if row == "cpu_seconds" else 3
            lines.append(f"| {row} | {' | '.join(f'{v:.{digits}f}' for v in [*values, statistics.mean(values)])} |")
    return "\n".join(lines)


def main() -> None:
    """Run the cells that are missing, and print a table for each number of labels."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("generator", type=Path)
    parser.add_argument("zoo", type=Path)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tasks", default="cr,tweet_emotion,ag_news,amazon_kitchen,trec,subj")
    parser.add_argument("--labels", default="0,16,64,200")
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--test", type=int, default=500)
    parser.add_argument("--retrieval", action="store_true", help="the zoo's own tasks instead, by their descriptions")
    parser.add_argument("--baselines", default="standard", help="none leaves out the rows of rivals that the zoo makes")
    parser.add_argument("--evaluations", type=int, default=60)
    given = parser.parse_args()
    tasks, counts = given.tasks.split(","), [int(count) for count in given.labels.split(",")]
    generator, zoo = Generator.from_pretrained(given.generator), Zoo.open(str(given.zoo))
    [arch] = zoo.archs
    if given.retrieval:
        with threads(1):
            return retrieval(generator, zoo, arch, given.test)
    prepare(given.texts, tasks, given.out / "tasks", given.test)
    file = given.out / "cells.json"
    for labels in counts:
        for task in tasks:
            for draw in range(given.draws if labels else 1):
                cells = json.loads(file.read_text()) if file.exists() else {}
                if (key := f"{task}-{labels}-{draw}") in cells:
                    continue
                with threads(1):
                    found = (
                        with_labels(given, arch, task, labels, draw)
                        if labels
                        else without_labels(generator, zoo, arch, f"text:{given.out}/tasks/{task}.jsonl")
                    )
                file.write_text(json.dumps({**cells, key: found}, indent=1))
                print(key, {row: round(value, 3) for row, value in found.items()}, flush=True)
    cells = json.loads(file.read_text())
    print("\n\n".join(table(cells, tasks, labels, given.draws) for labels in counts))


if __name__ == "__main__":
    main()
