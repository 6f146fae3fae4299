"""A zoo of adapters, a generator of adapters, and a search for an adapter from few labels, on a tiny base and texts of our own."""

from __future__ import annotations

import gzip
import json
import random
import runpy
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_bases import save_base

from popgen.archs import ArchConfig, ArchSpec
from popgen.configs.generator import read_spec
from popgen.data import load_data
from popgen.generator import Generator
from popgen.generator.model.conditions import Description
from popgen.hub.kinds import SEARCH
from popgen.networks.forward import network_outputs
from popgen.zoo import Zoo

pytestmark = pytest.mark.slow  # a zoo of adapters is built and a generator trained

ARCH = "lora-tiny"
# For each task: its description, its classes with a phrase for each, and the words of which each class's texts have one.
TASKS: dict[str, tuple[str, dict[str, str], dict[str, list[str]]]] = {
    "taste": ("Decide whether a review is good.", {"no": "bad", "yes": "good"}, {"no": ["bad", "dull"], "yes": ["good", "fine"]}),
    "topic": ("Decide what a review is about.", {"f": "film", "m": "meal"}, {"f": ["film", "movie"], "m": ["food", "meal"]}),
    "heat": ("Decide how warm it is.", {"c": "cold", "w": "warm"}, {"c": ["cold"], "w": ["warm"]}),
    "mine": ("Decide whether a meal is good.", {"no": "dull food", "yes": "fine food"}, {"no": ["dull", "cold"], "yes": ["fine", "warm"]}),
}  # fmt: skip
SPEC = """
zoo:
  name: tiny
  archs: [{{name: lora-tiny, like: "lora:{base}/r:2/layers:1-2/context:16"}}]
  data: ["text:{tasks}/taste.jsonl", "text:{tasks}/topic.jsonl", "text:{tasks}/heat.jsonl"]
  seeds: [0, 1]
  recipe: {{epochs: 2, batch: 8, lr: 0.01, weight_decay: 0.0, examples: 40}}
  workers: 0
generator:
  vae: {{latent_tokens: 1, latent_width: 4, width: 16, behaviour: 0, steps: 30, batch: 4, gate: 1}}
  encoders: {{images: "text:text-tiny", text: text-tiny, labels: false, images_per_class: 4, width: 16, out: 8, steps: 10}}
  prior: {{width: 16, layers: 1, steps: 10, batch: 8}}
  tune: {{steps: 6, networks: 2, images: 16, episodes: 1.0}}
  describe: {{steps: 0}}
  restore: {{rank: 2, steps: 2, networks: 2, images: 8}}
"""


def write_tasks(folder: Path) -> None:
    """Each task as a table of texts with a split, and tasks.json beside them."""
    folder.mkdir()
    rng = random.Random(0)
    for name, (_, _, words) in TASKS.items():
        rows = []
        for i in range(100):
            label = rng.choice(list(words))
            text = f"the {rng.choice(['story', 'review', 'film'])} {i} is {rng.choice(words[label])} and very {rng.choice('abc')}"
            rows.append({"text": text, "label": label, "split": "train" if i < 60 else "val" if i < 80 else "test"})
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    described = {name: {"description": text, "labels": phrases} for name, (text, phrases, _) in TASKS.items()}
    (folder / "tasks.json").write_text(json.dumps(described))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base, tasks, a zoo and a generator."""
    folder = tmp_path_factory.mktemp("adapters")
    save_base(folder / "base")
    write_tasks(folder / "tasks")
    (folder / "spec.yaml").write_text(SPEC.format(base=folder / "base", tasks=folder / "tasks"))
    return folder


@pytest.fixture(scope="module")
def trained(place: Path) -> Path:
    from popgen.api import train  # the fixture lives as long as the module, longer than the command line's

    train(str(place / "spec.yaml"), str(place / "generator"), zoo=str(built(place).folder))
    return place


def _images(place: Path) -> Zoo:
    from popgen.zoo import build_zoo

    return build_zoo(read_spec(str(place / "images.yaml"))[0].zoo, place / "images", workers=0, progress=False)


def built(place: Path) -> Zoo:
    from popgen.zoo import build_zoo

    content, _ = read_spec(str(place / "spec.yaml"))
    return build_zoo(content.zoo, place / "zoo", workers=0, progress=False)


def test_a_zoo_holds_adapters_of_tasks_with_classes_of_their_own(trained: Path) -> None:
    zoo = Zoo.open(str(trained / "zoo"))
    assert len(zoo.records) == 6 and len({record.classes for record in zoo.records}) == 3
    assert len({record.fingerprint for record in zoo.records}) == 1
    assert zoo.spec(ARCH).config.options["phrases"] == []
    start = zoo.start(ARCH)
    assert start is not None and torch.equal(start, zoo.reference(ARCH))
    state = zoo.state(zoo.records[0])
    assert all(name.startswith("base_model.model.encoder.layer.") and "lora_" in name for name in state)


def test_a_generator_knows_tasks_by_words_texts_both_or_neither(trained: Path) -> None:
    generator = Generator.from_pretrained(trained / "generator")
    data = load_data(f"text:{trained}/tasks/mine.jsonl")
    found = {kind: generator.condition(ARCH, data, kind=kind).data for kind in ("both", "words", "texts", "none")}
    assert all(not torch.allclose(found["none"], found[kind]) for kind in ("both", "words", "texts"))
    described = generator.condition(ARCH, Description(TASKS["mine"][0], tuple(TASKS["mine"][1].values()))).data
    assert torch.allclose(described, found["words"], atol=1e-4)  # the order of phrases, which is drawn, means nothing
    assert generator.closest(ARCH, load_data(f"text:{trained}/tasks/heat.jsonl"))
    with pytest.raises(Exception, match="has no texts"):
        generator.condition(ARCH, load_data("digits"))


def test_a_search_from_few_labels(trained: Path, popgen: Callable[..., Any]) -> None:
    out, data = trained / "run", f"text:{trained}/tasks/mine.jsonl/labels:16"
    called = popgen(
        *("search", "--arch", ARCH, "--data", data, "--generator", trained / "generator", "--zoo", trained / "zoo"),
        *("--evaluations", 20, "--workers", 0, "--population", 4, "--out", out, "--finetune-epochs", 2, "--json"),
    )
    [found] = json.loads(called.out)["results"]
    rows = {row["name"]: row for row in found["rows"]}
    assert {
        "frozen",
        "best_zoo",
        "nearest",
        "average",
        "average_of_all",
        "generated_none",
        "generated_words",
        "search",
    } <= set(rows)
    assert "head refit" in called.err
    state, data_set = load_file(found["weights"]), load_data(data)
    assert state["classifier.weight"].shape == (2, 32)
    best = torch.tensor([rows["search"]["val_loss"], rows["frozen"]["val_loss"]])
    assert best[0] <= best[1] + 1e-6
    choice = json.loads((out / "result.json").read_text())["results"][0]["details"]["label_choice"]
    assert choice["labels"] == 16 and choice["base_accuracy"] == pytest.approx(rows["frozen"]["val_accuracy"])
    names = {
        "generated_none": "none@1",
        "generated_words": "words@1",
        "generated_texts": "texts@1",
        "generated_both": "both@1",
    }
    losses = {known: rows[row]["val_loss"] for row, known in names.items()} | {"frozen": rows["frozen"]["val_loss"]}
    if not choice["name"].startswith("expert:"):
        assert losses[choice["name"]] == pytest.approx(min(losses.values()), abs=1e-4)
    assert data_set.val is data_set.train and rows["search"]["finetuned"][0]["epochs"] == 2


def test_with_enough_labels_all_adapters_of_the_zoo_are_seeds(trained: Path) -> None:
    from popgen.configs.search import SearchConfig
    from popgen.jobs.searching.population import make_task_population
    from popgen.jobs.searching.results.label_choice import ENOUGH_LABELS

    generator, data = Generator.from_pretrained(trained / "generator"), load_data(f"text:{trained}/tasks/mine.jsonl")
    generator.records = [replace(code, id=code.id + again) for code in generator.records for again in ("", "b")]
    closest = generator.closest(ARCH, data)

    def experts(labels: int, **settings: Any) -> list[str]:
        config = SearchConfig(archs=[ARCH], data=data.name, population=1, **settings)
        origins = make_task_population(generator, ARCH, data, closest, config, ARCH, labels).origins
        return [origin for origin in origins if origin.startswith("expert:")]

    assert len(experts(ENOUGH_LABELS)) == len(generator.records) == 12
    assert experts(ENOUGH_LABELS - 1) == experts(ENOUGH_LABELS)[:8] and len(experts(ENOUGH_LABELS, experts=3)) == 3


@pytest.mark.slow
def test_a_search_from_64_labels_chooses_among_all_adapters(trained: Path, popgen: Callable[..., Any]) -> None:
    rows = [json.loads(line) for line in (trained / "tasks" / "mine.jsonl").read_text().splitlines()]
    many = [{**row, "text": f"{row['text']} {again}"} for again in "xy" for row in rows]
    (trained / "tasks" / "many.jsonl").write_text("\n".join(map(json.dumps, many)))
    out, data = trained / "many", f"text:{trained}/tasks/many.jsonl/labels:64"
    given = ("search", "--arch", ARCH, "--data", data, "--generator", trained / "generator", "--zoo", trained / "zoo")
    options = ("--workers", 0, "--population", 2, "--baselines", "none", "--json")
    called = popgen(*given, *options, "--evaluations", 24, "--out", out)
    assert "chosen by 64 labels among 11 candidates, 6 of them from the zoo: " in called.err
    choice = called.results[0]["details"]["label_choice"]
    assert (choice["labels"], choice["candidates"], choice["of_zoo"], choice["missed"]) == (64, 11, 6, 0)
    records = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()[1:]]
    seeds = [one for one in records if one["phase"] == "seed"]
    compared = [one for one in seeds if one["origin"].startswith(("expert:", "frozen")) or one["origin"].endswith("@1")]
    best = min(compared, key=lambda one: one["metrics"]["unpenalised_loss"])
    assert choice["name"] == best["origin"] and len(compared) == 11
    [row] = [row for row in called.results[0]["rows"] if row["name"] == "search"]
    assert row["evaluations"] == len(records) == 24, "what is chosen among is paid for"
    few = popgen(*given, *options, "--evaluations", 14, "--out", trained / "cut")
    assert "2 of them from the zoo" in few.err and "4 more from the zoo were not reached by the evaluations" in few.err


def test_the_written_network_gives_the_rows_score(trained: Path) -> None:
    from safetensors import safe_open

    [file] = (trained / "run").glob("best-*.safetensors")
    with safe_open(file, framework="pt") as opened:
        config = ArchConfig.from_json(json.loads((opened.metadata() or {})["arch_config"]))
    spec, data = ArchSpec.from_config(config), load_data(f"text:{trained}/tasks/mine.jsonl/labels:16")
    outputs = network_outputs(spec, spec.to_flat(load_file(file)), spec.config.inputs.prepare(data.test.inputs))
    rows = json.loads((trained / "run" / "result.json").read_text())["results"][0]["rows"]
    expected = next(row["test_accuracy"] for row in rows if row["name"] == "search")
    assert float((outputs.argmax(1) == data.test.targets).double().mean()) == pytest.approx(expected, abs=1e-6)


@pytest.mark.slow
def test_the_choice_is_trained_beside_lora_from_zero(trained: Path, popgen: Callable[..., Any]) -> None:
    data = f"text:{trained}/tasks/mine.jsonl/labels:16"
    called = popgen(
        *("search", "--arch", ARCH, "--data", data, "--generator", trained / "generator", "--zoo", trained / "zoo"),
        *("--evaluations", 20, "--workers", 0, "--population", 4, "--out", trained / "auto", "--finetune", "auto"),
        "--json",
    )
    [found] = json.loads(called.out)["results"]
    tuned, rows = found["details"]["tuned"], {row["name"]: row for row in found["rows"]}
    is_frozen = (
        rows["search"]["val_loss"] == rows["frozen"]["val_loss"]
    )  # then the labels chose LoRA from zero as the start
    assert [one["start"] for one in tuned["starts"]] == (["search"] if is_frozen else ["frozen", "search"])
    assert tuned["judge"] == "5 held-out folds of 16 training texts" and tuned["starts"][0]["rate"] == 0.003
    assert (
        "finetuned_search" in rows
        and ("finetuned_frozen" in rows) != is_frozen
        and found["rows"][-1]["name"] == found["result"]
    )
    assert (trained / "auto" / f"{Path(found['weights']).stem}-peft" / "adapter_config.json").exists()


def test_the_nearest_task_is_that_of_the_most_similar_description(trained: Path) -> None:
    generator = Generator.from_pretrained(trained / "generator")
    nearest = generator.closest(ARCH, Description(TASKS["topic"][0]))
    assert nearest[0].endswith("topic.jsonl") and len(nearest) == 3


@pytest.mark.slow
def test_the_bench_of_the_results_page(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = trained / "source"
    source.mkdir()
    (source / "mine.jsonl.gz").write_bytes(gzip.compress((trained / "tasks" / "mine.jsonl").read_bytes()))
    (source / "tasks.json").write_text((trained / "tasks" / "tasks.json").read_text())
    script = Path(__file__).parents[3] / "examples" / "bench" / "text_adapters.py"
    given = [
        str(script),
        str(trained / "generator"),
        str(trained / "zoo"),
        str(source),
        "--out",
        str(trained / "bench"),
    ]
    for options in (["--tasks", "mine", "--labels", "0,16", "--test", "10", "--evaluations", "16"], ["--retrieval"]):
        monkeypatch.setattr(sys, "argv", [*given, *options])
        runpy.run_path(str(script), run_name="__main__")
    shown = capsys.readouterr().out
    assert (
        "| 16 labels | mine | mean |" in shown
        and "| search, trained |" in shown
        and "| 0 labels | mine | mean |" in shown
    )
    assert "mean {'zoo':" in shown


def test_the_spec_of_the_results_page_is_valid() -> None:
    content, config = read_spec(str(Path(__file__).parents[3] / "zoo_specs" / "text_adapters.yaml"))
    assert len(content.zoo.data_names) == 17 and len(content.zoo.seeds) == 2 and config.tune.episodes == 1


@pytest.mark.slow
def test_an_audit_of_adapters(trained: Path, popgen: Callable[..., Any]) -> None:
    options = ("--data", f"text:{trained}/tasks/heat.jsonl", "--samples", 3, "--controls", 3)
    called = popgen(
        *("audit", trained / "generator", "--zoo", trained / "zoo", *options, "--out", trained / "audit", "--json")
    )
    assert json.loads(called.out)["audits"][0]["data"].endswith("heat.jsonl")


def test_groups_of_texts_are_objectives(trained: Path, popgen: Callable[..., Any]) -> None:
    rows = "".join(f"{i},{'long' if i % 3 else 'short'}\n" for i in range(20))
    (trained / "groups.csv").write_text("index,group\n" + rows)
    called = popgen(
        *("search", "--arch", ARCH, "--data", f"text:{trained}/tasks/mine.jsonl", "--generator", trained / "generator"),
        *("--objectives", "error,worst_group_error", "--groups", trained / "groups.csv", "--evaluations", 24),
        *("--workers", 0, "--population", 2, "--baselines", "none", "--out", trained / "fair", "--json"),
    )
    [found] = json.loads(called.out)["results"]
    front = found["details"]["front"]
    assert front and set(front[0]["values"]) == {"error", "worst_group_error"}
    for point in front:
        file = Path(point["weights"])
        beside = file.with_name(f"{file.stem}-peft")
        adapter, head = (load_file(beside / f"{name}.safetensors") for name in ("adapter_model", "head"))
        state = load_file(file)
        assert adapter.keys() | head.keys() == state.keys() and (beside / "adapter_config.json").exists()
        assert all(torch.equal(tensor, state[name]) for name, tensor in (adapter | head).items())
        written = [path.relative_to(trained / "fair").as_posix() for path in (file, *beside.iterdir())]
        assert len(written) == 5 and all(SEARCH.has(path) for path in written), "a push takes them along"


def test_episodes_are_for_adapters(place: Path) -> None:
    from popgen.api import train
    from popgen.errors import BadInput

    spec = place / "images.yaml"
    spec.write_text(
        "zoo: {name: z, archs: [mlp-s], data: [digits], seeds: [0, 1], recipe: {epochs: 1}, workers: 0}\n"
        "generator: {tune: {episodes: 1.0}}\n"
    )
    with pytest.raises(BadInput, match="mlp-s is no adapter"):
        train(str(spec), str(place / "none"), zoo=str(_images(place).folder))


def test_the_full_name_of_an_adapter_finds_it_and_another_base_does_not(
    trained: Path, popgen: Callable[..., Any]
) -> None:
    save_base(trained / "other", seed=1)
    options = ("--generator", trained / "generator", "--data", f"text:{trained}/tasks/mine.jsonl", "--shots", 16)
    plan = popgen("search", "--arch", f"lora:{trained}/base/r:2/layers:1-2/context:16", *options, "--dry-run")
    assert "labels:16" in plan.out
    refused = popgen(
        "search", "--arch", f"lora:{trained}/other/r:2/layers:1-2/context:16", *options, "--dry-run", code=None
    )
    assert refused.code != 0 and "of no family that this generator knows" in refused.err


def test_a_search_goes_on_from_an_earlier_one_and_generates_no_parts(trained: Path, popgen: Callable[..., Any]) -> None:
    given = (
        "search",
        "--arch",
        ARCH,
        "--generator",
        trained / "generator",
        "--data",
        f"text:{trained}/tasks/mine.jsonl",
    )
    small = ("--evaluations", 20, "--population", 2, "--workers", 0, "--baselines", "none")
    popgen(*given, *small, "--out", trained / "first")
    popgen(*given, *small, "--warm-start", trained / "first", "--out", trained / "second")
    lines = (trained / "second" / "history.jsonl").read_text().splitlines()[1:]
    first = sum("seed" in line for line in (trained / "first" / "history.jsonl").read_text().splitlines()[1:])
    assert sum("seed" in line for line in lines) > first
    [file] = (trained / "first").glob("best-*.safetensors")
    refused = popgen(*given, "--parts", "head", "--base", file, "--dry-run", code=None)
    assert refused.code != 0 and "--parts is given for an adapter" in refused.err


def test_generate_from_a_description_and_retrieve(trained: Path, popgen: Callable[..., Any]) -> None:
    made = ("--arch", ARCH, "--generator", trained / "generator")
    popgen(
        "generate",
        *made,
        "--describe",
        TASKS["mine"][0],
        "--phrase",
        "dull food",
        "--phrase",
        "fine food",
        "-n",
        2,
        "--out",
        trained / "described",
    )
    files = sorted((trained / "described" / ARCH).glob("0*.safetensors"))
    assert len(files) == 2 and load_file(files[0])["classifier.weight"].shape == (2, 32)
    refused = popgen("generate", *made, "--describe", "x", "--phrase", "one", "--out", trained / "none", code=None)
    assert "there are two classes or more" in refused.err
    heat = f"text:{trained}/tasks/heat.jsonl"
    called = popgen("retrieve", *made, "--data", heat, "--out", trained / "heat.safetensors", "--json")
    assert json.loads(called.out)["val_accuracy"] > 0.4
