"""The front of a search over two groups beside the zoo's own front, and beside what a careful user would try.

    python examples/bench/fairness.py

About 40 minutes on one CPU core for two architectures, two styles and four seeds. Each front is chosen on validation images. Volumes are shares of one
box for all seeds of an architecture and a style; standard errors are those over the seeds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

import popgen
from popgen.archs import ArchSpec
from popgen.data import load_data
from popgen.data.groups import load_groups
from popgen.fitness.measures import measure
from popgen.jobs.searching.fronts import dominated
from popgen.networks.forward import network_outputs
from search import hypervolume, nondominated

SUMS = (
    (1.0, 0.25),
    (1.0, 1.0),
    (1.0, 4.0),
)  # weights of the two objectives; each search has a third of the evaluations
Run = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="cnn-s,mlp-s")
    parser.add_argument("--data", default="digits/style:rotate:45:0.2,digits/style:edges:0.2")
    parser.add_argument("--objectives", default="error,worst_group_error")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--evaluations", type=int, default=300)
    parser.add_argument("--runs", type=Path, help="keep the runs here; those that are there are not made again")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        for data in options.data.split(","):
            for arch in options.arch.split(","):
                runs = [
                    _run(options, arch, data, seed, options.runs or Path(temporary)) for seed in range(options.seeds)
                ]
                print(
                    f"\n{arch} on {data}, {options.seeds} seeds\n\n{_table(runs, options.objectives.split(','))}",
                    flush=True,
                )


def _run(options: argparse.Namespace, arch: str, data: str, seed: int, runs: Path) -> Run:
    """The fronts of one search, as result.json has them, and behind them that of weighted sums."""
    folder = runs / f"{arch}-{data.replace('/', '-').replace(':', '-')}-s{seed}"
    names = options.objectives.split(",")
    given = {"objectives": names, "workers": 0, "seed": seed}
    result = _search(folder, arch, data, given | {"evaluations": options.evaluations, "baselines": "all"})
    found: Run = result["details"]["fronts"]
    share = {"evaluations": options.evaluations // len(SUMS), "baselines": "none"}
    sums = [
        _search(Path(f"{folder}-w{i}"), arch, data, given | share | {"weights": list(weights)})
        for i, weights in enumerate(SUMS)
    ]
    found["fronts"].append(
        _front_of_sums([one["weights"] for one in sums], arch, data, names, found, options.evaluations)
    )
    return found


def _search(folder: Path, arch: str, data: str, given: Run) -> Run:
    """The result of a search, which is made unless its folder holds it."""
    if not (folder / "result.json").exists():
        popgen.search(arch, data, out=str(folder), **given)
    result: Run = json.loads((folder / "result.json").read_text())["results"][0]
    return result


def _front_of_sums(files: list[str], arch: str, data: str, names: list[str], found: Run, evaluations: int) -> Run:
    """The best networks of searches for weighted sums of the objectives, as a front beside those of result.json."""
    loaded, spec = load_data(data), ArchSpec.from_config(arch)
    groups = load_groups(loaded, None)
    points = []
    for file in files:
        flat = spec.to_flat(load_file(file))
        point: Run = {"origin": file}
        for key, part, index in (("values", loaded.val, groups.index), ("test_values", loaded.test, groups.test)):
            logits = network_outputs(spec, flat, spec.config.inputs.prepare(part.inputs))
            point[key] = {name: measure(name, logits, part.targets, index) for name in names}
        points.append(point)
    kept = nondominated(np.array([[one["values"][name] for name in names] for one in points]))
    points = [one for one, is_on in zip(points, kept, strict=True) if is_on]
    front = {"name": "weighted sums", "evaluations": evaluations, "points": points}
    own, tested = (_values(one, "test_values", names) for one in (found["fronts"][0], front))
    return front | {"test_dominated": dominated(tested, own), "test_dominates": dominated(own, tested)}


def _table(runs: list[Run], names: list[str]) -> str:
    """A row a front: volumes, the ends of the front on test images, and dominance, as means over the seeds."""
    boxes = [
        _box([_values(front, key, names) for run in runs for front in run["fronts"]])
        for key in ("values", "test_values")
    ]
    columns = [
        "front",
        "evaluations",
        "validation volume",
        "test volume",
        *(f"test {name}" for name in names),
        "test: dominated",
        "dominates",
    ]
    lines = [f"| {' | '.join(columns)} |", f"|---{'|---:' * (len(columns) - 1)}|"]
    for front in runs[0]["fronts"]:
        same = [next(one for one in run["fronts"] if one["name"] == front["name"]) for run in runs]
        volumes = [
            [_volume(_values(one, key, names), box) for one in same]
            for key, box in zip(("values", "test_values"), boxes, strict=True)
        ]
        ends = [
            [min(one["points"], key=lambda point: point["values"][name])["test_values"][name] for one in same]
            for name in names
        ]
        counts = [f"{sum(one[f'test_{key}'] for one in same)} of {total}" for key, total in (
            ("dominated", sum(len(one["points"]) for one in same)),
            ("dominates", sum(len(run["fronts"][0]["points"]) for run in runs)),
        )]  # fmt: skip
        cells = [
            front["name"],
            str(front["evaluations"]),
            *map(_mean, (*volumes, *ends)),
            *(counts if front["name"] != "search" else ["", ""]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _values(front: Run, key: str, names: list[str]) -> np.ndarray:
    return np.array([[point[key][name] for name in names] for point in front["points"]])


def _box(tables: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The best value of each objective, and a point a tenth of the range beyond the worst."""
    rows = np.concatenate(tables)
    return rows.min(0), rows.max(0) + 0.1 * np.ptp(rows, axis=0)


def _volume(values: np.ndarray, box: tuple[np.ndarray, np.ndarray]) -> float:
    best, reference = box
    return hypervolume((values - best) / (reference - best), np.ones(len(best)))


def _mean(values: list[float]) -> str:
    """The mean with its standard error."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.3f} ± {error:.3f}"


if __name__ == "__main__":
    main()
