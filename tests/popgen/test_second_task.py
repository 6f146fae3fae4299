"""Another task, other inputs and another encoder of examples work in zoo build, train, generate and search.

All code that is special to them stands in counting.py beside this file.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from popgen.data import load_data
from popgen.errors import BadInput
from popgen.zoo import Zoo
from popgen.zoo.stand_in import labelled_by

HERE = Path(__file__).parent
SPEC = {
    "zoo": {
        "name": "counting",
        "archs": [{"name": "counter", "like": "counting:counter"}],
        "data": [f"counting:by{step}" for step in (1, 2, 3, 7, 8)],
        "seeds": [0, 1],
        "recipe": {"epochs": 20, "batch": 20, "lr": 0.03},
        "workers": 0,
    },
    "generator": {
        "encoders": {
            "images": "differences",
            "labels": False,
            "width": 32,
            "out": 16,
            "steps": 150,
            "images_per_class": 4,
        },
        "vae": {"latent_tokens": 2, "latent_width": 4, "width": 32, "steps": 400, "behaviour_networks": 4, "gate": 0.1},
        "prior": {"kind": "flow", "width": 32, "layers": 1, "steps": 150, "batch": 32},
        "tune": {"steps": 400, "networks": 4, "images": 24, "tasks": ["counting:by9"]},
        "describe": {"steps": 10},
        "restore": {"steps": 40, "rank": 4, "networks": 2, "images": 16},
    },
}
GUESSING = 0.1
pytestmark = pytest.mark.slow  # a zoo is built and a generator trained


@pytest.fixture(scope="module")
def made(popgen: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a zoo and a generator of counters."""
    sys.path.insert(0, str(HERE))
    import counting

    counting.register()
    folder = tmp_path_factory.mktemp("counting")
    (folder / "spec.yaml").write_text(yaml.safe_dump(SPEC))
    popgen("zoo", "build", "spec.yaml", cwd=folder)
    popgen("train", "spec.yaml", "--out", "made", cwd=folder)
    yield folder
    counting.unregister()
    sys.path.remove(str(HERE))


def test_networks_of_another_task_label_no_images(made: Path) -> None:
    with pytest.raises(BadInput, match="do not classify images by themselves"):
        labelled_by(Zoo.open(made / "zoos/counting"), "counting:by1", load_data("digits"))


def test_the_zoo_knows_what_its_networks_do(popgen: Any, made: Path) -> None:
    records = popgen("zoo", "list", "zoos/counting", "--json", cwd=made).json["checkpoints"]
    assert len(records) == 10
    assert min(record["metrics"]["test_score"] for record in records) > 0.3 > GUESSING
    assert not any("accuracy" in key for record in records for key in record["metrics"])
    config = json.loads((made / "zoos" / "counting" / "index.jsonl").read_text().splitlines()[0])["arch_config"]
    assert config["inputs"] == {"kind": "digits-in-a-row", "length": 6} and config["task"] == "next-digit"
    assert "nothing damaged" in popgen("zoo", "verify", "zoos/counting", cwd=made).out


def test_generated_networks_count_as_their_condition_does(popgen: Any, made: Path) -> None:
    command = ("generate", "--arch", "counter", "--generator", "made", "-n", 2, "--json")
    for step in (2, 9):  # 9 is a data set that no network of the zoo was trained on
        networks = popgen(*command, "--data", f"counting:by{step}", "--out", f"by{step}", cwd=made).json["networks"]
        assert min(network["val_score"] for network in networks) > 0.3 > GUESSING
        state = load_file(made / networks[0]["weights"])
        from counting import counter

        net = counter().eval()
        net.load_state_dict(state)
        digits = torch.arange(10)
        right = (net(digits[None])[0].argmax(1) == (digits + step) % 10).float().mean()
        assert right > 0.8, step


def test_a_search_shows_scores_in_their_unit(popgen: Any, made: Path) -> None:
    search = ("search", "--arch", "counter", "--data", "counting:by9", "--generator", "made", "--workers", 0)
    called = popgen(*search, "--evaluations", 60, "--out", "run", "--json", cwd=made)
    rows = {row["name"]: row for row in called.results[0]["rows"]}
    assert {"random", "best_zoo", "average", "ridge", "shuffled", "empty", "generated_mean", "search"} <= rows.keys()
    assert rows["search"]["unit"] == "inverse perplexity"
    assert rows["search"]["test_score"] > max(rows["best_zoo"]["test_score"], rows["shuffled"]["test_score"])
    assert rows["search"]["val_loss"] <= rows["generated_best"]["val_loss"]
    table = popgen("search", "--resume", "run", "--evaluations", 62, cwd=made).out
    assert "test inverse perplexity" in table
    popgen("search", *search[1:], "--dry-run", cwd=made)


def test_experts_and_fine_tuning_know_nothing_of_the_task(popgen: Any, made: Path) -> None:
    search = ("search", "--arch", "counter", "--data", "counting:by9", "--zoo", "zoos/counting", "--workers", 0)
    options = ("--space", "low-rank", "--evaluations", 30, "--finetune-epochs", 2, "--json")
    [found] = popgen(*search, *options, "--out", "experts", cwd=made).results
    rows = {row["name"]: row for row in found["rows"]}
    tuned = rows["search"]["finetuned"][0]
    assert tuned["test_score"] > rows["search"]["test_score"]
    assert tuned["unit"] == "inverse perplexity"


@pytest.mark.parametrize(
    ("options", "pieces"),
    [
        (("--data", "digits"), ["data set 'digits' is for classification, 'counter' does next-digit"]),
        (("--data", "counting:by2", "--head", "refit"), ["--head refit is for classification"]),
        (("--data", "counting:by2", "--objectives", "error"), ["the objective 'error' is for classification"]),
        (("--data", "counting:by2/mirror"), ["variants are for images"]),
    ],
)
def test_what_does_not_go_together_is_refused(
    popgen: Any, made: Path, options: tuple[str, ...], pieces: list[str]
) -> None:
    called = popgen("search", "--arch", "counter", "--generator", "made", *options, cwd=made, code=4)
    assert all(piece in called.err for piece in pieces), called.err


def test_a_kind_of_inputs_that_is_not_known_here(popgen: Any, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from popgen.archs.inputs import INPUTS
    from popgen.zoo import record

    monkeypatch.delitem(INPUTS, "digits-in-a-row")
    record._config.cache_clear()  # noqa: SLF001 - this process has read the configuration before
    called = popgen("zoo", "verify", "zoos/counting", cwd=made, code=5)
    assert "takes inputs of the kind 'digits-in-a-row'" in called.err and "Update popgen." in called.err
