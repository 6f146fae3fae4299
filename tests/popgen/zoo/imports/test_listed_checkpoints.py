"""Folders and indices: what is taken, what is passed over and said, and the CSV that spreadsheets write."""

from __future__ import annotations

from pathlib import Path

import pytest

from popgen.errors import BadInput, BrokenFile, NotFound
from popgen.zoo.imports.checkpoint import ForeignCheckpoint
from popgen.zoo.imports.listing import list_checkpoints

DEFAULT = ForeignCheckpoint(Path("-"), "mlp-s", "digits")


def listed(path: Path) -> tuple[list[ForeignCheckpoint], list[str]]:
    said: list[str] = []
    return list_checkpoints(path, DEFAULT, said.append), said


def test_a_folder_says_what_it_passes_over(tmp_path: Path) -> None:
    taken = ["a.pth.tar", "B.PTH", "c.ckpt", "d.th", "e.bin", "m.safetensors.index.json", "n.SafeTensors"]
    others = ["._a.pth", ".hidden.pt", "m-00001-of-00001.safetensors", "readme.md", "notes.md", "Makefile"]
    for name in (*taken, *others):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "more").mkdir()
    (tmp_path / "gone.pt").symlink_to(tmp_path / "nowhere")
    found, said = listed(tmp_path)
    assert [f.path.name for f in found] == sorted(taken)
    assert [f.stem for f in found] == ["B", "a", "c", "d", "e", "m", "n"]
    reasons = [
        *("2 of macOS (._*, __MACOSX)", "1 hidden", "1 without a suffix", "1 links to files that are not there"),
        *("1 shards of an index", "1 sub-folders", "2 .md"),
    ]
    assert said == [f"{tmp_path}: 7 taken; passed over: {'; '.join(reasons)}"]


def test_a_folder_without_checkpoints_says_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "._a.pth").write_bytes(b"")
    (tmp_path / "net.h5").write_bytes(b"")
    with pytest.raises(NotFound, match=r"holds no checkpoints\n.*passed over: 1 of macOS .*; 1 \.h5"):
        listed(tmp_path)


def test_a_shard_alone_leads_to_its_index(tmp_path: Path) -> None:
    shard = tmp_path / "m-00001-of-00002.safetensors"
    shard.write_bytes(b"")
    assert listed(shard)[0][0].path == shard
    (tmp_path / "m.safetensors.index.json").write_bytes(b"{}")
    with pytest.raises(BadInput, match=r"is one of several shards\n.*\nImport .*m\.safetensors\.index\.json"):
        listed(shard)


@pytest.mark.parametrize(
    "content",
    [
        b"File;Architecture;Data Set;Accuracy stated;Loss\r\na.pt;cnn-s;digits/invert;91,5 %;0,25\r\n;;;;\r\n",
        b"\xef\xbb\xbffile,ARCH,dataset,accuracy-stated,loss\na.pt,cnn-s,digits/invert,91.5%,.25\n",
        b"sep=;\r\nfile;arch;data;accuracy_stated;loss\r\na.pt;cnn-s;digits/invert;91.5;0.25\r\n",
        "file\tarch\tdata\taccuracy stated\tloss\na.pt\tcnn-s\tdigits/invert\t0,915\t0,25\n".encode("utf-16"),
        b'file,arch,data,accuracy_stated,loss\n"a.pt","cnn-s",digits/invert,"91,5","0,25"\n',
    ],
    ids=["semicolons", "mark", "sep", "tabs in utf-16", "quoted"],
)
def test_the_csv_of_spreadsheets_is_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "index.CSV").write_bytes(content)
    ((one,), said) = listed(tmp_path / "index.CSV")
    assert (one.path, one.arch, one.data) == ((tmp_path / "a.pt").resolve(), "cnn-s", "digits/invert")
    assert one.metrics == {"accuracy_stated": pytest.approx(0.915), "loss": 0.25}
    assert said == []


@pytest.mark.parametrize(
    ("content", "error", "expected"),
    [
        (b"file,arch\n,cnn-s\n", BadInput, "row 1 names no file\nit has arch"),
        (b"file,File\na.pt,b.pt\n", BadInput, "has two columns called 'file'"),
        (b"file,use\na.pt,best\n", BadInput, "use is 'best'\nit is ema or empty"),
        (b"file,accuracy\na.pt,1.234.5\n", BadInput, "accuracy of a.pt is '1.234.5'"),
        (b"file\n\n", BadInput, "describes no checkpoints"),
        (b"", BadInput, "has no column 'file'\nit has nothing"),
        (b"file,source\na.pt,M\xfcnchen\n", BrokenFile, "Excel: CSV UTF-8"),
        (b"file\n" + b"x" * 5000 + b"\x00.pt\n", BadInput, "no file can have this name|cannot be read"),
    ],
)
def test_an_index_that_cannot_be_read_is_explained(
    tmp_path: Path, content: bytes, error: type[Exception], expected: str
) -> None:
    (tmp_path / "index.csv").write_bytes(content)
    with pytest.raises(error, match=expected):
        listed(tmp_path / "index.csv")


def test_columns_that_are_not_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "index.csv").write_text("file,optimizer,Top 1\na.pt,sgd,90\n")
    assert listed(tmp_path / "index.csv")[1] == [
        f"{tmp_path / 'index.csv'}: columns that are not read: optimizer, top 1"
    ]


def test_a_workbook_is_no_index(tmp_path: Path) -> None:
    (tmp_path / "index.xlsx").write_bytes(b"PK")
    with pytest.raises(BadInput, match="is a workbook\nan index is a CSV"):
        listed(tmp_path / "index.xlsx")
