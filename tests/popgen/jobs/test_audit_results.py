"""The commands of examples/results/audit.md about one run and many runs, on a small scale, in their order."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "examples" / "results" / "audit.md"
SMALL = {  # the commands and the specs' other values are those of the page
    "digits_one_run": ["zoo.recipe.epochs=3", "zoo.recipe.snapshots=12"],
    "digits_many_runs": ["zoo.seeds=[1,2,3,4,5,6]", "zoo.held_out.seeds=[4,5,6]", "zoo.recipe.epochs=3"],
}
STEPS = ["generator.vae.steps=30", "generator.prior.steps=20", "generator.vae.gate=1"]


def page_commands() -> list[list[str]]:
    """The words of each line of the block that trains on one run."""
    (block,) = [text for text in PAGE.read_text().split("```") if "train zoo_specs/digits_one_run.yaml" in text]
    return [shlex.split(line) for line in block.splitlines()[1:]]


@pytest.mark.slow  # two zoos, three generators, four audits
def test_one_run_and_many_runs_are_audited_as_the_page_says(here: Path, popgen: Any) -> None:
    (here / "zoo_specs").symlink_to(ROOT / "zoo_specs")
    audits = 0
    for _, *words in page_commands():
        if words[0] == "zoo":
            popgen(*words)
        elif words[0] == "train":
            settings = [*SMALL[Path(words[1]).stem], *STEPS]
            popgen(*words, *(word for one in settings for word in ("--set", one)))
        else:
            popgen(*words, "--samples", 3, "--controls", 2)
            (one,) = json.loads((here / words[words.index("--out") + 1] / "result.json").read_text())["audits"]
            assert one["verdict"] in ("copies", "interpolates", "novel", "fails", "unsure")
            assert len(one["arms"][0]["points"]) == 3
            audits += 1
    assert audits == 4
