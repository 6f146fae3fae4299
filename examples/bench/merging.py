"""One network for several tasks: merges of their experts, and searches from them; mean test accuracy over the tasks.

    popgen zoo build zoo_specs/digits_upright.yaml && popgen zoo build zoo_specs/digits_rotations.yaml
    python examples/bench/merging.py --arch cnn-s --zoo zoos/digits_rotations --source digits

The tasks are the data sets of the zoo's experts. Rows: `base`: the network that the experts were trained from; `experts, own task`: each on
its own task; `experts, all tasks`: each on all, the mean over the experts; `best expert`: by validation loss; `merge_METHOD`; `search, no
merges`: of mixtures around the best expert; `search from the average`; `search from the best merge`: popgen's default; `union`: one network
trained on all tasks from the same base. Nothing is chosen by test images, which are looked at once.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import torch
from torch import Tensor

import popgen
from popgen.archs import ArchSpec
from popgen.baselines.row import Row
from popgen.configs.spec import Recipe
from popgen.data import DataSet
from popgen.networks.forward import task_score
from popgen.zoo import Checkpoint, Zoo, train_network

SEARCHES: dict[str, list[str] | None] = {
    "search, no merges": [],
    "search from the average": ["uniform_soup"],
    "search from the best merge": None,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", required=True, help="one expert a task, all from one start")
    parser.add_argument("--arch", required=True)
    parser.add_argument("--source", required=True, help="the data set that the tasks are variants of")
    parser.add_argument("--data", help="what is searched on  [default: SOURCE/union: of all tasks]")
    parser.add_argument("--batch-norm", default="auto")
    parser.add_argument("--evaluations", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3, help="of the searches")
    parser.add_argument("--no-union", action="store_true", help="without the network that is trained on all tasks")
    options = parser.parse_args()
    zoo = Zoo.open(options.zoo)
    records = zoo.select(arch=options.arch)
    tasks = [popgen.load_data(record.data) for record in records]
    data = options.data or f"{options.source}/union:{'+'.join(map(variant_of, records))}"
    rows = rows_of_networks(zoo, records, tasks)
    print(f"{options.arch}, {len(tasks)} tasks, searched on {data}", flush=True)
    for seed in range(options.seeds):
        for name, merges in SEARCHES.items():
            found = searched(data, merges, seed, options, first=name == "search from the best merge" and not seed)
            for row in found:
                label = name if row.name == "search" else "best expert" if row.name == "best_zoo" else row.name
                assert row.scored is not None, "rows of a search around experts are networks"
                rows.setdefault(label, []).append(mean_over(tasks, row.scored.spec, row.scored.flat))
    if not options.no_union:
        rows["union"] = [trained_on_union(zoo, records, tasks, options)]
    for label, values in rows.items():
        error = f" ± {statistics.stdev(values) / len(values) ** 0.5:.4f}" if len(values) > 1 else ""
        print(f"{label:28s} {statistics.mean(values):.4f}{error}", flush=True)


def variant_of(record: Checkpoint) -> str:
    """The task's variant, behind the name of its source."""
    return record.data.partition("/")[2] or "plain"


def rows_of_networks(zoo: Zoo, records: list[Checkpoint], tasks: list[DataSet]) -> dict[str, list[float]]:
    """The base and the experts."""
    spec, start, weights = zoo.spec(records[0].arch), zoo.start(records[0].arch), zoo.matrix(records)
    assert start is not None, "the experts share a start"
    table = [[task_score(spec, flat, task, "test") for task in tasks] for flat in weights]
    return {
        "base": [mean_over(tasks, spec, start)],
        "experts, own task": [statistics.mean(row[i] for i, row in enumerate(table))],
        "experts, all tasks": [statistics.mean(map(statistics.mean, table))],
    }


def mean_over(tasks: list[DataSet], spec: ArchSpec, flat: Tensor) -> float:
    """Mean test accuracy of a network (p,) over the tasks."""
    return statistics.mean(task_score(spec, flat, task, "test") for task in tasks)


def searched(data: str, merges: list[str] | None, seed: int, options: argparse.Namespace, *, first: bool) -> list[Row]:
    """The row of a search, and in the first one those of the merges and of the best expert."""
    [found] = popgen.search(
        options.arch,
        data,
        zoo=options.zoo,
        space="mix",
        experts=100,
        merges=merges,
        batch_norm=options.batch_norm,
        evaluations=options.evaluations,
        seed=seed,
        workers=0,
        baselines="all" if first else "none",
        finetune={"mode": "never"},  # merges are made without gradients, and so is what is compared with them
        out=str(Path(tempfile.mkdtemp()) / "run"),
    )
    start = found.details.origin.start or "the best expert"
    print(f"seed {seed}, merges {merges}: from {start}, val {found.row('search').val_score:.4f}", flush=True)
    return [row for row in found.rows if row.name in ("search", "best_zoo") or row.name.startswith("merge_")]


def trained_on_union(zoo: Zoo, records: list[Checkpoint], tasks: list[DataSet], options: argparse.Namespace) -> float:
    """A network trained from the base on the images of all tasks by the experts' recipe."""
    spec, start = zoo.spec(options.arch), zoo.start(options.arch)
    assert start is not None, "the experts share a start"
    union = popgen.load_data(f"{options.source}/union:{'+'.join(map(variant_of, records))}")
    recipe = Recipe(**zoo.info["spec"]["recipe"])
    state, _ = train_network(spec, union, recipe, start=spec.to_state(start), seed=0)
    return mean_over(tasks, spec, spec.to_flat(state))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
