"""The same training on several workers of a Ray cluster, or of this machine: Ray Train starts them and starts them again.

Each worker calls `train_generator`; what it does there depends only on its place in the process group. The folder is where workers,
interrupted trainings and this process meet, so all nodes must share it.
"""

from __future__ import annotations

import json
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
from popgen.generator.training.loop import Report
from popgen.generator.training.train import train_generator
from popgen.generator.training.workers import check_workers
from popgen.zoo import Zoo
from search.errors import SearchError
from search.pools.ray_session import RaySession
from search.pools.shared_folder import check_shared

_RESTARTS = 3  # of all workers, after one has died; they go on from the step that was kept last
_REFUSED = "refused.json"


def train_on_ray(
    zoo: Zoo,
    config: GeneratorConfig,
    out: Path,
    report: Report,
    workers: int,
    address: str | None = None,
    data_dir: str | None = None,
) -> Generator:
    """As `train_generator`, on `workers` workers of one CPU each, and one GPU each where the settings and the cluster have them.

    Args:
        address: of a Ray cluster; None: RAY_ADDRESS, else this machine.

    Raises:
        BadInput: the parts of a step cannot be shared out, or the cluster is too small.
        CannotResume: workers died again and again.
        PopgenError: as `train_generator`, there is no cluster, or its nodes do not share `out`.
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
        gpus = _gpus(config, workers)
        settings = {
            "zoo": str(zoo.folder.absolute()),
            "config": config.model_dump(),
            "out": str(out),
            "data_dir": str(data_folder(data_dir)),
        }
        trainer = TorchTrainer(
            _worker,
            train_loop_config=settings,
            scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpus),
            run_config=RunConfig(
                name="ray", storage_path=str(out / "unfinished"), failure_config=FailureConfig(max_failures=_RESTARTS)
            ),
        )
        refused = out / "unfinished" / _REFUSED
        refused.unlink(missing_ok=True)
        with _following(out / "log" / "metrics.jsonl", report):
            try:
                trainer.fit()
            except ray.train.TrainingFailedError as error:
                raise CannotResume(
                    f"the training on {workers} workers stopped",
                    brief(error),
                    "Run the same command again: it goes on.",
                ) from error
        if refused.exists():
            content = json.loads(refused.read_text())
            refused.unlink()
            raise getattr(errors, content["kind"])(*content["lines"])
    return Generator.from_pretrained(out)


def _gpus(config: GeneratorConfig, workers: int) -> bool:
    """Whether each worker gets a GPU."""
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
    """One worker. What popgen refuses would be refused again, so it is written down and not raised: Ray would start anew."""
    out, config = Path(settings["out"]), GeneratorConfig(**settings["config"])
    try:
        train_generator(
            Zoo.open(settings["zoo"]), config, out, lambda *_: None, str(get_device()), settings["data_dir"]
        )
    except PopgenError as error:
        if ray.train.get_context().get_world_rank() == 0:
            content = {"kind": type(error).__name__, "lines": [error.what, error.why, error.todo]}
            write_text(out / "unfinished" / _REFUSED, json.dumps(content))


@contextmanager
def _following(file: Path, report: Report) -> Iterator[None]:
    """Reports what the first worker adds to a log, from a thread of its own."""
    stop = threading.Event()
    thread = threading.Thread(target=_follow, args=(file, report, stop.wait), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _follow(file: Path, report: Report, wait: Callable[[float], bool]) -> None:
    seen = file.stat().st_size if file.exists() else 0
    ended = False
    while not ended:
        ended = wait(1.0)
        content = file.read_bytes()[seen:] if file.exists() else b""
        for line in content.splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break
            seen += len(line)
            entry = json.loads(line)
            stage, step, steps = (entry.pop(key) for key in ("stage", "step", "steps"))
            report(
                stage,
                step,
                steps,
                {k: v for k, v in entry.items() if k not in ("learning_rate", "seconds") and v is not None},
            )
