"""What Python shows of popgen's objects: one line each, because a notebook shows the last value of a cell."""

from __future__ import annotations

from pathlib import Path

import popgen


def test_data_zoos_and_architectures_are_one_line() -> None:
    data, zoo = popgen.load_data("digits/shots:5"), popgen.Zoo.open("digits")
    assert repr(data) == "DataSet('digits/shots:5', 10 classes, train 50, val 300, test 497, inputs (1, 8, 8))"
    assert repr(data.train) == "Part(50 examples, inputs (1, 8, 8))"
    assert repr(zoo) == f"Zoo('digits', 312 checkpoints of 4 architectures in {str(zoo.folder)!r})"
    assert repr(zoo.spec("cnn-s")) == "ArchSpec('cnn-s', 3,818 weights in 6 tensors)"


def test_results_name_what_was_found(tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    [found] = popgen.search("mlp-s", "digits/rotate:45", evaluations=4, workers=0, finetune_mode="never", out=out)
    said = f"Found('mlp-s', 'digits/rotate:45', search: test accuracy {found.result.test_score:.4f}, {found.weights!r})"
    assert repr(found) == said
    ranked = popgen.rank("digits/rotate:45", archs=["mlp-s"])
    best = f"{ranked.rows[0].id} {ranked.rows[0].score:.4f}"
    assert (
        repr(ranked)
        == f"Ranked('digits/rotate:45', {len(ranked.rows)} checkpoints of 'digits' by direct, best: {best})"
    )
