"""A real data set with few labels, where the head is fitted: what a search along directions gains over its rivals.

    python examples/bench/few_labels.py --arch resnet20 --zoo zoos/cifar_resnets --data folder:photos --labels 40 160 \
        --generator generators/photos0 generators/photos1 --ordinary generators/ordinary0

Each generator and draw of labels is one `popgen search`; `--labels 0` is all of the training and validation
images. Rows: the base, the best checkpoint of the zoo by leave-one-out loss, the features of the three best together under one head, and of the
search's best beside the two best (`ensemble`), the
end of an ordinary training on the same data (a generator of zoo_specs/photos.yaml with `queries: 0`) and the best point of the line to
it, what the condition proposes, the best point of the line, the same after gradient steps on its coordinates at the search's image passes, the search, the best start without a search (checkpoint or random weights), the search
and the ensemble after fine-tuning at equal passes, and the result that held-out images chose. Test accuracy, and the difference from the base with the
standard error over draws and generators; test images are used once for each row.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
from pathlib import Path

import torch

import popgen
from popgen.data import DataSet, load_data
from popgen.fitness import make_fitness
from popgen.fitness.heads import fit_ridge_head
from popgen.generator import Generator
from popgen.generator.model.directions import Start
from popgen.networks.forward import network_features, task_score
from popgen.zoo import Zoo

_TOGETHER = 3  # checkpoints whose features are concatenated
_BATCH = 500  # images
_HALF, _WIDTH = 0.5, 0.5  # the search's unit of a coordinate, and the width of its prior, in such units
_RATE = 0.1  # Adam's, in such units; it falls to zero linearly
_OURS = ("finetuned_search", "finetuned_ensemble")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="resnet20")
    parser.add_argument("--zoo", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--generator", nargs="+", required=True)
    parser.add_argument("--ordinary", nargs="*", default=[], help="generators of ordinary training on the same data")
    parser.add_argument("--labels", type=int, nargs="+", default=[40, 160, 0])
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--evaluations", type=int, default=60)
    parser.add_argument("--json", help="file of all accuracies")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, dict[str, dict[str, float]]] = {}
    for labels in options.labels:
        cells = found[str(labels)] = {}
        for draw in range(options.draws if labels else 1):
            name = f"{options.data}/labels:{labels}@{draw}" if labels else options.data
            shared = {"together": together(options.arch, load_data(name), options.zoo)}
            for number, folder in enumerate(options.generator):
                cells[f"{draw}/{number}"] = shared | searched(name, folder, options, "auto")
                cells[f"{draw}/{number}"]["gradient"] = by_gradient(name, folder, options)
                for ordinary in options.ordinary[number : number + 1]:
                    rows = searched(name, ordinary, options, "never")
                    cells[f"{draw}/{number}"] |= {"ordinary": rows["generated"], "ordinary, line": rows["line"]}
                print(labels, draw, folder, cells[f"{draw}/{number}"], flush=True)
                if options.json:
                    Path(options.json).write_text(json.dumps(found, indent=1))
        print_rows(labels, cells)


def searched(data: str, generator: str, options: argparse.Namespace, finetune: str) -> dict[str, float]:
    """Test accuracy of each row of one search, and of its result."""
    with tempfile.TemporaryDirectory() as folder:
        [one] = popgen.search(
            options.arch,
            data,
            generator=generator,
            zoo=options.zoo,
            evaluations=options.evaluations,
            workers=0,
            ensemble=_TOGETHER,
            finetune_mode=finetune,
            out=str(Path(folder) / "run"),
        )
    starts = [row.name for row in one.rows if row.name.startswith("finetuned_") and row.name not in _OURS]
    names = dict.fromkeys(starts, "finetuned_start")  # the best start without a search has one name
    return {names.get(row.name, row.name): row.test_score for row in one.rows} | {"result": one.rows[-1].test_score}


def by_gradient(name: str, folder: str, options: argparse.Namespace) -> float:
    """Test accuracy at the coordinates that Adam finds from the best point of the search's line, by its own loss and prior.

    A step passes each image four times: once for the features, whose gradient needs all of them, and as a step of training.
    """
    generator, data = Generator.from_pretrained(folder), load_data(name)
    spec = generator.spec(options.arch)
    fitness = make_fitness(spec, data, (), head="refit")
    start = min(generator.starts(options.arch), key=lambda one: fitness.loss_of(half_of_the_way(one)))
    base, directions = start.base, start.directions
    assert fitness.train is not None, "a head is fitted to examples"
    inputs, labels = fitness.train

    def objective(features: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        prior = (u - 1).square().sum() / (2 * _WIDTH**2 * fitness.examples)
        return left_out_loss(features, labels, len(data.classes)) + prior

    points = [torch.full((directions.dim,), share / _HALF) for share in (0, 0.25, 0.5, 0.75, 1)]
    unit = _HALF / len(directions.steps)
    with torch.no_grad():
        networks = [directions.weights(base, unit * u) for u in points]
        losses = [float(objective(in_batches(spec, flat, inputs), u)) for flat, u in zip(networks, points, strict=True)]
    u = points[losses.index(min(losses))].clone().requires_grad_()
    steps = (options.evaluations - len(points)) // 4
    optimizer = torch.optim.Adam([u], lr=_RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        with torch.no_grad():
            features = in_batches(spec, directions.weights(base, unit * u), inputs)
        features.requires_grad_()
        objective(features, u).backward()
        assert features.grad is not None, "the loss depends on them"
        for batch, gradient in zip(inputs.split(_BATCH), features.grad.split(_BATCH), strict=True):
            flat = directions.weights(base, unit * u)
            network_features(spec, flat, batch, differentiable=True).backward(gradient)
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        found = fitness.score(directions.weights(base, unit * u))
    return task_score(found.spec, found.flat, data, "test")


def half_of_the_way(start: Start) -> torch.Tensor:
    directions = start.directions
    return directions.weights(start.base, torch.full((directions.dim,), _HALF / len(directions.steps)))


def in_batches(spec: popgen.ArchSpec, flat: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
    return torch.cat([network_features(spec, flat, batch) for batch in inputs.split(_BATCH)])


def left_out_loss(features: torch.Tensor, labels: torch.Tensor, classes: int) -> torch.Tensor:
    """Leave-one-out cross-entropy of the head that is fitted to the features, differentiable; penalty and factor are held fixed."""
    head = fit_ridge_head(features.detach(), labels, classes)
    x, y = features.double(), torch.nn.functional.one_hot(labels, classes).double()
    x, offset = x - x.mean(0), y.mean(0)
    inverse = torch.linalg.inv(x.T @ x + head.penalty * torch.eye(x.shape[1], dtype=torch.double))
    leverage = ((x @ inverse) * x).sum(1) + 1 / len(x)
    residual = (y - offset - x @ (inverse @ (x.T @ (y - offset)))) / (1 - leverage.clamp_max(1 - 1e-6))[:, None]
    scores = y - residual
    factor = head.left_out.double().flatten() @ scores.detach().flatten() / scores.detach().square().sum()
    return torch.nn.functional.cross_entropy(factor * scores, labels)


@torch.no_grad()
def together(arch: str, data: DataSet, folder: str) -> float:
    """Test accuracy of a head on the features of the best checkpoints by leave-one-out loss, side by side."""
    zoo = Zoo.open(folder)
    records, spec = zoo.select(arch=arch), zoo.spec(arch)
    fitness = make_fitness(spec, data, (), head="refit")
    weights = zoo.matrix(records)
    best = sorted(range(len(records)), key=lambda i: fitness.loss_of(weights[i]))[:_TOGETHER]
    parts = [data.train] if data.is_left_out else [data.train, data.val]
    inputs = torch.cat([part.inputs for part in parts])
    labels = torch.cat([part.targets for part in parts])
    train, test = (side_by_side(spec, weights[best], images) for images in (inputs, data.test.inputs))
    head = fit_ridge_head(train, labels, len(data.classes))
    return float(((test @ head.weight.T + head.bias).argmax(1) == data.test.targets).float().mean())


def side_by_side(spec: popgen.ArchSpec, weights: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    batches = [spec.config.inputs.prepare(batch) for batch in images.split(_BATCH)]
    return torch.cat([torch.cat([network_features(spec, flat, batch) for batch in batches]) for flat in weights], dim=1)


def print_rows(labels: int, cells: dict[str, dict[str, float]]) -> None:
    print(f"{labels or 'all'} labels, {len(cells)} searches")
    for row in next(iter(cells.values())):
        values = [cell[row] for cell in cells.values()]
        gains = [cell[row] - cell["base"] for cell in cells.values()]
        error = statistics.stdev(gains) / math.sqrt(len(gains)) if len(gains) > 1 else math.nan
        print(f"  {row:15s} {statistics.mean(values):.3f}  {100 * statistics.mean(gains):+.1f} ± {100 * error:.1f}")


if __name__ == "__main__":
    main()
