"""`hf:` reads texts where a data set has no images; the folders are written by the datasets library itself."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest
from text_rows import opinions

from popgen.data import load_data
from popgen.errors import BadInput, NotFound
from popgen.texts import PAIR, to_texts


def table(
    count: int, start: int = 0, names: tuple[str, ...] = ("good", "bad"), text: str = "sentence"
) -> datasets.Dataset:
    rows = [
        {text: row["text"], "label": names.index(row["label"]), "idx": i}
        for i, row in enumerate(opinions(count, start))
    ]
    return datasets.Dataset.from_list(rows).cast_column("label", datasets.ClassLabel(names=list(names)))


def test_a_benchmark_with_a_test_split_without_labels(tmp_path: Path) -> None:
    features = table(2).features
    bare = datasets.Dataset.from_list([{"sentence": "Unknown.", "label": -1, "idx": 0}] * 3, features)
    splits = {"train": table(20), "validation": table(6, 20), "test": bare, "extra": table(2)}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "set")
    data = load_data(f"hf:{tmp_path / 'set'}")
    assert (data.classes, [len(data.train), len(data.val), len(data.test)]) == (("good", "bad"), [16, 6, 4])
    assert data.remarks == (
        "texts are read from 'sentence', labels from 'label'",
        "texts read: train 20, val 6; test is cut from train",
        "splits without labels that are not used: test",
        "splits that are not used: extra",
    )
    for text, label in zip(to_texts(data.val.inputs), data.val.targets.tolist(), strict=True):
        assert ("lovely" in text) == (label == 0)


def test_pairs_with_labels_as_texts_and_a_task(tmp_path: Path) -> None:
    rows = [{"premise": row["text"], "hypothesis": "It was.", "kind": row["label"]} for row in opinions(20)]
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "set")
    (tmp_path / "set" / "tasks.json").write_text('{"description": "Decide."}', encoding="utf-8")
    data = load_data(f"hf:{tmp_path / 'set'}#kind/shots:2")
    assert (data.classes, data.description, len(data.train)) == (("bad", "good"), "Decide.", 4)
    assert all(text.endswith(f"{PAIR}It was.") for text in to_texts(data.train.inputs))


def test_classes_are_matched_by_name_between_splits(tmp_path: Path) -> None:
    datasets.DatasetDict({"train": table(20), "test": table(6, 20, ("bad", "good"))}).save_to_disk(tmp_path / "set")
    data = load_data(f"hf:{tmp_path / 'set'}")
    assert [("lovely" in text) for text in to_texts(data.test.inputs)] == [label == 0 for label in data.test.targets]


def test_what_is_refused(tmp_path: Path) -> None:
    table(20).add_column("part", [0.5] * 20).save_to_disk(tmp_path / "set")
    name = f"hf:{tmp_path / 'set'}"
    with pytest.raises(NotFound, match="has no column 'kind'\nit has sentence, label, idx, part"):
        load_data(f"{name}#kind")
    with pytest.raises(BadInput, match="column 'part' .* does not hold whole numbers or texts\nit holds float64"):
        load_data(f"{name}#part")
    with pytest.raises(BadInput, match="'size:8' cannot be applied to .*\nit is for images"):
        load_data(f"{name}/size:8")
    table(20).remove_columns("label").save_to_disk(tmp_path / "bare")
    with pytest.raises(BadInput, match="has no column of labels that popgen knows\nit has 'sentence', 'idx'"):
        load_data(f"hf:{tmp_path / 'bare'}")
