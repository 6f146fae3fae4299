"""Start: CPU time until popgen refuses a name, prints its first line and makes its first evaluation.

    python examples/bench/start.py --repeat 5

Each row is the least of several runs, in seconds of CPU time and as ratios to `python -c pass` and to `import torch`,
which are measured in turn with it. It takes a minute on one core.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

POPGEN = ["-m", "popgen"]
SEARCH = [*POPGEN, "search", "--arch", "cnn-s", "--data", "digits/rotate:45"]  # the README's
GIVE_UP = 120.0  # seconds

Done = Callable[[Path], bool]  # whether a run in this folder has come far enough


def printed(folder: Path) -> bool:
    return (folder / "said").stat().st_size > 0


def evaluated(folder: Path) -> bool:
    return any(b'"loss"' in file.read_bytes() for file in folder.glob("runs/*/history.jsonl"))


ROWS: dict[str, tuple[list[str], Done | None]] = {
    "python -c pass": (["-c", "pass"], None),
    "import torch": (["-c", "import torch"], None),
    "popgen --help": ([*POPGEN, "--help"], None),
    "unknown architecture": ([*POPGEN, "search", "--arch", "nosuch", "--data", "digits"], None),
    "unknown data set": ([*POPGEN, "search", "--arch", "cnn-s", "--data", "nosuch"], None),
    "unknown optimizer": ([*SEARCH, "--optimizer", "nosuch"], None),
    "search: first line": (SEARCH, printed),
    "search: first evaluation": (SEARCH, evaluated),
}


def cpu_seconds(arguments: list[str], done: Done | None) -> float:
    """CPU time of a Python process, in an empty folder, until it ends or `done` says so."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as name, open(Path(name) / "said", "wb") as said:
        folder, give_up = Path(name), time.monotonic() + GIVE_UP
        process = subprocess.Popen([sys.executable, *arguments], cwd=folder, stdout=said, stderr=said)
        while done is not None and process.poll() is None and not done(folder) and time.monotonic() < give_up:
            time.sleep(0.005)
        if done is not None:
            process.kill()
        process.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=5, help="runs of each row, of which the quickest counts")
    runs = [{row: cpu_seconds(*ROWS[row]) for row in ROWS} for _ in range(parser.parse_args().repeat)]
    least = {row: min(run[row] for run in runs) for row in ROWS}
    print("| | seconds of CPU | times `python -c pass` | times `import torch` |")
    print("|---|---|---|---|")
    for row, seconds in least.items():
        ratios = [seconds / max(least[base], 1e-3) for base in ("python -c pass", "import torch")]
        print(f"| {row} | {seconds:.2f} | {ratios[0]:.0f} | {ratios[1]:.2f} |")


if __name__ == "__main__":
    main()
