"""The fuzzing script at a small size: every door reads or refuses some mutated files, and a faulty door is noticed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("fuzz.py")


@pytest.mark.slow
def test_a_few_inputs_for_every_door(tmp_path: Path) -> None:
    command = [sys.executable, SCRIPT, "--inputs", "2000", "--seed", "11", "--keep", tmp_path / "faults"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {line[:20].strip(): line[20:].split() for line in done.stdout.splitlines()}
    assert {"images", "pt, pth", "safetensors", "YAML specs", "CSV indexes", "history.jsonl"} <= rows.keys()
    assert "traceback" not in rows[""] and int(rows["in all"][-1]) >= 2000
