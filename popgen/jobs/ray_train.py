"""Training of a generator on several workers, of a Ray cluster or of this machine; Ray Train starts and restarts them.

Each worker calls `train_generator`; what it does there depends only on its rank in the process group. Workers, this
process and a later process that resumes exchange everything through the output folder, so all nodes must share it.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer, get_device

from popgen import errors
from popgen.configs.generator import GeneratorConfig
from popgen.data.folder import data_folder
from popgen.errors import BadInput, CannotResume, PopgenError, brief
from popgen.files import write_text
from popgen.generator.generator import Generator
from popgen.generator.training.loop import OnStep
from popgen.generator.training.train import train_generator
from popgen.generator.training.workers import check_workers
from popgen.json_text import json_text, parse_json
from popgen.trust import own_code, take_own_code
from popgen.zoo import Zoo
from search.errors import SearchError
from search.pools.ray_session import RaySession
from search.pools.shared_folder import check_shared

_RESTARTS = 3  # restarts of all workers after one has died; they resume at the last saved step
_REFUSED = "refused.json"  # the error of a training that popgen refuses


def train_on_ray(
    zoo: Zoo,
    config: GeneratorConfig,
    out: Path,
    on_step: OnStep,
    workers: int,
    address: str | None = None,
    data_dir: str | None = None,
) -> Generator:
    """Train on `workers` workers with one CPU each, and one GPU each if the settings ask for it and the cluster has them.

    Args:
        on_step, data_dir: as in `train_generator`.
        address: address of a Ray cluster; None: RAY_ADDRESS, else this machine.

    Raises:
        BadInput: the micro-batches of a step cannot be divided among the workers, or the cluster is too small.
        CannotResume: a worker died after the last restart.
        PopgenError: `train_generator` refuses, there is no cluster, or its nodes do not share `out`.
    """
    check_workers(config, workers)
    out = out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    with RaySession() as session:
        try:
            session.start(workers, address)
            check_shared(out)
        except SearchError as error:
            raise BadInput(*str(error).split("\n", 2)) from error
        settings = {
            "zoo": str(zoo.folder.absolute()),
            "config": config.model_dump(),
            "out": str(out),
            "data_dir": str(data_folder(data_dir)),
            "code": own_code(),
            "paths": list(sys.path),  # modules of the user's own lie beside the command, not beside Ray's workers
        }
        scaling = ScalingConfig(num_workers=workers, use_gpu=_use_gpus(config, workers))
        failures = FailureConfig(max_failures=_RESTARTS)
        run = RunConfig(name="ray", storage_path=str(out / "unfinished"), failure_config=failures)
        trainer = TorchTrainer(_worker, train_loop_config=settings, scaling_config=scaling, run_config=run)
        (out / "unfinished" / _REFUSED).unlink(missing_ok=True)
        with _forward_log(out / "log" / "metrics.jsonl", on_step):
            _fit(trainer, workers, out)
        _raise_refusal(out)
    return Generator.from_pretrained(out)


def _fit(trainer: TorchTrainer, workers: int, out: Path) -> None:
    try:
        trainer.fit()
    except ray.train.TrainingFailedError as error:
        _raise_refusal(out)  # Earlier deaths of workers may have used up all restarts.
        raise CannotResume(
            f"the training on {workers} workers stopped", brief(error), "Run the same command again: it goes on."
        ) from error


def _raise_refusal(out: Path) -> None:
    """Raise the error that a worker wrote, if it refused to train."""
    refused = out / "unfinished" / _REFUSED
    if refused.exists():
        content = parse_json(refused.read_text())
        refused.unlink()
        raise getattr(errors, content["kind"])(*content["lines"])


def _use_gpus(config: GeneratorConfig, workers: int) -> bool:
    """Whether each worker gets a GPU.

    Raises:
        BadInput: the cluster has fewer CPUs than workers, or fewer GPUs where the settings ask for them.
    """
    have = ray.cluster_resources()
    if have.get("CPU", 0) < workers:
        raise BadInput(
            f"{workers} workers on a Ray cluster of {have.get('CPU', 0):g} CPUs", "each takes one", "Ask for fewer."
        )
    if config.device == "cuda" and have.get("GPU", 0) < workers:
        raise BadInput(
            f"{workers} workers on a Ray cluster of {have.get('GPU', 0):g} GPUs",
            "generator.device is cuda, and each takes one",
            "Ask for fewer, or set generator.device to auto.",
        )
    return config.device != "cpu" and have.get("GPU", 0) >= workers


def _worker(settings: dict[str, Any]) -> None:
    """Train in a worker.

    If popgen refuses to train, on whatever worker, its error is written to a file, and raised: the other workers may wait
    for this one, and only a failure makes Ray stop them. Ray then starts all workers again, and these end at once.
    """
    sys.path.extend(path for path in settings["paths"] if path not in sys.path)
    take_own_code(settings["code"])
    out, config = Path(settings["out"]), GeneratorConfig(**settings["config"])
    if (out / "unfinished" / _REFUSED).exists():
        return
    try:
        train_generator(
            Zoo.open(settings["zoo"]), config, out, lambda *_: None, str(get_device()), settings["data_dir"]
        )
    except PopgenError as error:
        content = {"kind": type(error).__name__, "lines": [error.what, error.why, error.todo]}
        write_text(out / "unfinished" / _REFUSED, json_text(content))
        raise


@contextmanager
def _forward_log(file: Path, on_step: OnStep) -> Iterator[None]:
    """Call `on_step`, in a thread, for each line that the first worker adds to the log."""
    stop = threading.Event()
    thread = threading.Thread(target=_read_on, args=(file, on_step, stop.wait), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _read_on(file: Path, on_step: OnStep, wait: Callable[[float], bool]) -> None:
    seen = file.stat().st_size if file.exists() else 0
    ended = False
    while not ended:
        ended = wait(1.0)
        content = file.read_bytes()[seen:] if file.exists() else b""
        for line in content.splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break
            seen += len(line)
            entry = parse_json(line)
            stage, step, steps = (entry.pop(key) for key in ("stage", "step", "steps"))
            losses = {k: v for k, v in entry.items() if k not in ("learning_rate", "seconds") and v is not None}
            on_step(stage, step, steps, losses)
