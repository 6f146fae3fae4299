"""The commands of examples/results/audit.md about one run and many runs, on a small scale, in their order."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "examples" / "results" / "audit.md").read_text()
SMALL = {  # settings that make seconds of minutes; the commands and the specs' other values are those of the page
    "digits_one_run": ("zoo.recipe.epochs=3", "zoo.recipe.snapshots=12"),
    "digits_many_runs": ("zoo.seeds=[1,2,3,4,5,6]", "zoo.held_out.seeds=[4,5,6]", "zoo.recipe.epochs=3"),
}
STEPS = ("generator.vae.steps=30", "generator.prior.steps=20", "generator.vae.gate=1")


@pytest.mark.slow  # two zoos, two generators, three audits
def test_one_run_and_many_runs_are_audited_as_the_page_says(here: Path, popgen: Any) -> None:
    (here / "zoo_specs").symlink_to(ROOT / "zoo_specs")
    lines = [
        line for line in PAGE.splitlines() if line.startswith("popgen ") and "-runs" in line.replace("_run", "-runs")
    ]
    assert [line.split()[1] for line in lines] == ["train", "train", "audit", "audit", "audit"]
    for line in lines:
        words = shlex.split(line)[1:]
        if words[0] == "train":
            settings = [*SMALL[Path(words[1]).stem], *STEPS]
            popgen(*words, *(word for one in settings for word in ("--set", one)))
            continue
        popgen(*words, "--samples", 3, "--controls", 2)
        (one,) = json.loads((here / words[words.index("--out") + 1] / "result.json").read_text())["audits"]
        assert one["verdict"] in ("copies", "interpolates", "novel", "fails", "unsure")
        assert len(one["arms"][0]["points"]) == 3
