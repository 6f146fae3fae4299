"""Results stay what they were, to the last digit: the zoo, the training, the searches and the networks of tests/reference."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "reference"


@pytest.mark.slow
def test_short_runs_give_what_they_gave(tmp_path: Path) -> None:
    command = [sys.executable, str(HERE / "record.py"), str(tmp_path / "now.json")]
    done = subprocess.run(command, cwd=HERE.parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    before, now = (json.loads(file.read_text()) for file in (HERE / "results.json", tmp_path / "now.json"))
    if now["environment"] != before["environment"]:  # other versions draw and round in other ways
        pytest.skip(f"recorded with {before['environment']}, here are {now['environment']}")
    for name, result in before["results"].items():
        assert now["results"][name] == result, name
