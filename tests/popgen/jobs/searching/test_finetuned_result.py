"""The fine-tuning after a search, which chooses the result: `popgen search` with --finetune auto, the default."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import popgen as package
from popgen.archs import ArchSpec, build
from popgen.configs.search import SearchConfig
from popgen.configs.spec import Recipe
from popgen.data import load_data
from popgen.fitness import Scored
from popgen.jobs.search import prepare, search
from popgen.jobs.searching.tuning.auto import affordable
from popgen.jobs.searching.tuning.outcome import Gain, How, Outcome, is_clearly_better
from popgen.jobs.searching.tuning.plan import _SHARES as SHARES
from popgen.jobs.searching.tuning.plan import announcement, held_out, make_plan, with_known_examples
from popgen.networks.forward import network_outputs
from popgen.networks.train import fit
from popgen.zoo import Checkpoint, Zoo
from search import Budget, Population, SearchSettings, run_search

MLP = ("search", "--arch", "mlp-s", "--data", "digits/rotate:45", "--workers", 0, "--json", "--evaluations", 6)
AUTO = (*MLP, "--finetune", "auto", "--finetune-lr", 0.03)  # one rate
SPEC = ArchSpec.from_config("mlp-s")


def rows_of(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in result["rows"]}


def accuracy(file: Path | str, data: str, split: str) -> float:
    part = getattr(load_data(data), split)
    logits = network_outputs(SPEC, SPEC.to_flat(load_file(file)), part.inputs)
    return float((logits.argmax(1) == part.targets).float().mean())


@pytest.mark.slow  # seconds
def test_training_images_that_the_search_never_saw_choose_the_result(popgen: Any, here: Path) -> None:
    called = popgen(*AUTO, "--out", "run")
    (result,) = called.results
    rows, tuned = rows_of(result), result["details"]["tuned"]
    assert [row["name"] for row in result["rows"]][-3:] == ["search", "finetuned_zoo", "finetuned_search"]
    assert result["result"] == tuned["result"] == "finetuned_search"
    assert tuned["judge"] == "3 held-out folds of 1000 training images" and tuned["judge"] in called.err
    assert "1 epoch at the learning rate 0.03, about " in called.err and tuned["text"] in called.err
    # An image of a step takes three passes, and an evaluation one of each of 300 validation images.
    cost = 3 * 1 * (2 * 1000 + 1000) / 300
    evaluations = {name: rows[name]["evaluations"] for name in rows}
    assert evaluations["finetuned_search"] == 6 + cost and evaluations["finetuned_zoo"] == 52 + cost
    for name, file in (("finetuned_search", result["weights"]), ("search", tuned["searched_weights"])):
        for split in ("val", "test"):
            assert accuracy(file, "digits/rotate:45", split) == pytest.approx(rows[name][f"{split}_accuracy"])
    # By hand: from the search's best, by the recipe that is said, and as far of the way.
    with safe_open(result["weights"], framework="pt") as opened:
        card = opened.metadata()
    assert card["finetuned_from"] == "search"
    net, data = build("mlp-s"), load_data("digits/rotate:45")
    net.load_state_dict(load_file(tuned["searched_weights"]))
    recipe = Recipe(**json.loads(card["finetuned"]))
    assert (recipe.epochs, recipe.lr, recipe.batch, recipe.batch_norm) == (1, 0.03, 50, "train")
    fit(net, SPEC.config, data.train, recipe, torch.Generator().manual_seed(0), clip=1.0)
    start, end = SPEC.to_flat(load_file(tuned["searched_weights"])), SPEC.to_flat(net.state_dict())
    share = next(one["share"] for one in tuned["starts"] if one["start"] == "search")
    assert card["finetuned_share"] == f"{share:g}" and share in SHARES
    assert torch.allclose(start.lerp(end, share), SPEC.to_flat(load_file(result["weights"])), atol=1e-6)
    page = (here / "run" / "README.md").read_text()
    assert "found by search and fine-tuned" in page and tuned["text"] in page

    # What is finished is not trained again, and what is broken or of another start is.
    files = sorted((here / "run" / "tuning-mlp-s").iterdir())
    assert [file.name for file in files] == [
        "best_zoo-0.03.safetensors", "best_zoo-all.safetensors", "search-0.03.safetensors", "search-all.safetensors"
    ]  # fmt: skip
    files[0].write_bytes(b"torn")
    times = [file.stat().st_mtime_ns for file in files]
    shown = popgen("search", "--resume", "run", "--finetune", "auto", "--report")
    again = json.loads((here / "run" / "result.json").read_text())["results"][0]
    assert again["rows"] == result["rows"]
    same = [file.stat().st_mtime_ns == time for file, time in zip(files, times, strict=True)]
    assert same == [False, True, True, True]
    assert "result: finetuned_search\nweights: run/best-mlp-s.safetensors" in shown.out
    report = (here / "run" / "report.html").read_text()
    assert "The weights of mlp-s reach" in report and "the best checkpoint" in report


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_validation_images_choose_where_the_head_is_refitted(popgen: Any) -> None:
    (result,) = popgen(*AUTO, "--head", "refit", "--baselines", "none", "--out", "run").results
    tuned, rows = result["details"]["tuned"], rows_of(result)
    assert tuned["judge"] == "300 validation images" and [one["start"] for one in tuned["starts"]] == ["search"]
    assert result["result"] == ("finetuned_search" if tuned["starts"][0]["loss_gain"] > 0 else "search")
    gain = rows["finetuned_search"]["val_accuracy"] - rows["search"]["val_accuracy"]
    assert tuned["starts"][0]["gain"] == pytest.approx(gain, abs=1e-6)


@pytest.mark.slow
def test_few_labels_choose_in_folds(popgen: Any, here: Path) -> None:
    data = "digits/rotate:45/labels:40"
    command = ("search", "--arch", "mlp-s", "--data", data, "--workers", 0, "--json", "--evaluations", 6)
    (result,) = popgen(*command, "--head", "refit", "--finetune", "auto", "--out", "run").results
    tuned, rows, loaded = result["details"]["tuned"], rows_of(result), load_data(data)
    assert tuned["judge"] == "5 held-out folds of 40 training images" and tuned["epochs"] == 20
    one = next(one for one in tuned["starts"] if one["start"] == "search")
    augmented = "" if one["augment"] == "none" else f"-{one['augment']}"
    kept = load_file(here / "run" / "tuning-mlp-s" / f"search-{one['rate']:g}{augmented}.safetensors")["outputs"]
    assert kept.shape == (len(SHARES), 40, 10)
    right = float((kept[SHARES.index(one["share"])].argmax(1) == loaded.train.targets).float().mean())
    assert rows["finetuned_search"]["val_accuracy"] == pytest.approx(right), "that of examples that are held out"
    assert accuracy(result["weights"], data, "test") == pytest.approx(rows[result["result"]]["test_accuracy"])


@pytest.mark.slow
def test_training_that_does_not_help_leaves_the_search_its_result(popgen: Any, here: Path) -> None:
    (result,) = popgen(*MLP, "--finetune", "auto", "--finetune-lr", 1e4, "--baselines", "none", "--out", "run").results
    assert result["result"] == "search" == result["rows"][-1]["name"]
    assert result["details"]["tuned"]["text"].endswith("it does not help, and the best of the search is the result")
    assert not (here / "run" / "searched-mlp-s.safetensors").exists()
    found = accuracy(result["weights"], "digits/rotate:45", "test")
    assert found == pytest.approx(result["rows"][-1]["test_accuracy"])


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_only_searched_parts_are_trained(popgen: Any) -> None:
    popgen("retrieve", "--arch", "mlp-s", "--data", "digits/rotate:30", "--out", "base.safetensors")
    parts = ("--parts", "head", "--base", "base.safetensors", "--baselines", "none")
    (result,) = popgen(*AUTO, *parts, "--out", "run").results
    base, made = load_file("base.safetensors"), load_file(result["weights"])
    changed = {name for name in base if not torch.equal(base[name], made[name])}
    assert result["result"] == "finetuned_search" and changed == {f"{SPEC.head}.weight", f"{SPEC.head}.bias"}


@pytest.mark.slow
def test_a_stopped_fine_tuning_goes_on(here: Path) -> None:
    options: dict[str, Any] = {
        "evaluations": 6,
        "baselines": "none",
        "compute": {"workers": 0},
        "finetune": {"lr": 0.03},
    }
    config = SearchConfig(archs=["mlp-s"], data="digits/rotate:45", **options)
    whole = search(config, "whole", say=lambda _: None)[0]

    def stop(line: str) -> None:
        if "search fine-tuned at learning rate" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(config, "run", say=stop)
    assert (here / "run" / "best-mlp-s.safetensors").exists() and not (here / "run" / "result.json").exists()
    kept = here / "run" / "tuning-mlp-s" / "search-0.03.safetensors"
    then = kept.stat().st_mtime_ns
    [found] = package.search(resume="run")
    assert found.rows == whole.rows and kept.stat().st_mtime_ns == then
    assert found.result.name == "finetuned_search" and found.to_json()["result"] == "finetuned_search"


@pytest.mark.slow
@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--objective", "error"), "training lowers the loss, and the search is for error"),
        (("--objective", "mutual_information", "--head", "keep"), "the search looks at no labels"),
        (("--split", "train"), "candidates are scored on the training split, and nothing is left to judge"),
        (("--data", "digits/classes:3+5/labels:8"), "8 labelled images are too few to judge a training by"),
    ],
)
def test_why_a_result_is_not_fine_tuned(popgen: Any, options: tuple[Any, ...], why: str) -> None:
    called = popgen(*AUTO, "--baselines", "none", *options, "--out", "run")
    (result,) = called.results
    assert why in called.err and "tuned" not in result["details"] and result["result"] == "search"


@pytest.mark.usefixtures("here")
def test_never_says_nothing(popgen: Any) -> None:
    called = popgen(*MLP, "--finetune", "never", "--baselines", "none", "--out", "run")
    assert "fine-tun" not in called.err and called.results[0]["result"] == "search"


def test_a_plan_costs_at_most_what_the_search_does() -> None:
    config = SearchConfig(archs=["mlp-s"], data="digits/rotate:45", evaluations=400)
    [one] = prepare(config).searches
    plan = make_plan(config, one, one.fitness)
    assert (plan.rates, plan.folds, plan.training.recipe.batch_norm) == ((0.03, 0.1), 3, "train")
    assert plan.images(one.data) == 2 * 2 * 1000 + 1000
    assert plan.epochs == 400 * 300 // (3 * 5000) == 8
    known = with_known_examples(plan, one.data)
    assert known.folds == 0 and known.images(one.data) == 2000
    more = make_plan(config.model_copy(update={"evaluations": 10_000}), one, one.fitness)
    assert more.epochs == 10
    timed = replace(plan, per_image=0.001)
    shorter = timed.within(35.0, one.data)  # two starts of 5,000 images an epoch: ten seconds
    assert shorter is not None and shorter.epochs == 3 and timed.within(9.0, one.data) is None
    fewest = make_plan(config.model_copy(update={"evaluations": 6}), one, one.fitness)
    assert (fewest.epochs, fewest.rates, fewest.augments) == (1, (0.03,), ("none",)), "one recipe is all that fits"


def test_what_is_tried_depends_on_the_images_and_on_what_users_ask(tmp_path: Path) -> None:
    def plan(name: str, **finetune: Any) -> Any:
        config = SearchConfig(archs=["mlp-s"], data=name, evaluations=400, head="refit", finetune=finetune)
        [one] = prepare(config).searches
        return make_plan(config, one, one.fitness)

    images = np.random.default_rng(0).random((600, 3, 8, 8), dtype=np.float32)
    arrays = {
        f"{part}_{split}": of
        for split in ("train", "val", "test")
        for part, of in (("x", images), ("y", np.arange(600) % 3))
    }
    np.savez(tmp_path / "colour.npz", **arrays, classes=np.array(["a", "b", "c"]))
    colour = f"npz:{tmp_path / 'colour.npz'}"
    found = plan(colour)
    assert (found.augments, found.recipes) == (("flip-crop", "none"), 3) and plan("digits").augments == ("none",)
    few = plan(f"{colour}/labels:60")
    assert (few.augments, few.rates, few.recipes, few.epochs) == (("flip-crop",), (0.1,), 1, 20)
    data = load_data(colour)
    assert "rates 0.03 and 0.1, on images as they are and on mirrored and shifted ones, about" in announcement(
        found, data
    )
    assert "rate 0.1, on mirrored and shifted images, about" in announcement(few, data)
    asked = plan(colour, augment="none", lr=0.02)
    assert (asked.augments, asked.rates, asked.recipes) == (("none",), (0.02,), 1)
    assert plan("digits", augment="flip-crop").augments == ("flip-crop",)
    assert asked.at(0.1, "flip-crop").recipe.augment == "flip-crop"


def test_what_the_search_leaves_of_its_time_is_for_training(tmp_path: Path) -> None:
    config = SearchConfig(archs=["mlp-s"], data="digits/rotate:45", seconds=60)
    [one] = prepare(config).searches
    plan = replace(make_plan(config, one, one.fitness), epochs=5, per_image=0.001)  # an epoch takes ten seconds
    seeds = Population(np.zeros((2, 3)), ["drawn"] * 2)
    settings = SearchSettings(budget=Budget(evaluations=4), batch=2)
    found = run_search(lambda _: 1.0, seeds, settings, history_path=tmp_path / "history.jsonl", key="a")
    said: list[str] = []

    def left(**changed: Any) -> Any:
        return affordable(plan, config, one, replace(found, **changed), said.append)

    assert left(seconds=1.0) == plan and not said
    assert left(seconds=35.0).epochs == 2 and said == ["mlp-s: the search left time for 2 of 5 epochs of fine-tuning"]
    assert (
        left(seconds=55.0) is None
        and said[-1] == "mlp-s: the result is not fine-tuned: the search left no time of 60 s"
    )
    assert left(stopped_by="target") is None and said[-1].endswith("the search has reached its target")


def test_folds_hold_out_each_example_once_with_the_classes_in_proportion() -> None:
    data = load_data("digits/labels:40")
    folds = held_out(data, 5)
    assert torch.equal(torch.cat(list(folds)).sort().values, torch.arange(40))
    counts = torch.stack([data.train.targets[fold].bincount(minlength=10) for fold in folds])
    assert [len(fold) for fold in folds] == [8] * 5 and int((counts.max(0).values - counts.min(0).values).max()) <= 1


def test_the_network_with_the_lowest_loss_is_chosen() -> None:
    targets = torch.tensor([0, 1, 0, 1])
    right = torch.nn.functional.one_hot(targets, 2) * 4.0

    def scored(outputs: torch.Tensor) -> Scored:
        return Scored(SPEC, torch.zeros(1), 0.0, 0.0, outputs, targets)

    before = right.clone()
    before[0] = before[0].flip(0)
    gains = [
        Gain.of(name, How(0.1), scored(out), scored(before)) for name, out in (("search", right), ("best_zoo", -right))
    ]
    assert gains[0].gain == pytest.approx(0.25) and gains[1].gain == pytest.approx(-0.75)
    found = Outcome("4 images", 1, tuple(gains))
    assert found.result == "finetuned_search" and "which is not beyond chance" in found.text()
    assert Outcome("", 1, ()).result == "search" and "no start could be" in Outcome("", 1, ()).text()


def test_another_recipe_has_to_be_clearly_better() -> None:
    targets = torch.arange(40) % 2
    right = torch.nn.functional.one_hot(targets, 2) * 4.0

    def with_wrong(count: int, loss: float = 1.0) -> Scored:
        outputs = right.clone()
        outputs[:count] = outputs[:count].flip(1)
        return Scored(SPEC, torch.zeros(1), loss, 0.0, outputs, targets)

    first = with_wrong(10)
    assert is_clearly_better(with_wrong(2), first) and not is_clearly_better(first, first)
    assert not is_clearly_better(with_wrong(20), first)
    other = right.clone()
    other[11:20] = other[11:20].flip(1)  # nine wrong instead of ten, and others: the lower loss is chance
    assert not is_clearly_better(replace(first, outputs=other), first)
    endless = with_wrong(0, math.inf)
    assert is_clearly_better(first, endless) and not is_clearly_better(endless, endless)


@pytest.mark.slow
def test_validation_images_choose_where_the_zoo_knows_the_training_images(popgen: Any, here: Path) -> None:
    from popgen.networks.train import train_network

    spec, data = ArchSpec.from_config("mlp-s/hidden:12"), load_data("digits/noise:0.7")
    zoo = Zoo.create(here / "zoos" / "own", "own")
    state, _ = train_network(spec, data, Recipe(epochs=60, weight_decay=0), start=None, seed=0)
    one = Checkpoint(
        id="one", arch=spec.name, arch_config=spec.config, data=data.name, classes=data.classes, lineage="a"
    )
    zoo.add([(one, state)])
    zoo.finalize()
    command = ("search", "--arch", "mlp-s/hidden:12", "--data", data.name, "--zoo", "zoos/own", "--evaluations", 20)
    (result,) = popgen(*command, "--workers", 0, "--finetune", "auto", "--json", "--out", "run").results
    assert result["details"]["tuned"]["judge"] == "300 validation images"


@pytest.mark.usefixtures("here")
def test_random_weights_are_the_other_start_where_they_score_better(popgen: Any) -> None:
    packaged, zoo = Zoo.open("digits"), Zoo.create("useless", "useless")
    records = [record for record in packaged.select("mlp-s") if record.data in ("digits/rotate:30", "digits/rotate:60")]
    nothing = {name: 1e-4 * tensor for name, tensor in packaged.state(records[0]).items()}
    dead = nothing | {"1.bias": torch.full_like(nothing["1.bias"], -1.0)}  # ReLU lets nothing through
    zoo.add([(record.model_copy(update={"sha256": "", "shard": ""}), dead) for record in records[:1]])
    zoo.finalize()
    options = ("--zoo", "useless", "--head", "refit", "--finetune-lr", 0.01, "--out", "run")
    called = popgen(*MLP, "--finetune", "auto", *options)
    (result,) = called.results
    rows = rows_of(result)
    assert rows["random"]["val_accuracy"] > rows["best_zoo"]["val_accuracy"]
    assert "finetuned_random" in rows and "finetuned_zoo" not in rows
    assert result["result"] == "finetuned_random" and "from a random start" in called.err
