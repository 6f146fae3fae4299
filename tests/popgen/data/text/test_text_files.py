"""`text:FILE` finds its columns, classes and splits, and says what is unusual."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from text_rows import opinions

from popgen.data import DataSet, describe, load_data
from popgen.data.load import check_data_name, is_local
from popgen.data.text import make
from popgen.errors import BadInput, BrokenFile, NotFound
from popgen.jobs.names import check_source
from popgen.texts import LONGEST, PAIR, split_pair, to_texts


def sizes(data: DataSet) -> list[int]:
    return [len(data.train), len(data.val), len(data.test)]


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.gz", "x.csv", "x.tsv.gz", "x.parquet"])
def test_a_table_is_split_by_class(name: str, write: Any) -> None:
    path = write(name, opinions(40))
    data = load_data(f"text:{path}")
    assert (data.classes, sizes(data)) == (("bad", "good"), [24, 8, 8])
    assert data.has_texts and not data.has_images and data.noun == "texts"
    assert all(part.targets.bincount().tolist() == [len(part) / 2] * 2 for part in (data.train, data.val, data.test))
    assert {part.inputs.shape[1:] for part in (data.train, data.val, data.test)} == {data.shape}
    for text, label in zip(to_texts(data.test.inputs), data.test.targets.tolist(), strict=True):
        assert ("lovely" in text) == (data.classes[label] == "good")
    assert data.remarks == ("texts read: 40, split here into train, val and test",)
    assert is_local(f"text:{path}/shots:2") and not is_local("text:missing.csv")


def test_every_file_format_gives_the_same_data(write: Any) -> None:
    hashes = {load_data(f"text:{write(name, opinions(20))}").sha256 for name in ("x.jsonl", "x.csv", "x.parquet")}
    assert len(hashes) == 1


def test_splits_of_a_column(write: Any) -> None:
    rows = [{**row, "split": ("train", "validation", "Test")[i % 5 % 3]} for i, row in enumerate(opinions(20))]
    data = load_data(f"text:{write('x.jsonl', rows)}")
    assert sizes(data) == [8, 8, 4]
    assert data.remarks == ("texts read: train 8, val 8, test 4",)
    rows[3]["split"] = "extra"
    with pytest.raises(BadInput, match=r"row 4 of .*x.jsonl has the split 'extra'\nknown are train, val"):
        load_data(f"text:{write('x.jsonl', rows)}")
    rows[3]["split"] = None
    with pytest.raises(BadInput, match="row 4 of .* has the split None"):
        load_data(f"text:{write('x.jsonl', rows)}")
    with pytest.raises(BadInput, match="has no rows of train\nits column `split` has test"):
        load_data(f"text:{write('x.jsonl', [{**row, 'split': 'test'} for row in rows])}")


def test_splits_of_files(write: Any, tmp_path: Path) -> None:
    write("set/train.jsonl", opinions(20))
    write("set/dev.csv", opinions(6, start=20))
    write("set/notes.csv", opinions(2))
    name = f"text:{tmp_path / 'set'}"
    data = load_data(name)
    assert sizes(data) == [16, 6, 4]
    assert data.remarks == ("texts read: train 20, val 6; test is cut from train",)
    write("set/test.jsonl.gz", opinions(5, start=40))
    assert sizes(load_data(name)) == [20, 6, 5], "a new file is seen"
    write("set/val.csv", opinions(6))
    with pytest.raises(BadInput, match="has two splits that mean val"):
        check_data_name(name)
    (tmp_path / "set" / "train.jsonl").unlink()
    (tmp_path / "set" / "val.csv").unlink()
    with pytest.raises(BadInput, match=r"set has no table called train\nit has dev.csv, notes.csv, test.jsonl.gz"):
        check_data_name(name)


@pytest.mark.parametrize(
    ("columns", "label", "said"),
    [
        (("Sentence",), "target", "texts are read from 'Sentence', labels from 'target'"),
        (("review",), "label", "texts are read from 'review', labels from 'label'"),
        (("text",), "Category", "texts are read from 'text', labels from 'Category'"),
        (("premise", "hypothesis"), "label", "texts are read from 'premise' and 'hypothesis', labels from 'label'"),
        (("text_a", "text_b"), "label", None),
    ],
)
def test_columns_are_guessed_and_said(columns: tuple[str, ...], label: str, said: str | None, write: Any) -> None:
    rows = [
        {"id": str(i), **{key: f"{key} {row['text']}" for key in columns}, label: row["label"]}
        for i, row in enumerate(opinions(20))
    ]
    data = load_data(f"text:{write('x.csv', rows)}")
    assert data.remarks[:-1] == (() if said is None else (said,))
    assert {text.split(" ")[0] for text in to_texts(data.train.inputs)} == {columns[0]}
    assert {PAIR in text for text in to_texts(data.train.inputs)} == {len(columns) == 2}


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([{"words": "a", "label": "b"}], "has no column of texts that popgen knows\nit has 'words', 'label'\nCall the"),
        ([{"text": "a", "mark": "b"}], "has no column of labels that popgen knows\nit has 'text', 'mark'\nCall the"),
        ([{"text": ["a"], "label": "b"}], "column 'text' of .* does not hold texts alone\nsome cells hold"),
        (
            [{"text": "a", "label": 0.5}],
            "row 1 of .* has the label 0.5 in 'label'\na class is a text or a whole number",
        ),
        ([{"text": "a", "label": ["b"]}], r"row 1 of .* has the label \['b'\]"),
        ([{"text": "a", "label": None}], "has no labels\ncolumn 'label' is empty"),
        ([{"text": " ", "label": "b"}], r"has no texts\npassed over: 1 empty \(row 1\)"),
        ([], "has no column of texts that popgen knows\nit has no columns"),
        (opinions(2), "has too few texts\nthey cannot be cut into test: 2 in all"),
        (
            [{**row, "split": "train" if row["label"] == "good" else "test"} for row in opinions(6)],
            r"has no texts in test\npassed over: 3 of classes that train does not have \(bad\)",
        ),
    ],
)
def test_tables_that_are_refused(rows: list[dict[str, Any]], text: str, write: Any) -> None:
    with pytest.raises(BadInput, match=text):
        load_data(f"text:{write('x.jsonl', rows)}")


def test_numbers_are_classes_in_their_order(write: Any) -> None:
    values: list[Any] = [10, 9.0, -1, "2"]
    rows = [{**row, "label": values[i % 4]} for i, row in enumerate(opinions(40))]
    assert load_data(f"text:{write('x.jsonl', rows)}").classes == ("-1", "2", "9", "10")
    rows[0]["label"] = "ten"
    assert load_data(f"text:{write('x.jsonl', rows)}").classes == ("-1", "10", "2", "9", "ten")


def test_what_is_left_out_and_unusual_is_said(write: Any) -> None:
    rows = [{**row, "split": ("train", "val", "test")[i // 10]} for i, row in enumerate(opinions(30))]
    rows[0]["text"], rows[12]["text"], rows[3]["label"] = " \n", None, float("nan")
    rows[13]["label"], rows[25]["text"] = "neutral", f"  {rows[5]['text'].upper()}"
    rows[7]["text"] = "ä" * LONGEST
    data = load_data(f"text:{write('x.jsonl', rows)}")
    assert sizes(data) == [8, 8, 10] and data.shape == (LONGEST,)
    assert data.remarks == (
        "texts read: train 8, val 8, test 10",
        "train: rows passed over: 1 without a label (row 4), 1 empty (row 1)",
        "val: rows passed over: 1 of classes that train does not have (neutral), 1 empty (row 13)",
        "1 of 26 texts are longer than 4,096 bytes and are cut",
        "1 of 10 test texts are among the train texts, too: accuracy on them is inflated",
    )


def test_a_long_pair_keeps_the_beginnings_of_both(write: Any) -> None:
    rows = [
        {"text_a": f"{i} " + "a" * 5000, "text_b": "b" * 5000, "label": row["label"]}
        for i, row in enumerate(opinions(10))
    ]
    data = load_data(f"text:{write('x.jsonl', rows)}")
    first, second = split_pair(to_texts(data.train.inputs)[0])
    assert second is not None and abs(len(first) - len(second)) <= 2 and len(first) + 1 + len(second) == LONGEST
    assert data.remarks[1] == "10 of 10 texts are longer than 4,096 bytes and are cut"


def test_a_class_of_no_training_text_and_one_class(write: Any) -> None:
    from popgen.data.remarks import thin_remarks

    data = load_data(f"text:{write('x.jsonl', [{**row, 'label': 'all'} for row in opinions(10)])}")
    assert thin_remarks(data) == (
        "there is one class, so that every network is right on all texts",
        "val has 2 texts: its accuracy says next to nothing, and one text decides",
    )
    rows = [{**row, "split": ("train", "val", "test")[i % 3]} for i, row in enumerate(opinions(30))]
    rows = [
        row if row["label"] == "good" else {**row, "text": "" if row["split"] == "train" else "so bad"} for row in rows
    ]
    data = load_data(f"text:{write('y.jsonl', rows)}")
    assert "train has no text of 'bad', to which 5 val and 5 test texts belong" in data.remarks
    with pytest.raises(BadInput, match="has classes without training texts: bad\ntexts of each class are needed here"):
        data.check_classes("train")


def test_strange_characters_do_no_harm(tmp_path: Path) -> None:
    lines = [json.dumps({"text": f"a\ud800b{PAIR}c {row['text']}\x00", "label": row["label"]}) for row in opinions(10)]
    (tmp_path / "x.jsonl").write_text("\n".join(lines), encoding="utf-8")
    texts = to_texts(load_data(f"text:{tmp_path / 'x.jsonl'}").train.inputs)
    assert all(text.startswith("a\ufffdb c The ") for text in texts)


def test_a_set_that_needs_too_much_memory(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make, "_MOST_BYTES", 100)
    with pytest.raises(BadInput, match="needs 0 GiB of memory\nTake fewer texts"):
        load_data(f"text:{write('x.jsonl', opinions(10))}")


def test_a_changed_file_is_read_again(write: Any) -> None:
    name = f"text:{write('x.jsonl', opinions(20))}"
    assert load_data(name) is load_data(name)
    write("x.jsonl", opinions(30))
    assert sizes(load_data(name)) == [18, 6, 6]
    (Path(name[5:]).parent / "tasks.json").write_text('{"description": "Decide."}', encoding="utf-8")
    assert load_data(name).description == "Decide."


def test_modifiers_of_images_are_refused(write: Any) -> None:
    name = f"text:{write('x.jsonl', opinions(20))}"
    for modifier in ("rotate:45", "size:32", "alpha:black", "style:invert:0.2", "mixed:blur+invert", "snow_c:5"):
        for before in ("", "/shots:2"):
            if before and modifier.startswith(("size", "alpha")):
                continue  # these are refused behind anything
            with pytest.raises(BadInput) as caught:
                check_data_name(f"{name}{before}/{modifier}")
            assert f"{modifier!r} cannot be applied to '{name}" in str(caught.value)
            assert "it is for images, and these are texts; subsets (classes, shots, labels) are for both" in str(
                caught.value
            )


def test_names_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="'missing.csv' of data set 'text:missing.csv' does not exist"):
        load_data("text:missing.csv")
    (tmp_path / "x.txt").write_text("a text", encoding="utf-8")
    with pytest.raises(BadInput, match="x.txt is no table of texts by its name"):
        check_data_name(f"text:{tmp_path / 'x.txt'}")
    check_source("text:no/such/place.jsonl/shots:3")
    with pytest.raises(NotFound, match="no data set called 'txt'\nnearest known: .*text:FILE"):
        check_source("txt")


def test_classes_and_shots(write: Any, tmp_path: Path) -> None:
    rows = [{**row, "label": ("good", "bad", "so so")[i % 3]} for i, row in enumerate(opinions(60))]
    phrases = {"good": "a good one", "bad": "a bad one", "so so": "neither"}
    (tmp_path / "tasks.json").write_text(json.dumps({"labels": phrases}), encoding="utf-8")
    name = f"text:{write('x.jsonl', rows)}"
    data = load_data(f"{name}/classes:so so+good/shots:4")
    assert (data.classes, data.phrases) == (("so so", "good"), ("neither", "a good one"))
    assert data.train.targets.bincount().tolist() == [4, 4]
    assert torch.equal(data.train.inputs[:4], load_data(f"{name}/shots:4").train.inputs[8:])
    assert data.label_phrases == data.phrases


def test_descriptions(write: Any, tmp_path: Path) -> None:
    name = f"text:{write('film_reviews.csv', opinions(20))}"
    assert load_data(name).description == "" and load_data(name).label_phrases == ("bad", "good")
    assert describe(name) == "texts of film reviews"
    assert describe(f"{name}/shots:2/classes:good+bad") == "texts of film reviews, 2 texts a class, only good and bad"
    (tmp_path / "tasks.json").write_text('{"description": "Decide what is said. "}', encoding="utf-8")
    assert load_data(f"{name}/labels:4").description == "Decide what is said."


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl.gz").write_bytes(b"\x1f\x8b\x08")
    with pytest.raises(BrokenFile, match="x.jsonl.gz cannot be read"):
        load_data(f"text:{tmp_path / 'x.jsonl.gz'}")
