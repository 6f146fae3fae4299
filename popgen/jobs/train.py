"""`popgen train`: from a spec to a generator, building the zoo first where it is not there yet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from popgen.archs import trust_named
from popgen.audit.compression import measure_compression
from popgen.configs.load import load, parse
from popgen.configs.spec import SpecFile
from popgen.errors import BadInput
from popgen.generator import Generator, GeneratorConfig
from popgen.generator.folder import save_config
from popgen.generator.training import train_generator
from popgen.generator.training.loop import Report
from popgen.generator.training.workers import check_workers
from popgen.zoo import Zoo, build_zoo


def read_spec(spec: str, overrides: dict[str, Any] | None = None) -> tuple[SpecFile, GeneratorConfig]:
    """The checked spec and its generator's settings.

    Raises:
        PopgenError: as `popgen.configs.spec.load`.
    """
    content = load(spec, SpecFile, overrides)
    return content, parse(content.generator or {}, GeneratorConfig, f"{spec}: generator")


def train(
    spec: str,
    out: str | None = None,
    *,
    zoo: str | None = None,
    workers: int | None = None,
    train_workers: int = 1,
    address: str | None = None,
    overrides: dict[str, Any] | None = None,
    data_dir: str | None = None,
    report: Report | None = None,
) -> Generator:
    """Train the generator of a spec and save it.

    Args:
        out: the folder; None: generators/NAME.
        zoo: a zoo's folder; None: zoos/NAME, built or completed first.
        workers: processes that build the zoo.
        train_workers: workers that share every step of the generator's training (Ray Train); 1: this process alone.
        address: of the Ray cluster that they run on; None: RAY_ADDRESS, else this machine.
        overrides: dotted keys of the spec with other values.
        data_dir: the folder of named data sets; None: POPGEN_DATA, else ./data.
        report: called after every step with stage, step, number of steps, smoothed losses.

    Raises:
        PopgenError: a spec or a zoo that does not fit, or reconstruction that fails the gate.
    """
    content, config = read_spec(spec, overrides)
    folder = Path(out or f"generators/{content.zoo.name}")
    if (folder / "config.json").exists():
        raise BadInput(
            f"{folder} holds a generator already", "it is never overwritten", "Choose another --out, or remove it."
        )
    check_workers(config, train_workers)
    entries = [*content.zoo.archs, *(entry.arch for entry in content.zoo.checkpoints if entry.arch)]
    trust_named(entry.like or entry.name for entry in entries)
    found = (
        Zoo.open(zoo)
        if zoo
        else build_zoo(content.zoo, Path("zoos") / content.zoo.name, workers=workers, data_dir=data_dir)
    )
    made = _train(found, config, folder, report or (lambda *_: None), train_workers, address, data_dir)
    made.provenance.metrics["compression"] = measure_compression(made, found, data_dir=data_dir).to_json()
    save_config(made, folder)
    return made


def _train(
    zoo: Zoo,
    config: GeneratorConfig,
    folder: Path,
    report: Report,
    workers: int,
    address: str | None,
    data_dir: str | None,
) -> Generator:
    if workers > 1 or address:
        from popgen.jobs.ray_train import train_on_ray  # noqa: PLC0415 - Ray takes a second

        return train_on_ray(zoo, config, folder, report, workers, address, data_dir)
    return train_generator(zoo, config, folder, report, data_dir=data_dir)
