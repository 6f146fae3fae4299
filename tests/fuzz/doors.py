"""The doors of popgen: files of each kind that it reads, and the function that reads them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from mutate import Mutation, in_bytes, in_header, in_json, in_png, in_text, in_zip, some_of
from PIL import Image
from safetensors.torch import save

import popgen
from popgen.archs import ArchSpec, build
from popgen.configs.load import load
from popgen.configs.spec import SpecFile
from popgen.configs.sweep import load_sweep
from popgen.data import DataSet, load_data
from popgen.data.groups import load_groups
from popgen.data.images.reader import read_image
from popgen.generator import Generator
from popgen.jobs.searching.decide import read_decision
from popgen.jobs.searching.folder import RunFolder
from popgen.jobs.train import train
from popgen.weights.mask import read_mask
from popgen.zoo import Zoo, build_zoo
from popgen.zoo.imports.checkpoint import ForeignCheckpoint
from popgen.zoo.imports.listing import list_checkpoints
from popgen.zoo.imports.matching import fit_tensors
from popgen.zoo.imports.tensors import find_tensors
from popgen.zoo.verify import find_problems
from search import Budget, History, Population, SearchSettings, best_of, run_search

ARCH = "mlp-s/hidden:4"
TINY = {
    "zoo": {"name": "tiny", "archs": [ARCH], "data": ["digits", "digits/invert"], "seeds": [0, 1], "workers": 0},
    "generator": {
        "vae": {"latent_tokens": 2, "latent_width": 4, "width": 16, "steps": 2, "gate": 1, "behaviour_networks": 1},
        "encoders": {"width": 16, "out": 8, "steps": 2},
        "prior": {"width": 16, "layers": 1, "steps": 2, "batch": 4, "sampling": {"steps": 2}},
        "tune": {"steps": 2, "networks": 2},
        "describe": {"steps": 2},
        "restore": {"steps": 2, "networks": 2},
    },
}


@dataclass(frozen=True)
class Sample:
    """A sound file that is mutated; `name` is its path in the folder of its door."""

    name: str
    content: bytes
    mutation: Mutation


@dataclass(frozen=True)
class Door:
    """Files of one kind. `read` takes the path of the mutated file, whose folder holds all other samples as they are."""

    name: str
    share: float  # its share of all inputs
    samples: list[Sample]
    read: Callable[[Path], object]

    def fill(self, folder: Path) -> None:
        """Write all samples."""
        for sample in self.samples:
            file = folder / sample.name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(sample.content)


def doors(scratch: Path) -> list[Door]:
    """All doors; `scratch` is an empty folder for what is made on the way."""
    (scratch / "spec.yaml").write_text(yaml.safe_dump(TINY))
    spec = load(scratch / "spec.yaml", SpecFile)
    zoo = build_zoo(spec.zoo, scratch / "zoo", workers=0, progress=False)
    return [
        Door("images", 0.35, _images(), _read_image),
        Door("pt, pth", 0.15, _torch_files(), _read_checkpoint),
        Door("safetensors", 0.13, _safetensors(), _read_checkpoint),
        Door("YAML specs", 0.05, _specs(), _read_spec),
        Door("CSV indexes", 0.12, _tables(), _Tables(load_data("digits"))),
        Door("history.jsonl", 0.08, _history(scratch), _read_history),
        Door("run folders", 0.06, _run(scratch), _read_run),
        Door("zoo folders", 0.05, _folder(zoo.folder), _read_zoo),
        Door("generator folders", 0.01, _folder(_generator(scratch)), _read_generator),
    ]


def _images() -> list[Sample]:
    draw = np.random.default_rng(0)
    rgb = Image.fromarray(draw.integers(0, 256, (9, 7, 3), dtype=np.uint8))
    deep = Image.fromarray(draw.integers(0, 2**16, (5, 6), dtype=np.uint16))
    exif = Image.Exif()
    exif[0x0112] = 6
    forms: list[tuple[str, Image.Image, dict[str, Any]]] = [
        ("rgb.png", rgb, {}),
        ("palette.png", rgb.convert("P"), {"transparency": 3}),
        ("alpha.png", rgb.convert("RGBA"), {"exif": exif}),
        ("deep.png", deep, {}),
        ("one.png", rgb.convert("1"), {}),
        ("turned.jpg", rgb, {"exif": exif}),
        ("inks.jpeg", rgb.convert("CMYK"), {}),
        ("steps.jpg", rgb, {"progressive": True}),
        ("plain.bmp", rgb, {}),
        ("plain.webp", rgb, {}),
        ("alpha.webp", rgb.convert("RGBA"), {"lossless": True, "exif": exif}),
        ("plain.gif", rgb.convert("P"), {}),
        ("plain.tiff", rgb, {}),
        ("deep.tif", deep, {"compression": "tiff_lzw"}),
        ("float.tif", rgb.convert("F"), {"compression": "tiff_deflate"}),
        ("plain.ppm", rgb, {}),
    ]
    samples = []
    for name, image, options in forms:
        content = io.BytesIO()
        image.save(content, Image.registered_extensions()[Path(name).suffix], **options)
        mutation = some_of(in_png, in_bytes) if name.endswith("png") else in_bytes
        samples.append(Sample(name, content.getvalue(), mutation))
    return samples


def _read_image(path: Path) -> object:
    """Read an image as data sets do."""
    return read_image(path, path.name)


def _state() -> dict[str, torch.Tensor]:
    return dict(build(ARCH).state_dict())


def _torch_files() -> list[Sample]:
    state = _state()
    full = {
        "epoch": np.int64(3),
        "best_acc1": np.float64(91.5),
        "amp": np.bool_(True),
        "state_dict": {f"module.{name}": tensor for name, tensor in state.items()},
        "state_dict_ema": {name: tensor.half() for name, tensor in state.items()},
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
    }
    samples = []
    for name, content, zipped in (
        ("plain.pt", state, True),
        ("full.pth", full, True),
        ("old.pth", state, False),
        ("old_full.pth.tar", full, False),
        ("list.bin", [state, None, "text"], True),
    ):
        file = io.BytesIO()
        torch.save(content, file, _use_new_zipfile_serialization=zipped)
        samples.append(Sample(name, file.getvalue(), some_of(in_zip, in_zip, in_bytes) if zipped else in_bytes))
    return samples


def _safetensors() -> list[Sample]:
    state, mutation = _state(), some_of(in_header, in_header, in_bytes)
    names = list(state)
    half = {name: tensor.to(torch.bfloat16) for name, tensor in state.items()}
    parts = {"m-00001-of-00002.safetensors": names[:2], "m-00002-of-00002.safetensors": names[2:]}
    index = {"metadata": {}, "weight_map": {name: file for file, of in parts.items() for name in of}}
    return [
        Sample("plain.safetensors", save(state), mutation),
        Sample("half.safetensors", save(half, {"format": "pt", "val_accuracy": "0.9"}), mutation),
        Sample("m.safetensors.index.json", json.dumps(index).encode(), some_of(in_json, in_json, in_text, in_bytes)),
        *(Sample(file, save({name: state[name] for name in of}), mutation) for file, of in parts.items()),
    ]


def _read_checkpoint(path: Path) -> object:
    found = find_tensors(path)
    return fit_tensors(ArchSpec.from_config(ARCH), found.tensors, path.name)


def _specs() -> list[Sample]:
    root = Path(__file__).parents[2] / "zoo_specs"
    sweep = {"name": "grid", "archs": ["mlp-s"], "data": ["digits"], "seeds": [0, 1], "search": {"evaluations": 40}}
    texts = {"tiny.yaml": yaml.safe_dump(TINY), "grid.sweep.yaml": yaml.safe_dump(sweep)}
    texts |= {file.name: file.read_text() for file in sorted(root.glob("*.yaml")) if file.stat().st_size < 3000}
    return [Sample(name, text.encode(), some_of(in_text, in_text, in_bytes)) for name, text in texts.items()]


def _read_spec(path: Path) -> object:
    return load_sweep(path).searches() if path.name.endswith(".sweep.yaml") else load(path, SpecFile)


def _tables() -> list[Sample]:
    head = ["File", "architecture", "dataset", "lineage", "accuracy_val", "sha256"]
    rows = [[f"net{i}.pt", ARCH, "digits", f"run{i}", f"{90 + i}.5%", ""] for i in range(3)]
    texts = []
    for delimiter in (",", ";", "\t"):
        text = io.StringIO()
        csv.writer(text, delimiter=delimiter).writerows([head, *rows])
        texts.append(text.getvalue())
    groups = "index;Group\n" + "".join(f"{i};{'ab'[i % 2]}\n" for i in range(300))
    contents = {
        "comma.csv": texts[0].encode(),
        "excel.csv": texts[1].encode("utf-8-sig"),
        "tabs.tsv": texts[2].encode(),
    }
    contents["groups.csv"] = groups.encode()
    return [Sample(name, content, some_of(in_text, in_text, in_bytes)) for name, content in contents.items()]


@dataclass(frozen=True)
class _Tables:
    data: DataSet

    def __call__(self, path: Path) -> object:
        if path.name == "groups.csv":
            return load_groups(self.data, str(path))
        return list_checkpoints(path, ForeignCheckpoint(path))


def _history(scratch: Path) -> list[Sample]:
    file, seeds = scratch / "history.jsonl", Population(np.random.default_rng(0).normal(size=(4, 3)), ["drawn"] * 4)
    budget = Budget(evaluations=12)
    run_search(lambda v: float(v @ v), seeds, SearchSettings(budget=budget, batch=4), history_path=file, key="a")
    seeds.save(scratch / "seeds.safetensors")
    return [
        Sample("history.jsonl", file.read_bytes(), some_of(in_json, in_json, in_text, in_bytes)),
        Sample("seeds.safetensors", (scratch / "seeds.safetensors").read_bytes(), some_of(in_header, in_bytes)),
    ]


def _read_history(path: Path) -> object:
    seeds = Population.load(path.with_name("seeds.safetensors"))
    best = best_of(path.with_name("history.jsonl"), "a", seeds, 3)
    with History(path.with_name("history.jsonl"), "a") as history:
        return best, len(history.records)


def _run(scratch: Path) -> list[Sample]:
    out = scratch / "run"
    options: dict[str, Any] = {
        "space": "mix",
        "zoo": str(scratch / "zoo"),
        "compute": {"workers": 0},
        "finetune": {"mode": "never"},
    }
    popgen.search(ARCH, "digits", evaluations=8, baselines="none", out=str(out), **options)
    json_like, binary = some_of(in_json, in_json, in_text, in_bytes), some_of(in_header, in_bytes)
    mutations = {".yaml": some_of(in_text, in_text, in_bytes), ".json": json_like, ".safetensors": binary}
    files = [file for file in sorted(out.iterdir()) if file.suffix in mutations and file.name != "result.json"]
    return [Sample(file.name, file.read_bytes(), mutations[file.suffix]) for file in files]


def _read_run(path: Path) -> object:
    folder = RunFolder.open(str(path.parent))
    if path.suffix == ".yaml":
        return folder.config()
    if path.suffix == ".json":
        return read_decision(path)
    if path.name.startswith("population"):
        return Population.load(path)
    return read_mask(ArchSpec.from_config(ARCH), ["head"], str(path))


def _generator(scratch: Path) -> Path:
    train(str(scratch / "spec.yaml"), out=str(scratch / "generator"), zoo=str(scratch / "zoo"))
    return scratch / "generator"


def _folder(folder: Path) -> list[Sample]:
    """The files of a zoo or of a generator."""
    json_like, binary = some_of(in_json, in_json, in_text, in_bytes), some_of(in_header, in_bytes)
    mutations = {".json": json_like, ".jsonl": json_like, ".safetensors": binary}
    files = [file for file in sorted(folder.rglob("*")) if file.suffix in mutations and "log" not in file.parts]
    return [Sample(str(file.relative_to(folder)), file.read_bytes(), mutations[file.suffix]) for file in files]


def _read_zoo(path: Path) -> object:
    zoo = Zoo.open(path.parent.parent if path.parent.name == "shards" else path.parent)
    records = zoo.select()
    return [zoo.matrix(zoo.select(arch=arch)) for arch in zoo.archs], records, find_problems(zoo)


def _read_generator(path: Path) -> object:
    generator = Generator.from_pretrained(path.parent)
    return [generator.stored(arch, data) for arch in generator.specs for data in generator.provenance.data]
