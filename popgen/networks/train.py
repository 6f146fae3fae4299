"""Trains one network: a plain loop on the training split, on one thread; the same weights for the same seed."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from popgen.archs import ArchConfig, ArchSpec, build
from popgen.configs.spec import Recipe
from popgen.data import DataSet, Part
from popgen.data.images.augment import flip_and_crop
from popgen.errors import BadInput
from popgen.networks.threads import threads
from popgen.tasks import get_task, score_key
from popgen.types import StateDict

_EVAL_BATCH = 1000  # images a forward pass: bounds memory, large enough to keep a core busy


def train_network(
    spec: ArchSpec, data: DataSet, recipe: Recipe, *, start: StateDict | None, seed: int
) -> tuple[StateDict, dict[str, float]]:
    """Train on the training split; the metrics (score and loss of each split) describe the end and choose nothing.

    Args:
        start: weights to begin from; None: fresh ones from `seed`.
        seed: of the order of the images, and of fresh weights. Runs on one thread, so that sums have one order.

    Raises:
        BadInput: the network's outputs are not the data set's classes, or training left the finite numbers.

    >>> from popgen.data import load_data
    >>> spec = ArchSpec.from_config("mlp-s")
    >>> state, metrics = train_network(spec, load_data("digits"), Recipe(epochs=2), start=None, seed=0)
    >>> metrics["test_accuracy"] > 0.8
    True
    """
    check_task(spec, data)
    if len(data.classes) != spec.config.classes:
        raise BadInput(
            f"{spec.name!r} has {spec.config.classes} outputs, data set {data.name!r} has {len(data.classes)} classes",
            "one output a class",
            f"In the spec: archs: [{{name: my-net, like: {spec.name}, classes: {len(data.classes)}}}]",
        )
    with threads(1):
        net = build(spec.config, seed=seed)
        if start is not None:
            net.load_state_dict(start, strict=False)
        fit(net, spec.config, data.train, recipe, torch.Generator().manual_seed(seed))
        metrics: dict[str, float] = {}
        task = get_task(spec.config.task)
        for split in ("train", "val", "test"):
            loss, reached = evaluate(net, None, getattr(data, split), spec.config)
            metrics |= {f"{split}_loss": loss, score_key(task.unit, split): reached}
    state = spec.to_state(spec.to_flat(net.state_dict()))
    spec.check(state, f"the network trained as {spec.name} on {data.name} with seed {seed}")
    return state, metrics


def check_task(spec: ArchSpec, data: DataSet) -> None:
    """Refuse a data set that is not for the network's task.

    Raises:
        BadInput: it is for another one.
    """
    if data.task != spec.config.task:
        raise BadInput(
            f"data set {data.name!r} is for {data.task}, {spec.name!r} does {spec.config.task}",
            "a network is trained and scored at its own task",
            "Name an architecture or a data set of the same task.",
        )


def evaluate(
    net: ArchSpec | nn.Module, state: StateDict | None, part: Part, config: ArchConfig | None = None
) -> tuple[float, float]:
    """Mean loss and score of a network on a split, in evaluation mode; (0, 0) for a split without examples.

    Args:
        net: a module, or a spec to build it from.
        state: weights to load; None: the module's own.
        config: its inputs and its task; a spec brings its own.

    >>> from popgen.data import load_data
    >>> spec = ArchSpec.from_config("mlp-s")
    >>> loss, accuracy = evaluate(spec, build("mlp-s", seed=0).state_dict(), load_data("digits").val)
    >>> loss > 2, accuracy < 0.4
    (True, True)
    """
    if isinstance(net, ArchSpec):
        config = config or net.config
        net = build(config, seed=0)
    if config is None:
        raise BadInput(
            "evaluate needs to know what enters the network", "a bare module does not say", "Pass its ArchConfig."
        )
    if state is not None:
        net.load_state_dict(state, strict=False)
    if not len(part):
        return 0.0, 0.0
    was_training, task = net.training, get_task(config.task)
    net.eval()
    loss, outputs = 0.0, []
    with torch.no_grad():
        for inputs, targets in zip(part.inputs.split(_EVAL_BATCH), part.targets.split(_EVAL_BATCH), strict=True):
            outputs.append(net(config.inputs.prepare(inputs)))
            loss += task.loss(outputs[-1], targets, "sum").item()
    net.train(was_training)
    return loss / part.targets.numel(), task.score(torch.cat(outputs), part.targets)


def fit(
    net: nn.Module,
    config: ArchConfig,
    part: Part,
    recipe: Recipe,
    generator: torch.Generator,
    clip: float | None = None,
) -> None:
    """Train `net` in place.

    Args:
        config: its inputs and its task.
        generator: decides the order of the examples, and their augmentation.
        clip: the largest norm of a gradient.

    >>> from popgen.archs import arch_config
    >>> net, part = build("mlp-s", seed=0), Part(torch.rand(100, 1, 8, 8), torch.zeros(100, dtype=torch.long))
    >>> fit(net, arch_config("mlp-s"), part, Recipe(epochs=3), torch.Generator())
    >>> net.eval()(part.inputs).argmax(1).tolist() == [0] * 100
    True
    """
    targets, task = part.targets, get_task(config.task)
    prepared = config.inputs.prepare(part.inputs) if recipe.augment == "none" else None

    def batch_of(index: Tensor) -> Tensor:
        if prepared is not None:
            return prepared[index]
        return config.inputs.prepare(flip_and_crop(part.inputs[index], generator))

    optimizer: torch.optim.Optimizer
    if recipe.optimizer == "adamw":
        optimizer = torch.optim.AdamW(net.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    else:
        optimizer = torch.optim.SGD(
            net.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay, fused=True
        )
    batch = min(recipe.batch, len(targets))
    steps = recipe.epochs * (len(targets) // batch)
    schedule = (
        torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.lr, total_steps=steps)
        if recipe.schedule == "one-cycle" and steps
        else None
    )
    net.train()
    if recipe.batch_norm == "frozen":
        for module in net.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
    for _ in range(recipe.epochs):
        # images that fill no batch are left out of this epoch: batch norm needs batches of one size
        for index in torch.randperm(len(targets), generator=generator)[: len(targets) // batch * batch].split(batch):
            optimizer.zero_grad()
            task.loss(net(batch_of(index)), targets[index]).backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(net.parameters(), clip)
            optimizer.step()
            if schedule is not None:
                schedule.step()
