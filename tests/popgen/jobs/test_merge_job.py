"""`popgen merge`: the job and the command, on the digits zoo and on zoos of changed copies of its networks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from tiny_bases import save_base
from tiny_lm import save_llama, save_text

import popgen
from popgen.archs import ArchSpec, arch_config, build
from popgen.archs.outside import pretrained_state
from popgen.data import load_data
from popgen.errors import BadInput, NotFound
from popgen.hub.kinds import kind_of
from popgen.merging import METHODS
from popgen.networks.forward import task_score
from popgen.weights.align import permuted
from popgen.zoo import Checkpoint, Zoo

PAIR = ["mlp-s/digits/rotate:30/s0", "mlp-s/digits/rotate:60/s0"]


def changed_zoo(folder: Path, records: list[tuple[Checkpoint, torch.Tensor]]) -> str:
    zoo = Zoo.create(folder, "changed")
    zoo.add(records)
    return str(folder)


def test_all_methods_on_the_experts_own_data(popgen: Any, here: Path) -> None:
    options = ("--data", "own", "--steps", 3, "--fisher-images", 4, "--images", 200)
    called = popgen("merge", "--zoo", "digits", "--experts", "mlp-s/digits/rotate:[36]0/s0", *options, "--json")
    found = called.json
    assert found["experts"] == PAIR and found["base"] == "the start of the zoo digits" and found["aligned"] == []
    assert found["data"] == ["digits/rotate:30", "digits/rotate:60"] and found["left_out"] == {}
    rows = {row["name"]: row for row in found["rows"]}
    assert list(rows) == [*PAIR, "base", *METHODS]
    assert json.loads((here / "merged" / "result.json").read_text()) == found
    spec, datas = Zoo.open("digits").spec("mlp-s"), [load_data(name) for name in found["data"]]
    for method in METHODS:
        state = load_file(rows[method]["weights"])
        for split in ("val", "test"):
            scores = [task_score(spec, spec.to_flat(state), data, split) for data in datas]
            assert [one[f"{split}_accuracy"] for one in rows[method]["by_data"]] == pytest.approx(scores)
            assert rows[method][f"{split}_accuracy"] == pytest.approx(sum(scores) / 2)
    best = max(METHODS, key=lambda name: rows[name]["val_accuracy"])
    assert rows[found["best"]]["val_accuracy"] == rows[best]["val_accuracy"]
    assert rows["greedy_soup"]["val_accuracy"] >= max(rows[name]["val_accuracy"] for name in PAIR)
    card = ModelCard.load(here / "merged" / "README.md")
    assert kind_of(here / "merged").name == "merged networks" and card.data.license == "bsd-3-clause"
    assert f"merged-{found['best']}.safetensors" in card.text and len(card.data.eval_results) == 4


def test_without_data_only_what_needs_no_images_is_made(popgen: Any, here: Path) -> None:
    called = popgen("merge", "--zoo", "digits", "--experts", ",".join(PAIR))
    assert "no regmean: regmean needs images" in called.err and "one start: their units correspond" in called.err
    assert "without labels none of them is known to be the best" in called.out
    files = {path.name for path in (here / "merged").glob("*.safetensors")}
    assert files == {f"merged-{name}.safetensors" for name in ("uniform_soup", "task_arithmetic", "ties", "dare")}
    assert "merged-uniform_soup.safetensors" in (here / "merged" / "README.md").read_text()


def test_one_method_from_python(tmp_path: Path) -> None:
    made = popgen.merge(PAIR, "digits", str(tmp_path / "out"), "ties", base="mlp-s/digits/rotate:0/s0", scale=0.5)
    assert made.best == "ties" and made.base == "mlp-s/digits/rotate:0/s0"
    [row] = made.merges
    assert (
        row.what == "keep 0.2, scale 0.5"
        and row.val is None
        and row.weights == str(tmp_path / "out/merged-ties.safetensors")
    )


def test_networks_of_independent_runs_are_aligned(tmp_path: Path) -> None:
    """The soup of a network and of the same network with its units in another order is that network."""
    zoo = Zoo.open("digits")
    record = zoo.record("resnet-s/digits/rotate:30/s0")
    flat = zoo.matrix([record])[0]
    other = record.model_copy(update={"id": "other", "lineage": "other", "parent": None, "seed": 1})
    own = changed_zoo(tmp_path / "zoo", [(record, flat), (other, permuted(zoo.spec("resnet-s"), flat, seed=3))])
    said: list[str] = []
    from popgen.configs.merge import MergeConfig
    from popgen.jobs.merging.job import merge_experts

    config = MergeConfig(experts=["*"], zoo=own, method="uniform_soup")
    made = merge_experts(config, str(tmp_path / "out"), said.append)
    assert made.aligned == ["other"] and made.base is None
    assert any(f"1 experts of other runs are aligned to {record.id} by weights" in text for text in said)
    merged = zoo.spec("resnet-s").to_flat(load_file(made.merges[0].weights or ""))
    assert torch.allclose(merged, flat, atol=1e-6)
    with pytest.raises(BadInput, match="ties needs a base"):
        popgen.merge("*", own, str(tmp_path / "ties"), "ties")
    by_images = merge_experts(
        config.model_copy(update={"data": ["digits/rotate:30"]}), str(tmp_path / "b"), said.append
    )
    assert by_images.aligned == ["other"] and "by activations on 256 images" in said[-1]


def test_a_base_of_another_zoo_is_one_start(tmp_path: Path) -> None:
    zoo = Zoo.open("digits")
    records = [zoo.record(name) for name in PAIR]
    tuned = [one.model_copy(update={"parent": "start:base#start", "lineage": one.id}) for one in records]
    own = changed_zoo(tmp_path / "zoo", list(zip(tuned, zoo.matrix(records), strict=True)))
    start = zoo.record("mlp-s/digits/rotate:0/s1").model_copy(update={"id": "start", "parent": None, "lineage": "x"})
    base = changed_zoo(tmp_path / "base", [(start, zoo.matrix([zoo.record("mlp-s/digits/rotate:0/s1")])[0])])
    made = popgen.merge("*", own, str(tmp_path / "out"), "ties", base=f"{base}#start")
    assert made.aligned == [] and made.base == f"{base}#start"
    assert made.made_from["bases"][made.base] == "BSD-3-Clause"


def test_images_without_labels(here: Path, popgen: Any) -> None:
    from PIL import Image

    (here / "flat").mkdir()
    for number, image in enumerate(load_data("digits/rotate:45").train.inputs[:30, 0]):
        Image.fromarray((image * 255).byte().numpy()).save(here / "flat" / f"{number:02d}.png")
    options = ("--experts", ",".join(PAIR), "--data", "folder:flat", "--method", "regmean")
    called = popgen("merge", "--zoo", "digits", *options, "--json")
    [row] = [row for row in called.json["rows"] if row["name"] == "regmean"]
    assert row["passes"] == 60 and row["val_accuracy"] is None and called.json["best"] == "regmean"
    called = popgen("merge", "--zoo", "digits", *options[:-1], "greedy_soup", "--out", "greedy", code=4)
    assert "greedy_soup needs labelled validation images" in called.err


@pytest.mark.usefixtures("here")
def test_labels_of_other_classes_are_not_used(popgen: Any) -> None:
    options = ("--data", "digits/classes:0+1+2", "--method", "uniform_soup")
    called = popgen("merge", "--zoo", "digits", "--experts", ",".join(PAIR), *options, "--json")
    assert "are not the networks'; labels are not used" in called.err
    assert called.json["rows"][-1]["val_accuracy"] is None


@pytest.mark.parametrize(
    ("experts", "options", "error", "text"),
    [
        ([PAIR[0]], {}, BadInput, "names 1 checkpoint of the zoo digits"),
        ([*PAIR, "mlp-s/digits/rotate:31/s0"], {}, NotFound, "no checkpoint called 'mlp-s/digits/rotate:31/s0'"),
        (["vit-*"], {}, NotFound, "no checkpoint of the zoo digits matches 'vit-\\*'"),
        ([PAIR[0], "cnn-s/digits/rotate:30/s0"], {}, BadInput, "of several architectures: cnn-s, mlp-s"),
        (PAIR, {"base": "cnn-s/digits/rotate:30/s0"}, BadInput, "base cnn-s/digits/rotate:30/s0 is a cnn-s"),
        (PAIR, {"base": "nothing"}, NotFound, "no checkpoint called 'nothing'"),
        (PAIR, {"data": ["digits"] * 3}, BadInput, "3 data sets are named for 2 experts"),
        (PAIR, {"method": "soup"}, NotFound, "no merging method called 'soup'"),
        (PAIR, {"method": "fisher"}, BadInput, "fisher needs images"),
        (PAIR, {"method": "greedy_soup"}, BadInput, "greedy_soup needs labelled validation images"),
        (PAIR, {"keep": 0.0}, BadInput, "keep"),
    ],
)
def test_errors(tmp_path: Path, experts: list[str], options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        popgen.merge(experts, "digits", str(tmp_path / "out"), **options)
    assert not (tmp_path / "out").exists()


def test_heads_of_different_classes_and_a_full_folder_are_refused(tmp_path: Path) -> None:
    zoo = Zoo.open("digits")
    records = [zoo.record(name) for name in PAIR]
    changed = [records[0], records[1].model_copy(update={"classes": tuple("abcdefghij")})]
    own = changed_zoo(tmp_path / "zoo", list(zip(changed, zoo.matrix(records), strict=True)))
    with pytest.raises(BadInput, match="answer with different classes\n0, 1, 2, 3, ... and a, b, c, d, ..."):
        popgen.merge("*", own, str(tmp_path / "out"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(BadInput, match="is not an empty folder"):
        popgen.merge(PAIR, "digits", str(tmp_path / "full"))


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[str]]:
    """A zoo of two adapters that share a start and one that does not, and two data sets of texts."""
    folder = tmp_path_factory.mktemp("adapters")
    save_base(folder / "base")
    spec = ArchSpec.from_config(f"lora:{folder / 'base'}/r:2/layers:1-2/context:16")
    start, noise = spec.to_flat(build(spec.config, seed=0).state_dict()), torch.Generator().manual_seed(0)
    zoo = Zoo.create(folder / "zoo", "adapters")
    parents = {"a": "start:0", "b": "start:0", "c": None}
    zoo.add(
        (
            Checkpoint(id=name, arch=spec.name, arch_config=spec.config, data="x", lineage=name, parent=parent),
            start + 0.1 * torch.randn(spec.size, generator=noise),
        )
        for name, parent in parents.items()
    )
    zoo.set_starts({spec.name: start})
    names = []
    for task, words in {"taste": ("bad", "good"), "heat": ("cold", "warm")}.items():
        rows = [{"text": f"the meal {i} is {words[i % 2]}", "label": words[i % 2]} for i in range(60)]
        (folder / f"{task}.jsonl").write_text("\n".join(map(json.dumps, rows)))
        names.append(f"text:{folder}/{task}.jsonl")
    return str(folder / "zoo"), names


@pytest.mark.slow  # transformers and peft
def test_adapters_are_merged_by_their_factors(adapters: tuple[str, list[str]], tmp_path: Path) -> None:
    own, data = adapters
    made = popgen.merge("[ab]", own, str(tmp_path / "own"), data=data, steps=2)
    assert set(made.left_out) == {"fisher", "adamerging"} and made.aligned == []
    assert "for data sets of several lists of classes" in made.left_out["fisher"]
    [regmean] = [row for row in made.merges if row.name == "regmean"]
    assert regmean.what == "8 layers fitted by their inputs, the rest averaged" and regmean.val is not None
    made = popgen.merge("[ab]", own, str(tmp_path / "one"), data=data[0], steps=2, fisher_images=2)
    assert made.left_out == {} and [row.name for row in made.merges] == list(METHODS)
    with pytest.raises(BadInput, match="c and a are adapters that do not share a start"):
        popgen.merge("*", own, str(tmp_path / "all"))


@pytest.mark.slow  # transformers
def test_language_models_are_merged_by_perplexity(tmp_path: Path) -> None:
    config = arch_config(f"lm:{save_llama(tmp_path / 'tiny')}/context:24")
    spec, noise = ArchSpec.from_config(config), torch.Generator().manual_seed(0)
    start = spec.to_flat(pretrained_state(config.name))
    zoo = Zoo.create(tmp_path / "zoo", "lm")
    for name in ("sea", "kitchen"):
        text = f"lines:{save_text(tmp_path / f'{name}.txt', name, 2000)}"
        weights = start + 0.05 * torch.randn(spec.size, generator=noise)
        one = Checkpoint(
            id=name, arch=spec.name, arch_config=config, data=text, lineage=name, parent="start:pretrained"
        )
        zoo.add([(one, weights)])
    zoo.set_starts({spec.name: start})
    made = popgen.merge("*", str(zoo.folder), str(tmp_path / "out"), data="own")
    assert made.unit == "perplexity" and set(made.left_out) == {"fisher", "adamerging"}
    perplexities = {row.name: row.mean("val") or 0.0 for row in made.rows}
    merges = [row.name for row in made.merges]
    assert perplexities[str(made.best)] == min(perplexities[name] for name in merges)
    assert perplexities["greedy_soup"] <= min(perplexities["sea"], perplexities["kitchen"])
    assert made.to_json()["rows"][0]["unit"] == "perplexity"


def test_unknown_names_are_refused_before_torch_is_imported() -> None:
    code = (
        "import sys; from popgen.__main__ import run;"
        "codes = [run(['merge', '--zoo', 'digits', '--experts', 'a,b', *more]) for more in"
        " (['--method', 'tie'], ['--data', 'digit'])] + [run(['merge', '--zoo', 'nowhere', '--experts', 'a,b'])];"
        "print(codes, 'torch' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[3, 3, 3] False", ended.stderr
    assert "did you mean" in ended.stderr or "nearest known: ties" in ended.stderr
