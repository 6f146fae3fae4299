"""A run's folder, and the names of the files in it.

config.yaml                            the settings, and hashes of what they were applied to
population-ARCH.safetensors            the vectors that the search started from
batch-norm-ARCH.json                   the treatment of batch norm that was chosen for a generator's networks
experts-ARCH.json                      the decisions before a search around experts
precision-ARCH.json                    the precision in which candidates are run, and why
history.jsonl                          every evaluation of all architectures
best-ARCH.safetensors                  the weights of the result
searched-ARCH.safetensors              the search's best weights, where the result was fine-tuned
tuning-ARCH/START-RATE.safetensors     finished trainings of those that chose the result
best-ARCH-peft/                        the same for peft, where they are an adapter
best-ARCH-hf/                          the same for transformers, where they are a classifier hf:NAME
front-ARCH/INDEX.safetensors           the points of a Pareto front
front-ARCH/INDEX-peft/                 the same for peft, where they are adapters
finetuned-ARCH.json, -eN.safetensors   scores after fine-tuning, and the winner's weights after N epochs
result.json                            the tables
README.md                              the card
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from popgen import __version__
from popgen.configs.load import parse, read_yaml
from popgen.configs.search import SearchConfig, nested
from popgen.errors import BrokenFile, CannotResume, NotFound, PopgenError, brief
from popgen.files import new_folder, safe_name, write_tensors, write_text
from popgen.fitness.batch_norm import BatchNorm, checked
from popgen.json_text import json_text, parse_json
from popgen.types import StateDict


class RunFolder:
    """The files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def history(self) -> Path:
        """Every evaluation of all architectures."""
        return self.path / "history.jsonl"

    def population(self, arch: str) -> Path:
        """The vectors that the search of an architecture started from."""
        return self.path / f"population-{safe_name(arch)}.safetensors"

    def batch_norm(self, arch: str) -> Path:
        """The treatment of batch norm that was chosen before the search of an architecture."""
        return self.path / f"batch-norm-{safe_name(arch)}.json"

    def precision(self, arch: str) -> Path:
        """The precision in which candidates of an architecture are run, and why."""
        return self.path / f"precision-{safe_name(arch)}.json"

    def best(self, arch: str) -> Path:
        """The best weights of an architecture."""
        return self.path / f"best-{safe_name(arch)}.safetensors"

    def searched(self, arch: str) -> Path:
        """The best weights of the search itself, where the result was fine-tuned."""
        return self.path / f"searched-{safe_name(arch)}.safetensors"

    def tuning(self, arch: str) -> Path:
        """The folder of finished trainings of those that chose the result."""
        return self.path / f"tuning-{safe_name(arch)}"

    def front(self, arch: str) -> Path:
        """The folder of the points of a Pareto front."""
        return self.path / f"front-{safe_name(arch)}"

    def finetuned(self, arch: str) -> Path:
        """Scores of finished fine-tunings."""
        return self.path / f"finetuned-{safe_name(arch)}.json"

    def finetuned_weights(self, arch: str, epochs: int) -> Path:
        """The weights of the winner after so many epochs."""
        return self.path / f"finetuned-{safe_name(arch)}-e{epochs}.safetensors"

    @classmethod
    def create(cls, config: SearchConfig, out: str | None) -> RunFolder:
        """Make a new folder: `out`, or one under ./runs that is named after the settings.

        Raises:
            BadInput: `out` holds a run or other files already.
        """
        name = safe_name(f"{'+'.join(config.archs)}-{config.data}-s{config.seed}")
        path = new_folder(out, Path("runs") / name, "run", "config.yaml")
        return cls(path)

    @classmethod
    def open(cls, path: str) -> RunFolder:
        """Open the folder of an existing run.

        Raises:
            NotFound: no run there.
        """
        if not (Path(path) / "config.yaml").exists():
            raise NotFound(
                f"there is no run in {path!r}",
                "a run's folder has a config.yaml",
                "`popgen search` prints the folder that it writes.",
            )
        return cls(Path(path))

    def config(self) -> tuple[SearchConfig, dict[str, Any]]:
        """The settings, and the record beside them (versions, hashes, decisions).

        Raises:
            BrokenFile: config.yaml is not what popgen wrote.
        """
        file = self.path / "config.yaml"
        try:
            content = read_yaml(file)
            settings, recorded = nested(content["search"]), content["recorded"]
        except (OSError, PopgenError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise BrokenFile(f"{file} cannot be read", brief(error), "Start a new run.") from error
        return parse(settings, SearchConfig, str(file)), recorded

    def write_config(self, config: SearchConfig, recorded: dict[str, Any]) -> None:
        """Write the settings with the record of what they were applied to: hashes of data and generator, the heads."""
        content = {"search": config.model_dump(mode="json"), "recorded": {"popgen": __version__, **recorded}}
        write_text(self.path / "config.yaml", yaml.safe_dump(content, sort_keys=False))

    def check_same(self, recorded: dict[str, Any], now: dict[str, Any]) -> None:
        """Refuse to resume where settings or files have changed.

        Raises:
            CannotResume: names what changed.
        """
        changed = [f"{key} was {recorded.get(key)}, is {now[key]}" for key in now if recorded.get(key) != now[key]]
        if changed:
            raise CannotResume(
                f"the run in {self.path} cannot go on",
                "; ".join(changed),
                f"Restore what changed, or start a new run from the best of this one: --warm-start {self.path}.",
            )

    def write_best(self, arch: str, state: StateDict, card: dict[str, str]) -> Path:
        """Write the best weights as a plain state dict with `card` as the file's metadata; returns the path."""
        self.searched(arch).unlink(missing_ok=True)  # it stands beside a result that was fine-tuned alone
        return write_tensors(self.best(arch), state, card)

    def write_searched(self, arch: str, state: StateDict, card: dict[str, str]) -> Path:
        """Write the best weights of the search itself beside those of a result that was fine-tuned; returns the path."""
        return write_tensors(self.searched(arch), state, card)

    def write_ensemble(self, arch: str, kind: str, state: StateDict, card: dict[str, str]) -> Path:
        """Write networks that stand side by side, in a file whose name begins with `kind`; returns the path."""
        return write_tensors(self.path / f"{kind}-{safe_name(arch)}.safetensors", state, card)

    def write_front(self, arch: str, index: int, state: StateDict, card: dict[str, str]) -> Path:
        """Write the weights of one point of a Pareto front, named by the index of its evaluation; returns the path."""
        return write_tensors(self.front(arch) / f"{index:05d}.safetensors", state, card)

    def write_result(self, result: dict[str, Any]) -> None:
        """Write result.json."""
        write_text(self.path / "result.json", json_text(result, indent=1) + "\n")


def read_batch_norm(file: Path) -> BatchNorm:
    """The treatment of batch norm that an earlier session of a run chose.

    Raises:
        BrokenFile: it is not what popgen wrote.
    """
    try:
        value = parse_json(file.read_text())["batch_norm"]
        return checked(value if isinstance(value, str) else float(value))
    except (OSError, ValueError, KeyError, TypeError, PopgenError) as error:
        raise BrokenFile(f"{file} cannot be read", brief(error), "Start a new run.") from error
