"""YAML files: a key that stands twice is refused with both lines; anchors and merged sections may repeat keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from popgen.configs.load import load, read_yaml
from popgen.configs.spec import SpecFile
from popgen.configs.sweep import load_sweep
from popgen.errors import BadInput, BrokenFile


def written(folder: Path, text: str) -> Path:
    file = folder / "file.yaml"
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    ("text", "key", "lines"),
    [
        ("name: s\nseeds: [0, 1]\ndata: [digits]\nseeds: [7]\n", "seeds", (2, 4)),
        ("zoo:\n  name: z\n  recipe: {epochs: 1, epochs: 2}\n", "epochs", (3, 3)),
        ("zoo:\n  archs:\n    - name: a\n      like: b\n      'name': c\n", "name", (3, 5)),
        ("a: &x {b: 1}\nc: {d: *x, d: 2}\n", "d", (2, 2)),
    ],
)
def test_a_key_that_stands_twice_is_named_with_both_lines(
    tmp_path: Path, text: str, key: str, lines: tuple[int, int]
) -> None:
    file = written(tmp_path, text)
    first, second = lines
    with pytest.raises(BadInput, match=f"{file}: {key} stands twice.*\nin line {first} and in line {second};"):
        read_yaml(file)


def test_sweeps_and_specs_are_read_so(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="data stands twice"):
        load_sweep(written(tmp_path, "name: s\narchs: [cnn-s]\ndata: [digits]\ndata: [digits/blur]\n"))
    with pytest.raises(BadInput, match="zoo stands twice"):
        load(written(tmp_path, "zoo: {name: a}\nzoo: {name: b}\n"), SpecFile)


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("", None),
        ("a: 1\nb: {a: 1}\n'1': x\n1: y\n", {"a": 1, "b": {"a": 1}, "1": "x", 1: "y"}),
        ("a: &x {k: 1, l: 2}\nb: {<<: *x, k: 3}\nc: {<<: *x, k: 4}\n", None),
        ("a: {in: &y {<<: {k: 1}, k: 2}}\nb: {<<: *y}\n", None),
    ],
)
def test_everything_else_is_read_as_before(tmp_path: Path, text: str, content: Any) -> None:
    import yaml

    found = read_yaml(written(tmp_path, text))
    assert found == yaml.safe_load(text)
    assert content is None or found == content


@pytest.mark.parametrize("text", ["a: [", "a: 2024-13-45", "[" * 1500, "a: \x00"])
def test_what_is_no_yaml_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(BrokenFile, match="is not YAML"):
        read_yaml(written(tmp_path, text))
