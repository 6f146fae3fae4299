"""Cost of training: of a step of each stage, and with two workers, a zoo read from files, and saved steps; one run each.

    python examples/bench/training.py

7 minutes on two CPU cores. First come the stages: CPU time of a step, from as many steps as `--steps` says without the first and without
those that end in a measure of held-out checkpoints, and of all steps of the spec at that rate. Then every row trains the same few steps of every stage, with two
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
from typing import Any

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


SECTIONS = {
    "vae": "vae",
    "data set encoder": "encoders",
    "prior": "prior",
    "tuning": "tune",
    "descriptions": "describe",
    "restoring": "restore",
}


def show_stages(zoo: Zoo, base: dict[str, Any], steps: dict[str, int]) -> None:
    """Print the CPU time of a step of each stage, and of `steps`, the number of steps in the spec by stage."""
    spent: dict[str, list[float]] = {}

    def note(stage: str, *_: object) -> None:
        spent.setdefault(stage, []).append(time.process_time())

    with tempfile.TemporaryDirectory() as folder:
        train_generator(zoo, GeneratorConfig.model_validate(base | {"accumulate": 1}), Path(folder), note)
    print(f"{'':20s}  ms of a step  steps  seconds of all")
    for stage, times in spent.items():
        every = max(1, len(times) // 20)
        costs = [after - before for before, after in zip(times, times[1:], strict=False)]
        plain = [cost for step, cost in enumerate(costs, start=2) if step % every] or costs
        each = sum(plain) / len(plain)
        print(f"{stage:20s}  {1000 * each:12.1f}  {steps[stage]:5d}  {each * steps[stage]:14.1f}", flush=True)


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
    steps = {stage: base[section]["steps"] for stage, section in SECTIONS.items()}
    for section in SECTIONS.values():
        base[section]["steps"] = options.steps
    zoo, first = Zoo.open(options.zoo), 0.0
    show_stages(zoo, base, steps)
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
