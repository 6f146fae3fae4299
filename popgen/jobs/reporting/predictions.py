"""The predictions of a run's best network on the examples that chose it, computed again from its file of weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from popgen.archs import ArchSpec, build
from popgen.archs.config import ArchConfig
from popgen.configs.search import SearchConfig
from popgen.data import Part, load_data
from popgen.data.load import is_local
from popgen.data.names import source_of
from popgen.errors import BadInput, BrokenFile, NotFound, brief
from popgen.json_text import parse_json
from popgen.networks.passes import Passes
from popgen.refs import is_module_attr
from popgen.tasks import CLASSIFICATION
from popgen.trust import check_trusted

_Z = 1.959964  # two-sided 95 % of the normal distribution
MOST_CLASSES = 1000


@dataclass(frozen=True)
class Predictions:
    """Counts (classes, classes) of true classes, the rows, and predicted ones; `parameters` of the network."""

    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    split: str
    parameters: int

    @property
    def accuracy(self) -> float:
        """The share of right answers, 0 to 1."""
        return sum(row[i] for i, row in enumerate(self.counts)) / max(sum(map(sum, self.counts)), 1)


def best_predictions(weights: Path, config: SearchConfig, recorded_sha256: object) -> Predictions:
    """Run the network of a file of weights on the split that the search scored candidates on.

    Nothing is downloaded, and no code of the user's runs that is not trusted already.

    Args:
        recorded_sha256: the data set's hash as the run recorded it.

    Raises:
        PopgenError: the weights or the data are not here, are not those of the run, or need code that is not trusted.
    """
    spec, state = _network(weights)
    if spec.config.task != CLASSIFICATION:
        raise BadInput(f"the network does {spec.config.task}", "only classifiers have classes", "")
    part, classes = _part(config, recorded_sha256)
    outputs = Passes(spec, spec.config.inputs.prepare(part.inputs)).outputs(spec.to_flat(state))
    size = max(outputs.shape[1], len(classes))
    if size > MOST_CLASSES:
        raise BadInput(f"the network has {size} classes", f"at most {MOST_CLASSES} are shown", "")
    cells = (part.targets * size + outputs.argmax(1)).bincount(minlength=size * size).reshape(size, size)
    names = (*classes, *(f"output {i}" for i in range(len(classes), size)))
    used = [
        i for i in range(size) if i < len(classes) or bool(cells[:, i].any())
    ]  # a head that was kept may have more outputs
    counts = tuple(tuple(int(cells[i, j]) for j in used) for i in used)
    return Predictions(tuple(names[i] for i in used), counts, config.split, spec.size)


def wilson(right: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a share of right answers, 0 to 1 (Wilson, Probable inference, 1927).

    >>> [round(end, 3) for end in wilson(30, 30)]
    [0.886, 1.0]
    """
    if of == 0:
        return 0.0, 1.0
    share, z2 = right / of, _Z**2 / of
    middle = (share + z2 / 2) / (1 + z2)
    half = math.sqrt(share * (1 - share) * z2 + z2**2 / 4) / (1 + z2)
    return max(0.0, middle - half), min(1.0, middle + half)


def _network(weights: Path) -> tuple[ArchSpec, dict[str, torch.Tensor]]:
    """The architecture and tensors of a file that a search wrote."""
    if not weights.is_file():
        raise NotFound(f"there is no {weights.name} in the run", "a finished search writes it", "")
    try:
        with safe_open(weights, framework="pt") as file:
            config = ArchConfig.from_json(parse_json((file.metadata() or {})["arch_config"]))
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise BrokenFile(f"{weights} cannot be read", brief(error), "Restore it, or search again.") from error
    spec = ArchSpec.from_module(build(config), config)
    wanted = {tensor.name: tensor.shape for tensor in spec.tensors}
    found = {name: tuple(tensor.shape) for name, tensor in state.items() if name in wanted}
    if wanted != found:
        raise BrokenFile(f"{weights} does not fit its own architecture", "tensors or shapes differ", "Restore it.")
    return spec, state


def _part(config: SearchConfig, recorded_sha256: object) -> tuple[Part, tuple[str, ...]]:
    """The split and the names of its classes."""
    if config.split not in ("train", "val"):
        raise BadInput(f"no search scores candidates on the split {config.split!r}", "", "")
    source = source_of(config.data)
    if is_module_attr(source):
        check_trusted(source)
    elif not is_local(config.data, config.data_dir):
        raise NotFound(f"the data set {config.data!r} is not on this machine", "a report downloads nothing", "")
    data = load_data(config.data, config.data_dir)
    if recorded_sha256 is not None and data.sha256 != recorded_sha256:
        raise BadInput(f"the data set {config.data!r} is not what it was", "its hash differs from the run's", "")
    part: Part = getattr(data, config.split)
    return part, data.classes
