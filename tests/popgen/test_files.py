"""Files are whole or absent, have the mode that the umask gives, and no folder is ever overwritten."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from popgen import files
from popgen.errors import BadInput


def test_all_files_have_the_mode_that_the_umask_gives(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        files.write_text(tmp_path / "a.txt", "a")
        files.write_tensors(tmp_path / "new" / "a.safetensors", {"x": torch.ones(2)[::2]}, {"format": "pt"})
        files.append_text(tmp_path / "a.jsonl", "{}\n")
    finally:
        os.umask(before)
    written = [tmp_path / name for name in ("a.txt", "new/a.safetensors", "a.jsonl")]
    assert {stat.S_IMODE(file.stat().st_mode) for file in written} == {0o640}
    assert load_file(written[1])["x"].tolist() == [1.0]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config.json"
    files.write_text(file, "old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("no space left")))
    with pytest.raises(OSError, match="no space left"):
        files.write_text(file, "new")
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    assert file.read_text() == "old"


def test_folders_must_be_new_or_empty(tmp_path: Path) -> None:
    files.check_empty(tmp_path / "absent", "a zoo")
    (tmp_path / "full").mkdir()
    files.check_empty(tmp_path / "full", "a zoo")
    (tmp_path / "full" / "mine.txt").write_text("")
    for path in ("full", "full/mine.txt"):
        with pytest.raises(BadInput) as refused:
            files.check_empty(tmp_path / path, "a zoo", "Name another folder.")
        what = f"{tmp_path / path} is not an empty folder"
        assert str(refused.value).splitlines() == [what, "a zoo needs one of its own", "Name another folder."]


def test_the_next_free_default_is_taken(tmp_path: Path) -> None:
    made = [files.new_folder(None, tmp_path / "runs" / "a", "run", "config.yaml").name for _ in range(3)]
    assert made == ["a", "a-2", "a-3"]
    (tmp_path / "runs" / "a" / "config.yaml").write_text("")
    with pytest.raises(BadInput, match="holds a run already"):
        files.new_folder(str(tmp_path / "runs" / "a"), tmp_path, "run", "config.yaml")
