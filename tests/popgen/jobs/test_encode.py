"""`popgen encode` adds codes to a generator, `popgen compression` weighs it beside a zoo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from popgen.configs.spec import ZooSpec
from popgen.generator import Generator
from popgen.zoo import Zoo, build_zoo

SPEC = ZooSpec(name="more", archs=["mlp-s"], data=["digits/rotate:0"], seeds=[11, 12], recipe={"epochs": 2}, workers=0)


@pytest.fixture(scope="module")
def more(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    return build_zoo(SPEC, tmp_path_factory.mktemp("zoos") / "more", workers=0, progress=False)


@pytest.mark.usefixtures("here")
def test_new_codes_are_retrieved(popgen: Any, more: Zoo) -> None:
    done = popgen("encode", more.folder, "--out", "made", "--steps", 5, "--json").json
    assert done["generator"] == "made"
    assert [(row["arch"], row["codes"]) for row in done["archs"]] == [("mlp-s", 2)]
    shipped, made = Generator.from_pretrained("digits"), Generator.from_pretrained("made")
    assert len(made.records) == len(made.codes) == len(shipped.records) + 2
    assert made.records[:208] == shipped.records and bool((made.codes[:208] == shipped.codes).all())
    command = ("retrieve", "--arch", "mlp-s", "--data", "digits/rotate:0", "--seed", 12, "--generator", "made")
    got = popgen(*command, "--json").json
    assert got["id"] == more.select(seed=12)[0].id
    assert abs(got["val_accuracy"] - got["original_val_accuracy"]) < 0.12
    report = popgen("compression", "made", "--zoo", more.folder, "--json").json
    assert (report["checkpoints"], report["encoded"]) == (2, 0)
    report = popgen("compression", "digits", "--zoo", more.folder, "--json").json
    assert (report["checkpoints"], report["encoded"]) == (2, 2)


def test_scores_that_the_zoo_did_not_record_are_null(popgen: Any, here: Path, more: Zoo) -> None:
    mine = Zoo.create(here / "mine", "mine")
    records = [
        one.model_copy(update={"metrics": {}, "id": f"bare-{i}", "sha256": ""}) for i, one in enumerate(more.select())
    ]
    mine.add(zip(records, map(more.spec("mlp-s").to_state, more.matrix(more.select())), strict=True))
    mine.finalize()
    popgen("encode", "mine", "--out", "made", "--steps", 0)
    codes = (here / "made" / "codes.json").read_text()
    assert "NaN" not in codes and codes.count('"val_accuracy": null') == 2
    held = [code.id for code, _ in Generator.from_pretrained("made").stored("mlp-s", "digits/rotate:0")]
    assert held[-2:] == ["bare-0", "bare-1"] and len(held) > 2, "those without a score are never the best"
    command = ("retrieve", "--arch", "mlp-s", "--data", "digits/rotate:0", "--seed", 12, "--generator", "made")
    assert popgen(*command, "--json").json["original_val_accuracy"] is None
    assert "original" in popgen(*command).out
    (here / "made" / "codes.json").write_text(codes.replace("null", "NaN"))  # as earlier versions wrote it
    assert Generator.from_pretrained("made").records[-1].val_score is None


@pytest.mark.usefixtures("here")
@pytest.mark.slow  # every form of 208 checkpoints is scored
def test_the_report_as_tables(popgen: Any) -> None:
    out = popgen("compression", "digits").out
    assert "208 checkpoints in smaller forms, val split" in out and "int8+zstd" in out and "decoder + codes" in out
    assert all(len(line) <= 80 for line in out.splitlines())


@pytest.mark.usefixtures("here")
def test_what_cannot_be_encoded(popgen: Any, more: Zoo) -> None:
    popgen("encode", more.folder, "--out", "made", "--steps", 0)
    err = popgen("encode", more.folder, "--generator", "made", "--out", "again", code=4).err
    assert "holds codes of all checkpoints" in err and "popgen retrieve" in err
    assert "made is not an empty folder" in popgen("encode", more.folder, "--out", "made", code=4).err
    assert "--steps is -1" in popgen("encode", more.folder, "--out", "again", "--steps", -1, code=4).err
    assert "there is no zoo 'nowhere'" in popgen("encode", "nowhere", "--out", "again", code=3).err
    assert not Path("again").exists()


@pytest.mark.usefixtures("here")
def test_a_report_without_a_zoo(popgen: Any, own_generator: Path, edit_json: Any) -> None:
    edit_json(own_generator / "config.json", lambda content: content["provenance"].update(zoo="far-away"))
    err = popgen("compression", own_generator, code=3).err
    assert "the zoo 'far-away'" in err and "--zoo" in err
