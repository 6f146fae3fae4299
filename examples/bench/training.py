"""Cost of training with two workers, with a zoo read from files, and with saved steps: seconds and ratios of one run.

    python examples/bench/training.py

5 minutes on two CPU cores. Every row trains the same few steps of every stage, with two
micro-batches in a step, and must give the same generator. `one process` computes the micro-batches one after the other,
`two workers` of Ray Train compute one each (their start is listed separately), `read from files` keeps no weights in
memory, and `saved at every step` writes the state of the training after each step.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
import time
from pathlib import Path

import torch

from popgen.generator import GeneratorConfig
from popgen.generator.training import train_generator
from popgen.jobs.train import read_spec
from popgen.zoo import Zoo

ROWS: dict[str, tuple[dict[str, float], int]] = {
    "one process": ({}, 1),
    "two workers": ({}, 2),
    "read from files": ({"memory": 0.0}, 1),
    "saved at every step": ({"save_every": 0.0}, 1),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spec", default="zoo_specs/digits.yaml")
    parser.add_argument("--zoo", default="digits")
    parser.add_argument("--steps", type=int, default=150, help="of every stage")
    options = parser.parse_args()
    torch.set_num_threads(1)
    base = read_spec(options.spec)[1].model_dump()
    base |= {"accumulate": 2, "threads": 1}
    base["vae"]["gate"], base["prior"]["kind"], base["tune"]["tasks"] = 1.0, "flow", []
    for section in ("vae", "encoders", "prior", "tune", "describe", "restore"):
        base[section]["steps"] = options.steps
    zoo, first = Zoo.open(options.zoo), 0.0
    print(f"{'':20s}  seconds of the stages  ratio  all in all  generator")
    for row, (changes, workers) in ROWS.items():
        config = GeneratorConfig.model_validate(base | changes)
        with tempfile.TemporaryDirectory() as folder:
            began, out = time.monotonic(), Path(folder)
            if workers > 1:
                from popgen.jobs.ray_train import train_on_ray

                train_on_ray(zoo, config, out, lambda *_: None, workers)
            else:
                train_generator(zoo, config, out, lambda *_: None)
            whole = time.monotonic() - began
            lines = [json.loads(line) for line in (out / "log" / "metrics.jsonl").read_text().splitlines()]
            stages = sum(line["seconds"] for line in lines if line["step"] == line["steps"])
            made = hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()[:8]
        first = first or stages
        print(f"{row:20s}  {stages:21.1f}  {stages / first:5.2f}  {whole:10.1f}  {made}", flush=True)


if __name__ == "__main__":
    main()
