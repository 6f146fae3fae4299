"""Consecutive text: blocks, splits, and the modifiers of a name."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import torch

from popgen.data import load_data
from popgen.data.load import check_data_name
from popgen.data.text.lines import cut_blocks
from popgen.errors import BadInput, BrokenFile, NotFound
from popgen.texts import to_texts

TEXT = "".join(f"line {i} is here, é\n" for i in range(300))


@pytest.fixture
def file(here: Path) -> Path:
    (here / "book.txt").write_text(TEXT)
    return here / "book.txt"


def test_blocks_follow_each_other_and_nothing_is_lost_but_borders() -> None:
    blocks = cut_blocks(TEXT.encode(), 50)
    assert max(len(block.encode()) for block in blocks) <= 50
    assert "".join(blocks).replace(" ", "").replace("\n", "") == TEXT.replace(" ", "").replace("\n", "")
    assert all(TEXT[TEXT.find(block) + len(block)] in " \n" for block in blocks[:-1])
    assert cut_blocks("é".encode() * 10, 5) == ["éé"] * 5, "no character is halved"
    assert cut_blocks(b"a" + b" " * 40, 8) == ["a" + " " * 7]


@pytest.mark.usefixtures("file")
def test_splits_are_consecutive_with_a_block_between() -> None:
    data = load_data("lines:book.txt/block:64")
    train, val, test = (to_texts(part.inputs) for part in (data.train, data.val, data.test))
    blocks = cut_blocks(TEXT.encode(), 64)
    assert train + val + test == [b for b in blocks if b not in (blocks[len(train)], blocks[len(train) + 1 + len(val)])]
    assert len(train) == round(0.6 * len(blocks)) and abs(len(val) - len(test)) <= 1
    assert (data.task, data.classes, data.has_texts, data.shape) == ("next-token", ("text",), True, (64,))
    assert f"{len(blocks)} consecutive blocks of at most 64 bytes" in data.remarks[0]
    assert data.train.targets.tolist() == [0] * len(train)


def test_compressed_text_is_the_same_and_blocks_can_be_few(file: Path) -> None:
    Path("book.txt.gz").write_bytes(gzip.compress(TEXT.encode()))
    plain, packed = (load_data(f"lines:{name}/block:64") for name in ("book.txt", "book.txt.gz"))
    assert plain.sha256 == packed.sha256
    few = load_data("lines:book.txt/block:64/blocks:5")
    assert torch.equal(few.train.inputs, plain.train.inputs[:5]) and torch.equal(few.val.inputs, plain.val.inputs[:5])
    assert len(few.test) == len(plain.test)
    file.write_text(TEXT.upper())
    assert load_data("lines:book.txt/block:64").sha256 != plain.sha256, "a changed file is read again"


@pytest.mark.parametrize(
    ("name", "error", "piece"),
    [
        ("lines:other.txt", NotFound, "'other.txt' of data set 'lines:other.txt' does not exist"),
        ("lines:book.txt/block:8", BadInput, "whole bytes from 32 to 4096"),
        ("lines:book.txt/block:64/block:32", BadInput, "has block: twice"),
        ("lines:book.txt/blocks:5/block:64", BadInput, "texts are cut when they are read"),
        ("lines:book.txt/size:32", BadInput, "has size:, which is for images"),
        ("digits/block:64", BadInput, "has block:, which cuts text"),
        ("lines:book.txt/blocks:none", BadInput, "is not a number of blocks"),
    ],
)
@pytest.mark.usefixtures("file")
def test_names_that_do_not_fit_are_refused(name: str, error: type[Exception], piece: str) -> None:
    with pytest.raises(error) as caught:
        check_data_name(name)
    assert piece in str(caught.value)


@pytest.mark.usefixtures("here")
def test_files_that_are_no_text_are_refused() -> None:
    Path("short.txt").write_text("too short")
    Path("latin.txt").write_bytes("é".encode("latin-1") * 9000)
    Path("torn.txt.gz").write_bytes(gzip.compress(TEXT.encode())[:100])
    with pytest.raises(BadInput, match="has 1 blocks of 512 bytes"):
        load_data("lines:short.txt")
    for name in ("latin.txt", "torn.txt.gz"):
        with pytest.raises(BrokenFile, match="is no text"):
            load_data(f"lines:{name}")
    Path("book.txt").write_text(TEXT)
    with pytest.raises(BadInput, match="999 are asked for"):
        load_data("lines:book.txt/block:64/blocks:999")
    with pytest.raises(BadInput, match="it is for images, and these are texts"):
        load_data("lines:book.txt/mirror")


@pytest.mark.usefixtures("file")
def test_a_text_is_described_beside_its_file() -> None:
    assert load_data("lines:book.txt/block:64").description == ""
    Path("tasks.json").write_text('{"book": {"description": "A book of words."}}')
    data = load_data("lines:book.txt/block:64/blocks:5")
    assert data.description == "A book of words." and data.label_phrases == ("text",)
    Path("tasks.json").write_text('{"other": {"description": "Another."}}')
    assert any("says nothing about 'book'" in text for text in load_data("lines:book.txt/block:64").remarks)
    Path("tasks.json").write_text('{"book": {"description": 3}}')
    with pytest.raises(BadInput, match="description is a int"):
        load_data("lines:book.txt/block:64")
