"""Records what short runs of every main path give, to the last digit: `python tests/reference/record.py FILE.json`.

tests/test_same_results.py compares this with tests/reference/results.json. After a change that is meant to change results, write that
file anew with this script and say in the commit what changed and why. The runs take the plainest code paths of every library, so
that all x86 processors give the same digits.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from popgen.__main__ import run

HERE = Path(__file__).parent
PLAIN = {
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_CBWR": "COMPATIBLE",
    "OMP_NUM_THREADS": "1",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "OPENBLAS_CORETYPE": "Nehalem",
    "HF_HUB_OFFLINE": "1",
}  # torch, numpy and MKL read these once, when they are imported
LIBRARIES = ("torch", "numpy", "scipy", "scikit-learn", "nevergrad", "cma", "diffusers", "open_clip_torch")
SEARCHES = {
    "generator": ["--arch", "resnet-s", "--data", "digits/rotate:45", "--evaluations", "40"],
    "untrained": ["--arch", "cnn-s/channels:12-24", "--data", "digits/rotate:45", "--evaluations", "30"],
    "refit": ["--arch", "mlp-s", "--data", "digits/blur/rotate:45", "--head", "refit", "--evaluations", "30"],
    "mix": ["--arch", "cnn-s", "--data", "digits/rotate:45", "--space", "mix", "--evaluations", "150", "--baselines", "all"],
    "low-rank": [
        *("--arch", "resnet-s", "--data", "digits/mirror", "--space", "low-rank", "--evaluations", "90"),
        *("--sgd-steps", "2", "--baselines", "none"),
    ],
    "race": [
        *("--arch", "mlp-s", "--data", "digits/rotate:225", "--rungs", "0.5", "--evaluations", "40"),
        *("--objectives", "loss,balanced_error", "--weights", "1,1", "--baselines", "none", "--finetune-epochs", "1"),
    ],
}  # fmt: skip


def popgen(*arguments: object) -> Any:
    """What a command prints with --json."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run([*map(str, arguments), "--json"])
    if code:
        raise SystemExit(f"popgen {' '.join(map(str, arguments))}: exit code {code}\n{err.getvalue()}")
    return json.loads(out.getvalue())


def digest(content: bytes | str) -> str:
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()[:16]


def tensors_of(file: Path) -> str:
    """A hash of a safetensors file's names and values, without its metadata."""
    state = load_file(file)
    return digest(b"".join(name.encode() + state[name].contiguous().numpy().tobytes() for name in sorted(state)))


def log_of(file: Path, *times: str) -> list[dict[str, Any]]:
    """The lines of a JSONL file without what a clock decides."""
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in times} for line in lines]


def searched(name: str, folder: Path) -> dict[str, Any]:
    """A search's losses, and hashes of its history, population and weights; the rows of its table."""
    out = folder / name
    [found] = popgen("search", *SEARCHES[name], "--workers", "0", "--finetune", "never", "--out", out)["results"]
    history = log_of(out / "history.jsonl", "seconds", "elapsed", "versions")
    files = {file.name: tensors_of(file) for file in sorted(out.glob("*.safetensors"))}
    losses = [line["loss"] for line in history if "loss" in line]
    # Standard errors follow from the accuracies, and came to the rows after these results had been recorded.
    rows = [{key: value for key, value in row.items() if "standard_error" not in key} for row in found["rows"]]
    return {"losses": losses, "history": digest(json.dumps(history)), "files": files, "rows": rows}


def recorded(folder: Path) -> dict[str, Any]:
    """All results."""
    torch.set_num_threads(1)
    zoo = popgen("zoo", "build", HERE / "tiny.yaml", "--out", folder / "zoo")
    made = folder / "made"
    metrics = popgen("train", HERE / "tiny.yaml", "--zoo", folder / "zoo", "--out", made)
    log = log_of(made / "log" / "metrics.jsonl", "seconds")
    popgen(
        "generate",
        "--arch",
        "cnn-s,resnet-s/widths:6-12",
        "--data",
        "digits/rotate:45",
        "-n",
        "2",
        "--out",
        folder / "new",
    )
    popgen(
        "generate",
        "--arch",
        "mlp-s",
        "--describe",
        "digits, inverted",
        "--prior",
        "kde",
        "-n",
        "2",
        "--out",
        folder / "told",
    )
    popgen("retrieve", "--arch", "cnn-s", "--data", "digits/rotate:30", "--out", folder / "back.safetensors")
    popgen("encode", folder / "zoo", "--generator", made, "--out", folder / "encoded", "--steps", "2")
    networks = sorted(
        [*folder.glob("new/**/*.safetensors"), *folder.glob("told/**/*.safetensors"), folder / "back.safetensors"]
    )
    return {
        "zoo": zoo["sha256"],
        "training": {name: digest((made / name).read_bytes()) for name in ("model.safetensors", "codes.json")},
        "training_losses": metrics["losses"],
        "training_log": digest(json.dumps(log)),
        "compression": {form["name"]: form["loss"]["mean"] for form in metrics["compression"]["forms"]},
        "networks": {str(file.relative_to(folder)): tensors_of(file) for file in networks},
        "encoded": digest((folder / "encoded" / "codes.json").read_bytes()),
        "searches": {name: searched(name, folder) for name in SEARCHES},
    }  # fmt: skip


def environment() -> dict[str, str]:
    """Versions that results depend on."""
    return {name: version(name) for name in LIBRARIES} | {"processor": platform.machine()}


def main() -> None:
    if any(os.environ.get(name) != value for name, value in PLAIN.items()):
        sys.exit(subprocess.run([sys.executable, *sys.argv], env={**os.environ, **PLAIN}).returncode)
    with tempfile.TemporaryDirectory() as folder:
        content = {"environment": environment(), "results": recorded(Path(folder))}
    Path(sys.argv[1]).write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
