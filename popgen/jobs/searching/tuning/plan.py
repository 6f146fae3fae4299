"""Plans the fine-tuning after a search before the search begins: whether there is one, what judges it, and what it may cost.

The search's best and the strongest start without a search (the zoo's best checkpoint, or the base; LoRA from zero; a fresh network) are trained with
the same image passes, of which an image of a step takes three: for each start at most as many as the search's evaluations take,
but for one epoch.

The examples that judge have to be new to both networks. Validation images are not where they bred the search's best: on digits turned by 45 degrees
the search's best had .990 on validation and .964 on test images, and after training .980 on both. Training images are, in folds, where the
search looked at none of their labels. Where the head is refitted, it looked at both alike, and validation images judge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from popgen.archs import build
from popgen.configs.search import SearchConfig
from popgen.configs.spec import Recipe
from popgen.data import DataSet
from popgen.fitness import Fitness
from popgen.jobs.searching.checks import ArchSearch
from popgen.jobs.searching.tuning.training import Training, finetune_recipe
from popgen.progress import duration
from popgen.tasks import CLASSIFICATION

# The best of these in a table is the rival start: with a fitted head random weights may be better than networks for other data.
# An adapter's rival is one that changes nothing, which is LoRA from zero.
RIVALS, ADAPTER_RIVALS = ("best_zoo", "base", "zoo_transplant", "random"), ("frozen",)
_FEW = 500  # training images below which batch norm is frozen, and more epochs pay
_RATES = (0.03, 0.1)  # learning rates that are tried from every start
# Augmentations of images in colour, which are mostly photographs, that are tried at the first of the rates; the first one is kept unless
# another is better by a standard error. Few labels choose by chance: among three recipes the folds of 160 chose worse ones than the
# largest rate on augmented images (.678 against .688 on other images, two draws and starts), which therefore is all that is tried there.
# Images in grey are mostly digits, letters and scans, which are not the same when they are mirrored.
_OF_COLOUR = ("flip-crop", "none")
# Shares of the way from a start to where its training ends, among which held-out examples choose: see `Plan.shares`.
_SHARES = (0.125, 0.25, 0.5, 0.75, 1.0)
_FEW_BATCH = 16
_FEW_EPOCHS, _EPOCHS = 20, 10  # the most
_OF_A_STEP = 3  # passes of an image in a step: the gradient takes two
_FEW_PASSES = 60_000  # the least with few images, which is a minute of a ResNet20 for 32x32 images on one core
_FEW_FOLDS, _FOLDS = 5, 3
_FEWEST_VAL = 50  # validation images below which training images are held out in folds instead
_FEWEST = 10  # training images below which folds say nothing


@dataclass(frozen=True)
class Plan:
    """Every start is trained for so many epochs by each of some recipes, in `folds` of the training examples where validation cannot judge.

    Attributes:
        augments: the augmentations of images that are tried; a later one is taken only where it is clearly better.
        shares: weights between start and end of a training are judged, too, and the best ones are its result: WiSE-FT (arXiv 2109.01903).
            They cost no training, and large rates and many epochs overfit few examples less so.
    """

    training: Training
    rates: tuple[float, ...]
    epochs: int
    folds: int  # 0: validation examples judge
    starts: int = 2  # the search's best, the rival where the table has rivals, and the others of an ensemble
    per_image: float = 0.0  # seconds that an image of a step takes
    augments: tuple[str, ...] = ("none",)
    shares: tuple[float, ...] = (1.0,)

    def at(self, rate: float, augment: str) -> Training:
        """The training at a learning rate, on images that are augmented so."""
        return replace(self.training, recipe=self.training.recipe.model_copy(update={"lr": rate, "augment": augment}))

    @property
    def recipes(self) -> int:
        """How many recipes are tried from a start: each augmentation at the first rate, and one of them at the others."""
        return len(self.augments) + len(self.rates) - 1

    def images(self, data: DataSet) -> int:
        """Images of all steps of an epoch in all trainings from one start."""
        n, recipes = len(data.train), self.recipes
        return (self.folds - 1) * n * recipes + n if self.folds else n * recipes

    def judged_by(self, data: DataSet) -> str:
        """What decides, in words."""
        if self.folds:
            return f"{self.folds} held-out folds of {len(data.train)} training {data.noun}"
        return f"{len(data.val)} validation {data.noun}"

    def within(self, seconds: float, data: DataSet) -> Plan | None:
        """The plan with as many epochs as there is time for; None where there is none for one."""
        epochs = int(seconds / (self.per_image * self.starts * self.images(data)))
        return replace(self, epochs=min(epochs, self.epochs)) if epochs else None


def why_not(config: SearchConfig, one: ArchSearch) -> str | None:
    """The reason why the winner of a search is not fine-tuned; None where it is."""
    data, fitness = one.data, one.fitness
    if fitness.task.name != CLASSIFICATION:
        return f"it is for classification, {one.arch} does {fitness.task.name}; --finetune-epochs trains it"
    if fitness.label_free:
        return "the search looks at no labels"
    if config.objectives != ["loss"]:
        return f"training lowers the loss, and the search is for {', '.join(config.objectives)}"
    if config.split == "train":
        return "candidates are scored on the training split, and nothing is left to judge a training by"
    if _needs_folds(data) and len(data.train) < _FEWEST:
        return f"{len(data.train)} labelled {data.noun} are too few to judge a training by"
    return None


def make_plan(config: SearchConfig, one: ArchSearch, fitness: Fitness) -> Plan:
    """The plan for a search with these settings and a Fitness whose treatment of batch norm is decided."""
    data, spec = one.data, fitness.spec
    parts = [] if one.mask is None else _searched_parts(one, fitness)
    recipe = finetune_recipe(config, spec, parts)
    few, by_sgd = len(data.train) < _FEW, recipe.optimizer == "sgd"
    if few and by_sgd and config.finetune.batch is None:
        recipe = recipe.model_copy(update={"batch": _FEW_BATCH})
    if few or one.mask is not None:
        recipe = recipe.model_copy(update={"batch_norm": "frozen"})
    augments, rates = _tried(config, recipe, data, few)
    most = _FEW_EPOCHS if few and by_sgd else _EPOCHS
    folds = (_FEW_FOLDS if few else _FOLDS) if _needs_folds(data) or is_unseen(fitness) else 0
    starts = 1 if config.baselines == "none" else 2
    training, shares = Training.of(config, recipe), _SHARES if by_sgd else (1.0,)
    plan = Plan(training, rates, most, folds, max(starts, config.ensemble), augments=augments, shares=shares)
    passes = max(config.evaluations * fitness.images / fitness.cost, _FEW_PASSES if few else 0)
    epochs = int(passes / (_OF_A_STEP * plan.images(data)))
    if not epochs and plan.recipes > 1:
        plan = replace(plan, rates=rates[:1], augments=augments[:1])
        epochs = int(passes / (_OF_A_STEP * plan.images(data)))
    return replace(plan, epochs=max(1, min(epochs, plan.epochs)))


def _tried(config: SearchConfig, recipe: Recipe, data: DataSet, few: bool) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """The augmentations and the learning rates to choose from."""
    if recipe.optimizer != "sgd":
        return (recipe.augment,), (recipe.lr,)
    rates = _RATES if config.finetune.lr is None else (recipe.lr,)
    if config.finetune.augment != "auto" or data.train.inputs.dim() != 4 or data.train.inputs.shape[1] == 1:
        return (recipe.augment,), rates
    return (_OF_COLOUR[:1], rates[-1:]) if few else (_OF_COLOUR, rates)


def cost_of(plan: Plan, data: DataSet, fitness: Fitness) -> float:
    """The evaluations that the trainings from one start cost."""
    return _OF_A_STEP * plan.epochs * plan.images(data) * fitness.cost / fitness.images


def is_unseen(fitness: Fitness) -> bool:
    """Whether a search looks at no label of the training examples."""
    return fitness.head != "refit" and fitness.sgd is None


def with_known_examples(plan: Plan, data: DataSet) -> Plan:
    """The plan where the zoo's networks know the training examples, so that validation examples judge if there are enough."""
    return plan if _needs_folds(data) else replace(plan, folds=0)


def announcement(plan: Plan, data: DataSet) -> str:
    """What will be done after the search, and about how long it takes."""
    about = duration(plan.per_image * plan.epochs * plan.starts * plan.images(data))
    others = (
        " and the best start without a search are" if plan.starts == 2 else f" and {plan.starts - 1} other starts are"
    )
    return (
        f"after the search its best{others if plan.starts > 1 else ' is'} fine-tuned, {_epochs(plan.epochs)} at the learning "
        f"rate{'s' if len(plan.rates) > 1 else ''} {' and '.join(f'{rate:g}' for rate in plan.rates)}"
        f"{_augmented(plan.augments)}, about {about}; "
        f"{plan.judged_by(data)} decide (--finetune never leaves it out)"
    )


def _augmented(augments: tuple[str, ...]) -> str:
    if len(augments) > 1:
        return ", on images as they are and on mirrored and shifted ones"
    return "" if augments == ("none",) else ", on mirrored and shifted images"


def seconds_of_image(plan: Plan, fitness: Fitness, data: DataSet) -> float:
    """The seconds that an example of a step takes, measured on a fresh network."""
    spec = fitness.finished
    return plan.training.seconds(spec, spec.to_flat(build(spec.config, seed=0).state_dict()), data.train)


def held_out(data: DataSet, folds: int) -> Sequence[torch.Tensor]:
    """Indices of the training examples of each fold; every fold has the classes in their proportions."""
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
    order = order[data.train.targets[order].argsort(stable=True)]
    return [order[fold::folds] for fold in range(folds)]


def _epochs(count: int) -> str:
    return f"{count} epoch{'' if count == 1 else 's'}"


def _needs_folds(data: DataSet) -> bool:
    return data.is_left_out or len(data.val) < _FEWEST_VAL


def _searched_parts(one: ArchSearch, fitness: Fitness) -> list[str]:
    """The tensors that are searched, and the head where it is refitted; the others stay those of the base."""
    assert one.mask is not None
    names = one.mask.trained(fitness.spec)
    if fitness.head == "refit":
        names += [t.name for t in fitness.finished.tensors if t.name.startswith(f"{fitness.finished.head}.")]
    return list(dict.fromkeys(names))
