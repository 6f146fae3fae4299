"""`popgen train`: from a spec to a generator, building the zoo first where it is not there yet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from popgen.archs import trust_named
from popgen.audit.compression import measure_compression
from popgen.audit.keeping import keeping_remarks
from popgen.configs.generator import GeneratorConfig, read_spec
from popgen.configs.spec import ZooSpec
from popgen.data.names import trust_sources
from popgen.errors import BadInput
from popgen.generator import Generator
from popgen.generator.folder import save_config
from popgen.generator.training import train_generator
from popgen.generator.training.data import OnData
from popgen.generator.training.loop import OnStep
from popgen.generator.training.workers import check_workers
from popgen.hub.download import pinned
from popgen.hub.kinds import ZOO
from popgen.hub.names import is_hub_name
from popgen.zoo import Zoo, build_zoo

__all__ = ["TrainingCompute", "read_spec", "train"]


_ABSENT = (
    "Images of {images} stood in for those of the zoo's data sets, labelled by the zoo's networks: accuracies of training are "
    "agreement with these networks."
)


@dataclass(frozen=True)
class TrainingCompute:
    """The processes of a training; they change the time and not the result, but for the order of sums.

    Attributes:
        build_workers: processes that build the zoo; 0: this process; None: the spec's number, or one for each CPU core.
        workers: processes that share every step of the generator's training (Ray Train); 1: this process.
        address: address of the Ray cluster on which they run; None: RAY_ADDRESS, else this machine.
    """

    build_workers: int | None = None
    workers: int = 1
    address: str | None = None


def train(
    spec: str,
    out: str | None = None,
    *,
    zoo: str | None = None,
    compute: TrainingCompute = TrainingCompute(),
    overrides: dict[str, Any] | None = None,
    data_dir: str | None = None,
    on_step: OnStep | None = None,
    on_data: OnData = lambda _done, _total: None,
) -> Generator:
    """Train the generator of a spec and save it.

    Its `provenance.metrics["remarks"]` say where it gives back its zoo's checkpoints with a loss, or is larger than the zoo.

    Args:
        out: the folder to write; None: generators/NAME.
        zoo: a zoo's folder; None: zoos/NAME, which is built or completed first.
        compute: the processes that work.
        overrides: values that replace those of the spec, by dotted key.
        data_dir: the folder of named data sets; None: POPGEN_DATA, else ./data.
        on_step: called after every step with the stage, the step, the number of steps and the smoothed losses.
        on_data: called with the number of data sets that are read, and that of all, by a training in this process.

    Raises:
        PopgenError: the spec or the zoo does not fit, or reconstruction fails the gate.
    """
    content, config = read_spec(spec, overrides)
    folder = Path(out or f"generators/{content.zoo.name}")
    if (folder / "config.json").exists():
        raise BadInput(
            f"{folder} holds a generator already", "it is never overwritten", "Choose another --out, or remove it."
        )
    check_workers(config, compute.workers)
    _trust(content.zoo, config)
    exact = pinned(zoo or "", ZOO)
    found = (
        Zoo.open(exact)
        if exact
        else build_zoo(content.zoo, Path("zoos") / content.zoo.name, workers=compute.build_workers, data_dir=data_dir)
    )
    made = _train(found, config, folder, on_step or (lambda *_: None), compute, data_dir, on_data)
    # Directions alone hold none of the zoo's networks but the bases, and without the data no accuracy is lost or kept.
    if made.has_latents and config.stand_in.images is None:
        _measure(made, found, data_dir, on_step or (lambda *_: None))
    if config.stand_in.images is not None:
        made.provenance.metrics["remarks"] = [_ABSENT.format(images=config.stand_in.images)]
    made.provenance.zoo_name = exact if is_hub_name(exact) else ""
    save_config(made, folder)
    return made


def _trust(zoo: ZooSpec, config: GeneratorConfig) -> None:
    """Trust the user's own functions that a spec names."""
    entries = [*zoo.archs, *(entry.arch for entry in zoo.checkpoints if entry.arch)]
    trust_named(entry.like or entry.name for entry in entries)
    stand_in = [] if config.stand_in.images is None else [config.stand_in.images]
    trust_sources([*zoo.data_names, *stand_in, *(name for grid in config.tune.tasks for name in grid.names)])


def _measure(made: Generator, zoo: Zoo, data_dir: str | None, on_step: OnStep) -> None:
    """Record how small the zoo has become, and what is lost."""
    measured = measure_compression(
        made, zoo, data_dir=data_dir, on_progress=lambda done, total: on_step("measuring", done, total, {})
    )
    made.provenance.metrics["compression"] = measured.to_json()
    made.provenance.metrics["remarks"] = keeping_remarks(made, zoo, measured)


def _train(
    zoo: Zoo,
    config: GeneratorConfig,
    folder: Path,
    on_step: OnStep,
    compute: TrainingCompute,
    data_dir: str | None,
    on_data: OnData,
) -> Generator:
    if compute.workers > 1 or compute.address:
        from popgen.jobs.ray_train import train_on_ray  # noqa: PLC0415 - Ray takes a second

        return train_on_ray(zoo, config, folder, on_step, compute.workers, compute.address, data_dir)
    return train_generator(zoo, config, folder, on_step, data_dir=data_dir, on_data=on_data)
