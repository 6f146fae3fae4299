"""Rows by class name or a fitted head: what is better for networks on images that the head was not fitted to."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from popgen.data import load_data
from popgen.fitness import Fitness, make_fitness
from popgen.fitness.choose_head import named_or_fitted
from popgen.types import Flat
from popgen.zoo import Zoo

CLASSES = tuple("0123456789")


def choices(data: str) -> tuple[Fitness, Fitness, Flat]:
    zoo = Zoo.open("digits")
    spec, loaded = zoo.spec("cnn-s"), load_data(data)
    named = make_fitness(spec, loaded, CLASSES, head="remap")
    networks = zoo.matrix(zoo.select("cnn-s", "digits/rotate:0", held_out=False))
    return named, make_fitness(spec, loaded, CLASSES, head="refit"), networks


def test_a_fitted_head_is_chosen_where_the_names_mean_something_else() -> None:
    named, fitted, networks = choices("digits/rotate:90/classes:7+1+4")
    chosen, why = named_or_fitted(named, fitted, networks)
    assert chosen is fitted
    by_name, with_fit = (sum(f.score(flat).score for flat in networks) / len(networks) for f in (named, fitted))
    assert with_fit > by_name + 0.1
    assert f"{by_name:.3f} accuracy with rows by class name, {with_fit:.3f} with a fitted head" in why


def test_rows_by_name_are_kept_where_few_labels_say_less_than_the_zoo_knows() -> None:
    named, fitted, networks = choices("digits/rotate:0/labels:12")
    assert named_or_fitted(named, fitted, networks)[0] is named


def test_networks_that_are_not_finite_choose_nothing() -> None:
    named, fitted, networks = choices("digits/rotate:90/classes:7+1+4")
    assert named_or_fitted(named, fitted, torch.full_like(networks, torch.nan))[0] is named


@pytest.mark.usefixtures("here")
def test_a_search_around_experts_says_which_head_it_takes(popgen: Any) -> None:
    data = "digits/rotate:90/classes:7+1+4"
    options = ("--zoo", "digits", "--space", "low-rank", "--evaluations", 40, "--workers", 0)
    called = popgen("search", "--arch", "cnn-s", "--data", data, *options, "--baselines", "none", "--json")
    assert called.results[0]["details"]["head"] == "refit"
    assert "cnn-s: head refit: 3 networks of the zoo have" in called.err
    asked = popgen("search", "--arch", "cnn-s", "--data", data, *options, "--head", "remap", "--dry-run")
    assert asked.json["archs"]["cnn-s"]["head"] == "remap"
