"""Files that are no checkpoints, or claim more than they hold: each is refused with its cause, and nothing else is raised."""

from __future__ import annotations

import argparse
import io
import json
import os
import pickle
import random
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file
from torch import Tensor
from torch._tensor import _rebuild_from_type_v2

from popgen.archs import build
from popgen.errors import BadInput, BrokenFile, PopgenError
from popgen.zoo.imports.loading import read_content
from popgen.zoo.imports.tensors import read_tensors

STATE = build("mlp-s", seed=1).state_dict()
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 1116791\n"


def saved(content: object, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def archive(**files: bytes) -> bytes:
    """A zip archive; __ in a name stands for a slash."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as written:
        for name, content in files.items():
            written.writestr(zipfile.ZipInfo(name.replace("__", "/")), content)  # without the time of day
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        (
            "net.pth",
            POINTER,
            "is a pointer of Git LFS, not a checkpoint\nthe content (1116791 bytes) was not fetched\n",
        ),
        ("net.safetensors", POINTER, "Run git lfs pull"),
        ("net.pth", b"\n<!DOCTYPE html><html>", "is a web page, not a checkpoint\nit begins with '<!DOCTYPE html>"),
        ("net.safetensors", b"\xef\xbb\xbf<HTML>", "is a web page"),
        ("net.pt", b"", "is empty (0 bytes)"),
        ("net.pt", b"\x00\x05\x16\x07\x00\x02", "is an AppleDouble file, which macOS writes"),
        ("net.bin", b"\x89HDF\r\n\x1a\n", "is an HDF5 file, as Keras writes it"),
        ("net.bin", b"GGUF\x03", "is a GGUF file"),
        ("net.pt", b"\x1f\x8b\x08", "is compressed by gzip"),
        ("net.pt", b'{"message": "not found"}', "is a JSON file, not a checkpoint\nit begins with '{\"message"),
        (
            "net.pt",
            archive(net__code__a=b"", net__constants_pkl=b""),
            "is a zip archive, not a checkpoint\nit holds net/",
        ),
        ("net.pt", archive(a=b"1")[:60], "is cut off or damaged (60 bytes)"),
        ("net.pt", saved(STATE)[:-40], "is cut off or damaged"),
        ("net.pt", pickle.dumps([1], protocol=2), "is a plain pickle, not a checkpoint"),
        ("net.safetensors", saved(STATE), "is a PyTorch file\nits name says safetensors\nRename it to .pt."),
        (
            "net.bin",
            save({"a": torch.zeros(2)}),
            "is a safetensors file\nits name does not say so\nRename it to .safetensors.",
        ),
    ],
)
def test_the_first_bytes_name_the_cause(tmp_path: Path, name: str, content: bytes, expected: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises((BrokenFile, BadInput)) as caught:
        read_content(tmp_path / name)
    assert f"{name} {expected}".removeprefix(f"{name} Run") in str(caught.value)


def test_archives_of_other_programs_are_named(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    path.write_bytes(archive(**{"net/data.pkl": b"", "net/constants.pkl": b"", "net/code/net.py": b""}))
    with pytest.raises(BrokenFile, match=r"is a TorchScript archive(.|\n)*torch\.jit\.load"):
        read_content(path)
    with path.open("wb") as file:
        np.savez(file, a=np.zeros(2))
    with pytest.raises(BrokenFile, match=r"is an archive of NumPy arrays\nit holds a\.npy"):
        read_content(path)
    path.write_bytes(archive(xl__workbook=b""))
    with pytest.raises(BrokenFile, match="is an Excel workbook"):
        read_content(path)
    (tmp_path / "a.txt").write_text("a")
    with tarfile.open(path, "w") as file_of_files:
        file_of_files.add(tmp_path / "a.txt", "a.txt")
    with pytest.raises(BrokenFile, match="is a tar archive"):
        read_content(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_what_lies_beside_the_weights_is_read_past(tmp_path: Path, zipped: bool) -> None:
    beside = {
        "is_best": np.bool_(True),
        "numbers": [np.float16(1), np.int64(2), np.uint8(3), np.longdouble(4)],
        "history": {"loss": np.arange(3.0)},
        "args": argparse.Namespace(lr=0.1, folder=Path("runs")),
        "kind": np.dtype("<f8"),  # NumPy's own type crashes the process if its state is damaged
    }
    torch.save({"state_dict": STATE, **beside}, tmp_path / "net.pt", _use_new_zipfile_serialization=zipped)
    content = read_content(tmp_path / "net.pt")
    assert content["is_best"] == np.bool_(True) and content["numbers"] == beside["numbers"]
    assert not isinstance(content["kind"], np.dtype)
    assert all(torch.equal(content["state_dict"][name], STATE[name]) for name in STATE)


def expanded() -> Tensor:
    return torch.zeros(1).expand(50_000, 50_000)


@pytest.mark.parametrize(
    ("tensor", "expected"),
    [
        (lambda: torch.eye(3).to_sparse(), "holds sparse tensors\nin w"),
        (lambda: torch.eye(4).to_sparse_csr(), "holds sparse tensors"),
        (
            lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
            "holds quantised tensors",
        ),
        (lambda: torch.empty(3, device="meta"), r"holds empty \(device meta\) tensors"),
        (lambda: torch.ones(3, dtype=torch.cfloat), "holds complex tensors"),
        (expanded, "holds tensors of 10.0 GB in storages of 0.000 GB"),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.filterwarnings("ignore")
def test_tensors_without_plain_values_are_refused(
    tmp_path: Path, tensor: Callable[[], Tensor], expected: str, zipped: bool
) -> None:
    path = tmp_path / "net.pt"
    torch.save({"state_dict": {"v": torch.ones(2), "w": tensor()}}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(BadInput, match=expected):
        read_tensors(path)


def test_claims_beyond_the_file_are_refused_before_anything_is_allocated(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    content = saved({"w": torch.ones(9)}, _use_new_zipfile_serialization=False)
    terabytes = content.replace(b"cpuq\x06K\x09", b"cpuq\x06\x8a\x06" + (2**41).to_bytes(6, "little"), 1)
    assert terabytes != content
    path.write_bytes(terabytes)
    with pytest.raises(BrokenFile, match=r"is damaged: its header claims more than the file holds\n2199023255552 in"):
        read_content(path)
    path.write_bytes(content.replace(b"X\x01\x00\x00\x00w", b"X\xff\xff\xff\xffw", 1))  # A text of 4 GB.
    with pytest.raises(BrokenFile):
        read_content(path)
    huge = zipfile.ZipInfo("net/data/0")
    with zipfile.ZipFile(path, "w") as written:
        written.writestr("net/data.pkl", b"\x80\x02}.")
        written.writestr(huge, b"1234")
        huge.file_size = 2**33
    with pytest.raises(BrokenFile, match="its header claims more than the file holds"):
        read_content(path)
    header = json.dumps({"w": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    (tmp_path / "net.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(BrokenFile):
        read_content(tmp_path / "net.safetensors")


class _Call:
    """An object whose pickle asks for a call."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("function", "arguments", "named"),
    [
        (bytearray, (2**40,), r"__builtin__\.bytearray"),
        (torch.Tensor, (2**40,), r"torch\.Tensor"),
        (torch.FloatTensor, (2**40,), r"torch\.FloatTensor"),
        (_rebuild_from_type_v2, (torch.Tensor, torch.Tensor, (2**40,), {}), r"torch\.Tensor"),
    ],
)
def test_calls_that_allocate_are_refused(
    tmp_path: Path, function: Callable[..., object], arguments: tuple[object, ...], named: str, zipped: bool
) -> None:
    path = tmp_path / "net.pt"
    path.write_bytes(saved({**STATE, "w": _Call(function, *arguments)}, _use_new_zipfile_serialization=zipped))
    with pytest.raises(BrokenFile, match=rf"is refused: its pickle calls {named}\nit makes objects of any size"):
        read_content(path)


def test_tensors_with_attributes_and_parameters_are_read(tmp_path: Path) -> None:
    tagged = torch.ones(2)
    tagged.tag = 1  # type: ignore[attr-defined]
    torch.save({"a": tagged, "b": torch.nn.Parameter(torch.ones(2))}, tmp_path / "net.pt")
    assert all(torch.equal(t, torch.ones(2)) for t in read_tensors(tmp_path / "net.pt").values())


def test_a_name_that_occurs_twice_in_an_archive_is_refused(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(tmp_path / "net.pt", "w") as written:
        written.writestr("net/data.pkl", b"\x80\x02}.")
        written.writestr("net/data.pkl", b"\x80\x02}.")
    with pytest.raises(BrokenFile, match="a name occurs in it twice"):
        read_content(tmp_path / "net.pt")


def test_a_file_that_holds_itself_is_refused(tmp_path: Path) -> None:
    content: dict[str, Any] = {"epoch": 1}
    content["state_dict"] = content
    torch.save(content, tmp_path / "net.pt")
    with pytest.raises(BrokenFile, match="is nested too deeply"):
        read_tensors(tmp_path / "net.pt")


def test_shards_are_read_by_their_index(tmp_path: Path) -> None:
    names = sorted(STATE)
    shards = {"m-00001-of-00002.safetensors": names[:2], "m-00002-of-00002.safetensors": names[2:]}
    for shard, held in shards.items():
        save_file({name: STATE[name] for name in held}, tmp_path / shard)
    index = tmp_path / "m.safetensors.index.json"
    weight_map = {name: shard for shard, held in shards.items() for name in held}
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    read = read_tensors(index)
    assert read.keys() == STATE.keys() and all(torch.equal(read[name], STATE[name]) for name in read)
    index.write_text(json.dumps({"weight_map": {**weight_map, "more": "../other.safetensors"}}))
    with pytest.raises(BadInput, match="leaves the folder"):
        read_tensors(index)
    index.write_text(json.dumps({"weight_map": {**weight_map, "more": "m-00001-of-00002.safetensors"}}))
    with pytest.raises(BrokenFile, match="lacks tensors of its index\nmore"):
        read_tensors(index)
    index.write_text(json.dumps({"weight_map": {"a": index.name}}))
    with pytest.raises(BadInput, match="names an index as a shard"):
        read_tensors(index)
    for text in ("[]", "{", '{"weight_map": 3}', '{"weight_map": {"a": 1}}', "[" * 100_000):
        index.write_text(text)
        with pytest.raises(BrokenFile, match="is not the index of a sharded checkpoint"):
            read_tensors(index)
    (tmp_path / "m-00002-of-00002.safetensors").unlink()
    index.write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(BrokenFile, match="names 2 shards, of which 1 are not there\nm-00002"):
        read_tensors(index)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_the_right_to_read_it(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "net.pt")
    (tmp_path / "net.pt").chmod(0)
    with pytest.raises(BrokenFile, match=r"cannot be read\nPermission denied\n.*chmod u\+r"):
        read_content(tmp_path / "net.pt")


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_damaged_files_raise_nothing_but_errors_of_popgen(tmp_path: Path, form: str) -> None:
    content = save(STATE) if form == "safetensors" else saved(STATE, _use_new_zipfile_serialization=form == "zip")
    path = tmp_path / ("net.safetensors" if form == "safetensors" else "net.pt")
    drawn = random.Random(0)
    outcomes = set()
    for _ in range(60):
        damaged = bytearray(content)
        for _ in range(3):  # Headers lie at the start and at the end.
            damaged[drawn.choice([drawn.randrange(900), -1 - drawn.randrange(900)])] = drawn.randrange(256)
        path.write_bytes(damaged)
        try:
            outcomes.add(type(read_tensors(path)).__name__)
        except PopgenError as error:
            outcomes.add(type(error).__name__)
    assert outcomes <= {"dict", "BrokenFile", "BadInput"} and len(outcomes) >= 2


def test_a_header_whose_length_begins_like_a_pickle_is_read(tmp_path: Path) -> None:
    """The first byte of a safetensors file is the low byte of its header's length, a multiple of 8."""
    made = (save(STATE, {"pad": "x" * count}) for count in range(256))
    content = next(content for content in made if content[:1] == b"\x80")
    (tmp_path / "net.safetensors").write_bytes(content)
    assert read_content(tmp_path / "net.safetensors").keys() == STATE.keys()
