"""The rivals of a bench: soups, nearest checkpoints, samples, and trainings that a budget pays for."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import popgen.baselines.trained as trained
from popgen.baselines.gradient import latent_gradient
from popgen.baselines.latents import sampled
from popgen.baselines.rivals import RIVALS, RivalInputs, checkpoints_of_nearest, greedy_soup, rival_row
from popgen.baselines.trained import Training
from popgen.configs.spec import Recipe
from popgen.data import load_data
from popgen.fitness import make_fitness
from popgen.generator import Generator
from popgen.generator.unseen import find_target
from popgen.zoo import Zoo

ARCH, CLASSES = "mlp-s", tuple("0123456789")


@pytest.fixture(scope="module")
def given() -> RivalInputs:
    generator, zoo, data = Generator.from_pretrained("digits"), Zoo.open("digits"), load_data("digits/rotate:45")
    spec = generator.spec(ARCH)
    records = [
        r for r in zoo.select(ARCH, held_out=False) if r.data in ("digits/rotate:30", "digits/rotate:60", "digits")
    ]
    return RivalInputs(
        spec,
        data,
        make_fitness(spec, data, CLASSES),
        seed=0,
        evaluations=40,
        zoo=zoo,
        records=records,
        generator=generator,
        closest=["digits/rotate:285", "digits/rotate:60", "digits"],
        target=find_target(generator, ARCH),
        recipe=Recipe(lr=0.01),
    )


def test_nearest_are_the_checkpoints_on_the_closest_data_set_that_has_any(given: RivalInputs) -> None:
    found = torch.stack(list(checkpoints_of_nearest(given)))
    assert torch.equal(found, given.weights[[r.data == "digits/rotate:60" for r in given.records]])
    assert list(checkpoints_of_nearest(replace(given, closest=["digits/rotate:285"]))) == []


def test_a_soup_takes_in_what_lowers_the_loss(given: RivalInputs) -> None:
    [soup] = greedy_soup(given)
    losses = [given.fitness.loss_of(flat) for flat in given.weights]
    assert given.fitness.loss_of(soup) <= min(losses)
    by_hand, best = [given.ranked[0]], min(losses)
    for i in given.ranked[1:]:
        loss = given.fitness.loss_of(given.weights[[*by_hand, i]].mean(0))
        if loss <= best:
            by_hand, best = [*by_hand, i], loss
    assert len(by_hand) > 1 and torch.allclose(soup, given.weights[by_hand].mean(0), atol=1e-5)
    row = rival_row("soup", given)
    assert row is not None and row.evaluations == 2 * len(given.records)
    assert list(greedy_soup(replace(given, records=[]))) == []


def test_samples_are_those_of_the_generator(given: RivalInputs) -> None:
    assert given.generator is not None
    latents = given.generator.sample(ARCH, given.data, 3, seed=0)
    by_hand = given.generator.decoder(ARCH).weights_of_many(latents.flatten(1))
    assert torch.allclose(torch.stack(list(sampled(given, 3))), by_hand, atol=1e-6)
    assert list(sampled(replace(given, generator=None), 3)) == []
    rows = {name: rival_row(name, given) for name in ("sample", "samples", "shuffled_samples", "random_latents")}
    assert [row.evaluations for row in rows.values() if row is not None] == [1, 40, 40, 40]
    assert rows["samples"] is not None and rows["sample"] is not None and rows["random_latents"] is not None
    assert rows["samples"].val_loss <= rows["sample"].val_loss < rows["random_latents"].val_loss


def test_a_training_takes_what_the_starts_leave(given: RivalInputs) -> None:
    images, val = len(given.data.train), len(given.data.val)
    training = Training.of(replace(given, evaluations=300), starts=6)
    assert training == Training(epochs=int((300 - 6 - 1) * val / (3 * images)), images=images)
    assert training is not None and 280 < training.cost(replace(given, evaluations=300)) + 6 + 1 <= 300
    part = Training.of(replace(given, evaluations=3), starts=1)
    assert part == Training(1, val // 3) and Training.of(replace(given, evaluations=1), 0) is None


def test_a_training_lowers_the_loss_and_the_start_is_kept_where_it_does_not(given: RivalInputs) -> None:
    row, best, none = (rival_row(name, given) for name in ("finetuned_zoo", "best_zoo", "scratch"))
    assert row is not None and best is not None and none is not None
    assert row.val_loss < best.val_loss < none.val_loss and row.evaluations <= given.evaluations + 1
    ruined = rival_row("finetuned_zoo", replace(given, recipe=Recipe(lr=50.0, optimizer="sgd")))
    assert ruined is not None and ruined.val_loss == pytest.approx(best.val_loss, abs=1e-6)


def test_a_training_of_a_refitted_head_trains_the_finished_network(given: RivalInputs) -> None:
    data = load_data("digits/classes:1+7")
    refit = replace(given, data=data, fitness=make_fitness(given.spec, data, CLASSES, "refit"), evaluations=10)
    row = rival_row("finetuned_sample", replace(refit, evaluations=30))
    assert row is not None and row.scored is not None and row.scored.spec.config.classes == 2 and row.val_score > 0.9
    assert refit.passes_per_evaluation == len(data.val) + len(data.train)


def test_all_rivals_of_a_bench_are_registered() -> None:
    from popgen.baselines import clip_ridge
    from popgen.configs.bench import RIVALS as NAMES

    assert clip_ridge and trained and set(NAMES) <= set(RIVALS)


def test_a_latent_moves_where_its_network_loses_less_on_training_images(given: RivalInputs) -> None:
    start, moved = latent_gradient(given)
    on_train = make_fitness(given.spec, given.data, CLASSES, split="train")
    assert on_train.loss_of(moved) < on_train.loss_of(start)
    assert torch.equal(moved, list(latent_gradient(given))[1])  # the seed decides
    row = rival_row("latent_gradient", given)
    assert row is not None and row.evaluations <= given.evaluations


def test_a_latent_moves_by_episodes_where_heads_are_fitted(given: RivalInputs) -> None:
    refit = replace(given, fitness=make_fitness(given.spec, given.data, CLASSES, head="refit"), evaluations=20)
    start, moved = latent_gradient(refit)
    assert not torch.equal(start, moved) and bool(moved.isfinite().all())


def test_no_latent_moves_without_a_generator_or_where_rows_are_chosen_by_name(given: RivalInputs) -> None:
    assert list(latent_gradient(replace(given, generator=None))) == []
    three = load_data("digits/rotate:45/classes:7+1+4")
    remap = make_fitness(given.spec, three, CLASSES, head="remap")
    assert list(latent_gradient(replace(given, fitness=remap, data=three))) == []
    assert len(list(latent_gradient(replace(given, evaluations=17)))) == 1  # the budget is gone with the samples
