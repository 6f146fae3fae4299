"""Writes and reads the folder of a generator.

config.json holds the settings, the architectures and the provenance; codes.json has a line for each stored code;
model.safetensors holds all tensors, in the precision that popgen/generator/storage.py describes; texts.json has the
sentence embeddings of the architectures, and family.safetensors summaries of the training data sets. README.md is the
card, which no hash depends on.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from popgen.archs import ArchConfig, ArchSpec
from popgen.cards.make import keep_card
from popgen.configs.generator import GeneratorConfig
from popgen.errors import BadInput, BrokenFile, NotFound, brief
from popgen.files import write_tensors, write_text
from popgen.generator.family.reference import read_reference, write_reference
from popgen.generator.names import generator_folder
from popgen.generator.records import Code, Provenance
from popgen.generator.storage import pack, unpack, unpack_scalings, unpack_whole
from popgen.generator.texts import read_texts, write_texts
from popgen.hub.kinds import GENERATOR
from popgen.json_text import json_text, parse_json

if TYPE_CHECKING:
    from popgen.generator.generator import Generator

# In format 2 the settings of sampling were keys of `prior`; now they are keys of `prior.sampling`, with new names.
FORMAT = 3
_SAMPLING_OF_2 = {"sampler": "sampler", "sample_steps": "steps", "guidance": "guidance", "strength": "strength"}
# Errors that are raised when the files of a folder contradict each other.
_MISFITS = (KeyError, RuntimeError, TypeError, ValueError, AttributeError, NotFound, BadInput)


def save_generator(generator: Generator, folder: Path) -> None:
    """Write all files of the generator's folder."""
    whole = {f"base.{arch}": flat for arch, flat in generator.bases.items()}
    whole |= {f"further.{arch}": flats for arch, flats in generator.further.items()}
    whole |= {f"robust.{arch}": flat for arch, flat in generator.robust.items()}
    tensors = pack(generator.state_dict(), generator.specs, generator.scalings, generator.config.storage, whole)
    write_tensors(folder / "model.safetensors", tensors)
    lines = ",\n".join(json_text(code.to_json()) for code in generator.records)
    write_text(folder / "codes.json", f"[\n{lines}\n]\n")
    write_texts(generator.texts, folder)
    write_reference(generator.reference, folder)
    save_config(generator, folder)


def save_config(generator: Generator, folder: Path) -> None:
    """Write only config.json and the card, because some metrics are measured after the other files were saved."""
    config = {
        "format": FORMAT,
        "generator": generator.config.model_dump(),
        "archs": {name: spec.config.to_json() for name, spec in generator.specs.items()},
        "feature_dim": generator.feature_dim,
        "text_dim": generator.text_dim,
        "provenance": asdict(generator.provenance),
    }
    write_text(folder / "config.json", json_text(config, indent=1) + "\n")
    keep_card(folder, GENERATOR)


def load_generator(kind: type[Generator], name: str | Path) -> Generator:
    """Load a generator by the name of a built-in one or by its folder.

    Args:
        kind: the class of the returned object.

    Raises:
        NotFound: `name` is neither a built-in generator nor a generator's folder.
        BrokenFile: a file is missing, truncated, or does not fit the others.
    """
    folder = generator_folder(name)
    config, records, tensors = read_folder(folder)
    try:
        generator = _assemble(kind, config, records, tensors)
    except _MISFITS as error:
        raise BrokenFile(
            f"the files of the generator in {folder} do not fit together", brief(error), "Train or copy it again."
        ) from error
    generator.texts = read_texts(folder, generator.text_dim)
    generator.reference = read_reference(folder, generator.feature_dim)
    generator.sha256 = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    return generator.eval().requires_grad_(False)


def read_folder(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Tensor]]:
    """Read config.json, codes.json and model.safetensors of a generator, and convert them to the current format.

    Raises:
        BrokenFile: a file is missing or truncated, or has an unknown format.
    """
    try:
        config = parse_json((folder / "config.json").read_text())
        records = parse_json((folder / "codes.json").read_text())
        tensors = load_file(folder / "model.safetensors")
        found = config["format"]
        if found == 2:
            prior = config["generator"]["prior"]
            prior["sampling"] = {new: prior.pop(old) for old, new in _SAMPLING_OF_2.items() if old in prior}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, SafetensorError) as error:
        raise BrokenFile(
            f"the generator in {folder} cannot be read", brief(error), "Train or copy it again."
        ) from error
    if found not in (2, FORMAT):
        raise BrokenFile(
            f"the generator in {folder} has format {found}", f"this popgen reads format {FORMAT}", "Train it again."
        )
    return config, records, tensors


def _assemble(
    kind: type[Generator], config: dict[str, Any], records: list[dict[str, Any]], tensors: dict[str, Tensor]
) -> Generator:
    """Return a generator from the contents of its files.

    Raises:
        Any of _MISFITS: the files do not fit together.
    """
    specs = {arch: ArchSpec.from_config(ArchConfig.from_json(c)) for arch, c in config["archs"].items()}
    scalings = unpack_scalings(tensors, specs)
    bases, robust = (unpack_whole(tensors, specs, kind) for kind in ("base", "robust"))
    further = unpack_whole(tensors, specs, "further", dim=2)
    state = unpack(tensors, specs, scalings)
    names = {arch: scalings[arch].moved(spec).fingerprint for arch, spec in specs.items()}
    ranks = {arch: len(state[f"residuals.{name}.basis"]) for arch, name in names.items()}
    settings = GeneratorConfig(**config["generator"])
    with torch.device("meta"):  # No memory is taken for sizes that config.json states and the tensors do not have.
        generator = kind(settings, specs, scalings, config["feature_dim"], config["text_dim"], ranks)
        for name in ("codes", "residual_codes", "data_vectors"):
            setattr(generator, name, torch.empty(state[name].shape))
        for arch, flats in further.items():
            generator.add_starts(arch, flats)
    generator.load_state_dict(state, assign=True)
    generator.bases, generator.robust = bases, robust
    generator.records = [Code.from_json(record) for record in records]
    generator.provenance = Provenance(**config["provenance"])
    for arch in specs if generator.directions else ():
        generator.starts(arch)  # each has its base and its id
    if len(generator.residual_codes) != len(generator.codes):
        raise ValueError(f"there are {len(generator.codes)} codes but {len(generator.residual_codes)} residual codes")
    if sorted(r.row for r in generator.records) != list(range(len(generator.codes))):
        raise ValueError(f"codes.json lists {len(records)} codes, model.safetensors holds {len(generator.codes)}")
    if len(generator.provenance.data) != len(generator.data_vectors):
        raise ValueError(
            f"provenance.data lists {len(generator.provenance.data)} data sets, "
            f"model.safetensors holds the embeddings of {len(generator.data_vectors)}"
        )
    return generator
