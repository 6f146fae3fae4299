"""Writes a classifier as a folder in transformers' format, which is loaded without popgen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from popgen.archs.classifiers.bases import (
    IMAGES,
    config_for,
    fresh_model,
    read_preprocessing,
    read_tokenizer,
    what_it_reads,
)
from popgen.archs.from_transformers import quiet
from popgen.files import write_tensors, write_text
from popgen.json_text import json_text
from popgen.types import StateDict

if TYPE_CHECKING:
    from popgen.archs.spec import ArchSpec


def write_classifier(folder: Path, spec: ArchSpec, state: StateDict, classes: Sequence[str]) -> Path:
    """Write config.json, model.safetensors, and what the base has for reading texts or images; returns the folder.

    Args:
        spec: that of an architecture `hf:NAME`.
        classes: names of the outputs; the base's own are kept where their number is another one.
    """
    base, outputs = spec.config.builder.removeprefix("hf:"), spec.config.classes
    reads = what_it_reads(base, new_head=True)
    model, config = fresh_model(base, reads, outputs), config_for(base, outputs)
    config.architectures = [type(model).__name__]
    if len(classes) == outputs:
        config.id2label, config.label2id = dict(enumerate(classes)), {name: i for i, name in enumerate(classes)}
    with quiet():
        config.save_pretrained(folder)
        if reads != IMAGES:
            read_tokenizer(base).save_pretrained(folder)
    if reads == IMAGES and (said := read_preprocessing(base)):
        write_text(folder / "preprocessor_config.json", json_text(said))
    write_tensors(folder / "model.safetensors", model.state_dict() | state, {"format": "pt"})
    return folder
