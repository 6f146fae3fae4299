"""Training of one network: a plain loop over the training split.

`train_network` runs on one thread, so that equal seeds give equal weights; `fit` is the loop itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from popgen.archs import ArchConfig, ArchSpec, build
from popgen.configs.spec import Recipe
from popgen.data import DataSet, Part
from popgen.data.images.augment import augmented
from popgen.data.images.variants import apply_variants
from popgen.errors import BadInput, near_matches
from popgen.networks.threads import threads
from popgen.tasks import get_task, score_key
from popgen.types import Images, StateDict

_EVAL_BATCH = 1000  # examples in each forward pass: few enough to bound memory, enough to keep a core busy
_TOGETHER = 8  # images of a batch that are shown as the same variant


@dataclass(frozen=True)
class Snapshot:
    """A network at a step of its training, `steps_left` before the last; metrics as `train_network` returns them."""

    steps_left: int
    state: StateDict
    metrics: dict[str, float]


def train_network(
    spec: ArchSpec, data: DataSet, recipe: Recipe, *, start: StateDict | None, seed: int
) -> tuple[StateDict, dict[str, float]]:
    """Train a network on the training split and return its final weights and the loss and score of each split.

    Earlier snapshots that a recipe asks for are not kept; see `train_snapshots`.

    The metrics only describe the final weights: neither validation nor test data influence the training. It runs on
    one thread, because the order of a sum, and so its last bits, depends on the number of threads.

    Args:
        start: initial weights; None draws them from `seed`.
        seed: decides the order of the examples, their augmentation, and the initial weights where `start` is None.

    Raises:
        BadInput: the data set is for another task or has another number of classes, or the weights became NaN or
            infinite.

    >>> from popgen.data import load_data
    >>> spec = ArchSpec.from_config("mlp-s")
    >>> state, metrics = train_network(spec, load_data("digits"), Recipe(epochs=2), start=None, seed=0)
    >>> metrics["test_accuracy"] > 0.8
    True
    """
    final = train_snapshots(spec, data, recipe.model_copy(update={"snapshots": 1}), start=start, seed=seed)[-1]
    return final.state, final.metrics


def train_snapshots(
    spec: ArchSpec, data: DataSet, recipe: Recipe, *, start: StateDict | None, seed: int
) -> list[Snapshot]:
    """Train a network as `train_network` does, and return its `recipe.snapshots` last states, the final one last.

    Raises:
        BadInput: as `train_network`, or the run has too few steps for its snapshots; raised before it begins.

    >>> from popgen.data import load_data
    >>> recipe = Recipe(epochs=1, snapshots=3, snapshot_every=5)
    >>> kept = train_snapshots(ArchSpec.from_config("mlp-s"), load_data("digits"), recipe, start=None, seed=0)
    >>> [one.steps_left for one in kept]
    [10, 5, 0]
    """
    check_task(spec, data)
    spec = spec.for_classes(data.label_phrases)
    if len(data.classes) != spec.config.classes:
        raise BadInput(
            f"{spec.name!r} has {spec.config.classes} outputs, data set {data.name!r} has {len(data.classes)} classes",
            "a network has one output per class",
            f"In the spec: archs: [{{name: my-net, like: {spec.name}, classes: {len(data.classes)}}}]",
        )
    if recipe.examples is not None:
        order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
        data = replace(data, train=data.train.take(order[: recipe.examples]))
    _check_steps(recipe, data)
    kept: dict[int, StateDict] = {}
    wanted = range((recipe.snapshots - 1) * recipe.snapshot_every, 0, -recipe.snapshot_every)

    def keep(steps_left: int) -> None:
        if steps_left in wanted:
            kept[steps_left] = spec.to_state(spec.to_flat(net.state_dict()))

    with threads(1):
        net = build(spec.config, seed=seed)
        if start is not None:
            net.load_state_dict(start, strict=False)
        fit(net, spec.config, data.train, recipe, torch.Generator().manual_seed(seed), on_step=keep)
        kept[0] = spec.to_state(spec.to_flat(net.state_dict()))
        snapshots = [Snapshot(left, state, _metrics(spec, net, state, data)) for left, state in kept.items()]
    for one in snapshots:
        spec.check(one.state, f"the network trained as {spec.name} on {data.name} with seed {seed}")
    return snapshots


def _check_steps(recipe: Recipe, data: DataSet) -> None:
    """Refuse a run that ends before its snapshots begin; the first may be no earlier than after one step."""
    steps, needed = count_steps(recipe, len(data.train)), (recipe.snapshots - 1) * recipe.snapshot_every + 1
    if recipe.snapshots > 1 and steps < needed:
        raise BadInput(
            f"{recipe.snapshots} snapshots, {recipe.snapshot_every} steps apart, take {needed} steps",
            f"a training on {data.name} has {steps}",
            "Raise recipe.epochs, or lower recipe.snapshots or recipe.snapshot_every.",
        )


def _metrics(spec: ArchSpec, net: nn.Module, state: StateDict, data: DataSet) -> dict[str, float]:
    """The loss and the score of each split."""
    metrics: dict[str, float] = {}
    net.load_state_dict(state, strict=False)
    for split in ("train", "val", "test"):
        loss, reached = evaluate(net, None, getattr(data, split), spec.config)
        metrics |= {f"{split}_loss": loss, score_key(get_task(spec.config.task).unit, split): reached}
    return metrics


def count_steps(recipe: Recipe, examples: int) -> int:
    """Steps of a training; an incomplete last batch of an epoch is dropped.

    >>> count_steps(Recipe(epochs=2, batch=50), 149)
    4
    """
    return recipe.epochs * (examples // min(recipe.batch, examples)) if examples else 0


def check_task(spec: ArchSpec, data: DataSet) -> None:
    """Refuse a data set for a task other than the network's.

    Raises:
        BadInput: the two tasks differ.
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
        net: a module, or the spec of the network to build.
        state: weights to load; None keeps those of the module.
        config: the network's inputs and task; required for a module, optional for a spec.

    Raises:
        BadInput: a module without a `config`.

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
    on_step: Callable[[int], None] = lambda _left: None,
) -> None:
    """Train `net` in place, and leave it in training mode.

    Args:
        config: the network's inputs and task.
        generator: decides the order of the examples and their augmentation.
        clip: largest norm of the gradient of all weights together; None for no clipping.
        on_step: called after each step with the number of steps that are left.

    >>> from popgen.archs import arch_config
    >>> net, part = build("mlp-s", seed=0), Part(torch.rand(100, 1, 8, 8), torch.zeros(100, dtype=torch.long))
    >>> fit(net, arch_config("mlp-s"), part, Recipe(epochs=3), torch.Generator())
    >>> net.eval()(part.inputs).argmax(1).tolist() == [0] * 100
    True
    """
    task = get_task(config.task)
    batch = min(recipe.batch, len(part))
    train_only(net, recipe.parts, config.name)
    optimizer = _optimizer(net, recipe)
    steps = count_steps(recipe, len(part))
    schedule = _schedule(optimizer, recipe, steps)
    batches = _batches(part, config, recipe, batch, generator)
    net.train()
    if recipe.batch_norm == "frozen":
        for module in net.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
    for done, (inputs, targets) in enumerate(batches, 1):
        optimizer.zero_grad()
        task.loss(net(inputs), targets).backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(net.parameters(), clip)
        optimizer.step()
        if schedule is not None:
            schedule.step()
        on_step(steps - done)


def train_only(net: nn.Module, parts: Sequence[str], name: str) -> None:
    """Freeze the parameters of a network whose names match none of the globs `parts`; without any, none is frozen.

    Args:
        name: the network's, for errors.

    Raises:
        BadInput: a glob matches no parameter.
    """
    names = [key for key, _ in net.named_parameters()]
    for glob in parts:
        if not any(fnmatchcase(key, glob) for key in names):
            raise BadInput(
                f"no parameter of {name!r} matches {glob!r} of recipe.parts",
                f"nearest names: {near_matches(glob, names)}",
                "Give a name, or a glob such as '*.bias'.",
            )
    for key, parameter in net.named_parameters():
        parameter.requires_grad_(not parts or any(fnmatchcase(key, glob) for glob in parts))


def _optimizer(net: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    parameters = [one for one in net.parameters() if one.requires_grad]
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    return torch.optim.SGD(
        parameters, lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay, fused=True
    )


def _schedule(
    optimizer: torch.optim.Optimizer, recipe: Recipe, steps: int
) -> torch.optim.lr_scheduler.OneCycleLR | None:
    """Learning-rate schedule over all steps, or None for a constant learning rate."""
    if recipe.schedule != "one-cycle" or not steps:
        return None
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.lr, total_steps=steps)


def _batches(
    part: Part, config: ArchConfig, recipe: Recipe, size: int, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Prepared inputs and targets of all epochs, shuffled and augmented anew in each of them.

    An incomplete last batch is dropped from its epoch: batch norm needs batches of one size.
    """
    changed = recipe.augment != "none" or recipe.variants
    prepared = None if changed else config.inputs.prepare(part.inputs)
    for _ in range(recipe.epochs):
        order = torch.randperm(len(part), generator=generator)[: len(part) // size * size]
        for index in order.split(size):
            if prepared is not None:
                inputs = prepared[index]
            else:
                images = _as_variants(part.inputs[index], recipe.variants, generator)
                inputs = config.inputs.prepare(augmented(images, recipe.augment, generator))
            yield inputs, part.targets[index]


def _as_variants(images: Images, variants: list[str], generator: torch.Generator) -> Images:
    """Show groups of the images (n, c, h, w) as variants drawn at random, of which one is the images as they are."""
    if not variants:
        return images
    shown = []
    for group in images.split(_TOGETHER):
        choice, seed = (int(torch.randint(most, (), generator=generator)) for most in (len(variants) + 1, 2**31))
        shown.append(apply_variants(group, variants[choice].split("/"), seed) if choice < len(variants) else group)
    return torch.cat(shown)
