"""Training on images that are shown as variants."""

from __future__ import annotations

import pytest
import torch

from popgen.archs import ArchSpec, arch_config, build
from popgen.configs.spec import Recipe
from popgen.data import Part, load_data
from popgen.errors import BadInput
from popgen.networks.train import _batches, evaluate, train_network


def test_images_are_shown_as_variants() -> None:
    spec, data, inverted = ArchSpec.from_config("mlp-s"), load_data("digits"), load_data("digits/invert")
    plain, robust = (
        train_network(spec, data, Recipe(epochs=6, variants=variants), start=None, seed=0)[0]
        for variants in ([], ["invert", "invert/noise:0.1"])
    )
    assert evaluate(spec, plain, inverted.test)[1] < 0.5
    assert evaluate(spec, robust, inverted.test)[1] > 0.7
    assert evaluate(spec, robust, data.test)[1] > 0.7, "a third of the images is shown as it is"


def test_the_noise_of_variants_is_drawn_anew() -> None:
    part = Part(torch.full((16, 1, 8, 8), 0.5), torch.zeros(16, dtype=torch.long))
    recipe, config = Recipe(epochs=2, batch=16, variants=["noise:0.1"] * 99), arch_config("mlp-s")
    shown = torch.cat([inputs for inputs, _ in _batches(part, config, recipe, 16, torch.Generator().manual_seed(0))])
    assert len(shown.flatten(1).unique(dim=0)) == 32


def test_variants_are_drawn_by_the_seed() -> None:
    part = Part(torch.rand(40, 1, 8, 8), torch.zeros(40, dtype=torch.long))
    recipe, config = Recipe(epochs=1, batch=20, variants=["noise:0.1", "invert"]), arch_config("mlp-s")
    first, again, other = (
        torch.cat([inputs for inputs, _ in _batches(part, config, recipe, 20, torch.Generator().manual_seed(seed))])
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_parts_are_trained_alone(optimizer: str) -> None:
    spec, data = ArchSpec.from_config("mlp-s"), load_data("digits")
    start = spec.to_state(spec.to_flat(build("mlp-s", seed=0).state_dict()))
    recipe = Recipe(epochs=1, parts=["3.*"], optimizer=optimizer)
    state, _ = train_network(spec, data, recipe, start=start, seed=0)
    assert {name for name in state if not torch.equal(state[name], start[name])} == {"3.weight", "3.bias"}
    with pytest.raises(BadInput, match="no parameter of 'mlp-s' matches 'head'"):
        train_network(spec, data, Recipe(epochs=1, parts=["3.*", "head"]), start=start, seed=0)
