"""One training of a network after a search: the recipe, the images, and the seconds that it takes."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from popgen.archs import ArchSpec, build
from popgen.archs.classifiers.inputs import SequenceInputs
from popgen.archs.inputs import ImageInputs
from popgen.configs.search import SearchConfig
from popgen.configs.spec import Recipe
from popgen.data import Part
from popgen.errors import BadInput
from popgen.json_text import json_text
from popgen.networks.threads import threads
from popgen.networks.train import fit

_OF_NETWORKS = Recipe(optimizer="sgd", momentum=0.9, weight_decay=5e-4, lr=0.03, batch=50)
# With 64 labels of tweets' emotions ten epochs at .003 took LoRA from .642 to .71 on test texts, at .001 to .68.
_OF_ADAPTERS = Recipe(optimizer="adamw", weight_decay=0, lr=0.003, batch=16)
# With 64 labels of tweets' emotions six epochs took all of MiniLM, with a fitted head, from .475 to .62 on 200 test texts; SGD at
# .03, as for other networks, left it at .465.
_OF_TEXTS = Recipe(optimizer="adamw", weight_decay=0.01, lr=5e-5, batch=16)
CLIP = 1.0  # the largest norm of a gradient; without it the first steps destroy a head that was refitted in closed form
_TIMED = 3  # batches that are timed to estimate the time of all


@dataclass(frozen=True)
class Training:
    """A recipe, the seed of the order of the images, and the device."""

    recipe: Recipe
    seed: int
    device: str

    @classmethod
    def of(cls, config: SearchConfig, recipe: Recipe) -> Training:
        """The training by a recipe with the seed and the device of a search."""
        device = "cuda" if config.compute.gpus and torch.cuda.is_available() else "cpu"
        return cls(recipe, config.seed, device)

    def key(self, spec: ArchSpec, flat: Tensor, data: str, *more: object) -> str:
        """A hash of the network, the images, whose hash is `data`, the recipe, and of what else the result depends on."""
        recipe = self.recipe.model_dump(exclude=set() if self.recipe.parts else {"parts"})
        how = [spec.config.to_json(), data, recipe, CLIP, *more, self.seed]
        return hashlib.sha256(flat.cpu().numpy().tobytes() + json_text(how).encode()).hexdigest()

    def run(self, spec: ArchSpec, flat: Tensor, part: Part, epochs: int) -> Tensor:
        """Weights (p,) after so many epochs on the examples, from the weights `flat` (p,)."""
        with threads(1):
            net = build(spec.config, seed=0)
            net.load_state_dict(spec.to_state(flat.cpu()), strict=False)
            fit(
                net.to(self.device),
                spec.config,
                Part(part.inputs.to(self.device), part.targets.to(self.device)),
                self.recipe.model_copy(update={"epochs": epochs}),
                torch.Generator().manual_seed(self.seed),
                clip=CLIP,
            )
        return spec.to_flat(net.cpu().state_dict())

    def seconds(self, spec: ArchSpec, flat: Tensor, part: Part) -> float:
        """An estimate of the seconds that an example of a step takes."""
        some = [part.take(torch.arange(min(len(part), n * self.recipe.batch))) for n in (1, _TIMED)]
        self.run(spec, flat, some[0], 1)  # the first call fills caches
        began = time.perf_counter()
        self.run(spec, flat, some[1], 1)
        return (time.perf_counter() - began) / len(some[1])


def check_finetune(config: SearchConfig, specs: Sequence[ArchSpec], has_moved: bool) -> None:
    """Refuse settings of fine-tuning that do not go with the architectures.

    Args:
        has_moved: whether a generator moves only some tensors of each architecture.

    Raises:
        BadInput: there are no parts to train, or what an architecture reads cannot be mirrored.
    """
    if config.finetune.parts and not (config.parts or has_moved):
        raise BadInput(
            "--finetune-parts needs parts", "it trains the tensors of --parts alone", "Name them with --parts."
        )
    for spec in specs:
        if config.finetune.augment == "flip-crop" and not isinstance(spec.config.inputs, ImageInputs):
            raise BadInput(
                f"--finetune-augment flip-crop mirrors and shifts images, and {spec.name!r} reads {spec.config.inputs.kind}",
                "",
                "Leave --finetune-augment out.",
            )


def finetune_recipe(config: SearchConfig, spec: ArchSpec, parts: Sequence[str] = ()) -> Recipe:
    """The recipe of fine-tuning, whose epochs are set later.

    Args:
        spec: the architecture, whose kind has a recipe of its own.
        parts: names of the tensors that are trained; () stands for all.
    """
    recipe = _OF_TEXTS if spec.config.inputs.kind == SequenceInputs.kind else _OF_NETWORKS
    recipe = _OF_ADAPTERS if spec.is_adapter else recipe
    augment = None if config.finetune.augment == "auto" else config.finetune.augment
    given = {"lr": config.finetune.lr, "batch": config.finetune.batch, "augment": augment}
    own = {name: value for name, value in given.items() if value is not None}
    return recipe.model_copy(update={**own, "parts": list(parts)})
