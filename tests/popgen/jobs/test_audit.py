"""`popgen audit`: the right word for planted generators, the files, the command and its errors."""

from __future__ import annotations

import json
import os
import shutil
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
import torch
from planted import DATA, PlantedZoo, written

import popgen
from popgen.archs import ArchSpec
from popgen.audit.plot import alternative
from popgen.errors import BadInput, NotFound
from popgen.jobs.audit import Audit
from popgen.zoo import Zoo

QUICK: dict[str, Any] = {"controls": 6, "rounds": 200}
CASES = ["replay", "weak noise", "strong noise", "permuted", "pairs", "averages", "trained anew", "broken"]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> PlantedZoo:
    return PlantedZoo.build(tmp_path_factory.mktemp("audit") / "zoo", "mlp-s", shared=True, seeds=6, epochs=10)


@pytest.fixture(scope="module")
def generators(planted: PlantedZoo) -> dict[str, tuple[str, torch.Tensor]]:
    return planted.generators(seed=0, n=5)


def audited(zoo: PlantedZoo, weights: torch.Tensor, folder: Path, **options: Any) -> Audit:
    generated = str(written(zoo.spec, weights, folder / "generated"))
    out = str(folder / "out")
    return popgen.run_audit(generated=generated, zoo=str(zoo.folder), out=out, **{**QUICK, **options}).audits[0]


@pytest.mark.parametrize("case", CASES)
def test_a_planted_generator_gets_its_word(
    planted: PlantedZoo, generators: dict[str, tuple[str, torch.Tensor]], case: str, tmp_path: Path
) -> None:
    word, weights = generators[case]
    made = audited(planted, weights, tmp_path)
    assert made.verdict.word == word, made.verdict
    assert (made.arch, made.data, made.reference_data, made.lineages) == ("mlp-s", DATA, DATA, 6)


@pytest.mark.slow  # two zoos, eight generators, two seeds: 32 audits, two minutes; POPGEN_PLANTED=0,1,2,3,4 takes five
@pytest.mark.parametrize(("arch", "shared"), [("mlp-s", True), ("cnn-s", False)])
def test_planted_generators_get_their_words(arch: str, shared: bool, tmp_path: Path) -> None:
    zoo = PlantedZoo.build(tmp_path / "zoo", arch, shared, seeds=8, epochs=20)
    wrong, unsure = [], []
    seeds = [int(seed) for seed in os.environ.get("POPGEN_PLANTED", "0,1").split(",")]
    for seed in seeds:
        for case, (word, weights) in zoo.generators(seed, n=6).items():
            found = audited(zoo, weights, tmp_path / f"{case}-{seed}", seed=seed, controls=12).verdict
            if found.word == "unsure":
                unsure.append((seed, case, found.why))
            elif found.word != word:
                wrong.append((seed, case, found))
    assert wrong == []
    assert len(unsure) <= max(1, 3 * len(seeds) // 5), unsure


def test_a_copy_in_behaviour_is_a_copy_whatever_its_weights(planted: PlantedZoo, tmp_path: Path) -> None:
    """Units behind a ReLU may be scaled by any factor if the next layer is divided by it: the function is the same."""
    spec, rows = planted.spec, []
    for flat, factor in zip(planted.zoo.matrix(planted.zoo.records[:4]), (5.0, 8.0, 0.1, 0.2), strict=True):
        state = dict(spec.to_state(flat))
        rows.append(
            spec.to_flat(
                {
                    **state,
                    "1.weight": factor * state["1.weight"],
                    "1.bias": factor * state["1.bias"],
                    "3.weight": state["3.weight"] / factor,
                }
            )
        )
    made = audited(planted, torch.stack(rows), tmp_path)
    assert made.generated.measured.places.nearest.min() > 3 * made.references.measured.places.nearest.mean()
    assert made.verdict.word == "copies" and made.verdict.why.startswith("they make the same errors")


def test_checkpoints_of_one_lineage_show_no_independence(planted: PlantedZoo, tmp_path: Path) -> None:
    """Networks that would be novel beside six lineages are not, if all checkpoints come from one run."""
    zoo = Zoo.create(tmp_path / "zoo", "one-run")
    records = [record.model_copy(update={"lineage": "run"}) for record in planted.zoo.records]
    zoo.add(zip(records, planted.zoo.matrix(planted.zoo.records), strict=True))
    one_run = PlantedZoo(zoo.folder, planted.arch, True, planted.recipe)
    weights = planted.trained_anew(seed=1, n=4)
    made = audited(one_run, weights, tmp_path)
    assert made.lineages == 1 and made.verdict.word == "unsure"
    assert made.verdict.why == "they look novel, but references of 1 lineage do not show what novel is"
    assert audited(one_run, zoo.matrix(zoo.records[:4]), tmp_path / "copies").verdict.word == "copies"


def test_networks_that_are_not_finite_fail(planted: PlantedZoo, tmp_path: Path) -> None:
    weights = planted.zoo.matrix(planted.zoo.records[:3]).clone()
    weights[:, 0] = torch.nan
    made = audited(planted, weights, tmp_path)
    assert made.verdict.word == "fails"
    assert made.generated.means()["finite"] == 0 and made.generated.means()["accuracy"] == 0
    assert json.loads((tmp_path / "out" / "result.json").read_text())["audits"][0]["arms"][0]["nearest"] is None


def test_a_generator_is_audited_on_data_that_its_zoo_does_not_have(tmp_path: Path) -> None:
    made = popgen.run_audit(
        "digits", out=str(tmp_path / "out"), archs=["cnn-s"], data=["digits/rotate:45"], samples=4, **QUICK
    )
    (one,) = made.audits
    assert one.reference_data in ("digits/rotate:30", "digits/rotate:60"), "the nearest rotations do best on it"
    assert one.lineages == 3, "two of training and one that is held out"
    kinds = {arm.kind for arm in one.all_arms}
    assert kinds >= {"generated", "training", "held out", "noise", "average", "gaussian", "latent noise", "latent kde"}
    assert one.verdict.word == "novel" and one.generated.accuracy.mean() > one.references.accuracy.mean()
    content = json.loads((tmp_path / "out" / "result.json").read_text())
    assert content == json.loads(json.dumps(made.to_json()))
    assert content["settings"]["samples"] == 4 and content["zoo"]["name"] == "digits"
    (saved,) = content["audits"]
    assert saved["verdict"] == "novel" and len(saved["arms"][0]["points"]) == 4
    assert set(saved["statistics"]) == {"works", "within", "anchored", "same_errors", "damaged", "tied"}
    drawing = ET.parse(tmp_path / "out" / "overlap.svg").getroot()
    texts = [element.text or "" for element in drawing.iter()]
    assert alternative(made.audits) in texts and "cnn-s for digits/rotate:45: novel" in "".join(texts)


def test_without_matplotlib_there_is_no_drawing(
    planted: PlantedZoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # as where it is not installed
    audited(planted, planted.zoo.matrix(planted.zoo.records[:2]), tmp_path, controls=2, verbose=True)
    assert 'no overlap.svg without matplotlib: pip install "popgen[plots]"' in capsys.readouterr().out
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"audit.yaml", "result.json"}
    assert json.loads((tmp_path / "out" / "result.json").read_text())["plot"] is None


def test_equal_seeds_give_equal_audits(planted: PlantedZoo, tmp_path: Path) -> None:
    weights = planted.zoo.matrix(planted.zoo.records[:3])
    first, second = (audited(planted, weights, tmp_path / name) for name in "ab")
    assert first.to_json() == second.to_json()
    drawings = [(tmp_path / name / "out" / "overlap.svg").read_bytes() for name in "ab"]
    assert drawings[0] == drawings[1]


def test_the_command_prints_tables_and_the_verdict(planted: PlantedZoo, tmp_path: Path, popgen: Any) -> None:
    folder = written(planted.spec, planted.zoo.matrix(planted.zoo.records[:3]), tmp_path / "generated" / "mlp-s")
    options = ("--generated", folder.parent, "--zoo", planted.folder, "--controls", 4)
    done = popgen("audit", *options, "--out", tmp_path / "out")
    assert "noise 0.05" in done.out and "average of 4" in done.out and "95 % interval" in done.out
    assert f"mlp-s for {DATA}: copies (they lie in the span of the training checkpoints)" in done.out
    assert "diversity: generated networks are " in done.out
    assert "at the generated accuracy" in done.out and "overlap.svg" in done.out
    assert f"mlp-s for {DATA}: " in done.err
    written_report = popgen("report", tmp_path / "out", "--json").json
    assert written_report["kind"] == "audit"
    assert written_report["verdict"][0].startswith(f"mlp-s for {DATA}: copies, because they lie in the span")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Accuracy against overlap" in page and page.count("noise 0.05: accuracy ") >= 4 and "average of 4" in page
    (tmp_path / "out" / "result.json").write_text("{}")
    assert "result.json cannot be read" in popgen("report", tmp_path / "out", code=5).err
    done = popgen("audit", *options, "--out", tmp_path / "again", "--json")
    assert done.json["audits"][0]["verdict"] == "copies" and done.json["settings"]["controls"] == 4
    refused = popgen("audit", *options, "--out", tmp_path / "out", code=4)
    assert "is not an empty folder" in refused.err


def test_several_data_sets_end_in_a_table_of_verdicts(planted: PlantedZoo, tmp_path: Path, popgen: Any) -> None:
    folder = written(planted.spec, planted.zoo.matrix(planted.zoo.records[:2]), tmp_path / "generated")
    options = ("--generated", folder, "--zoo", planted.folder, "--data", f"{DATA},digits/rotate:15")
    done = popgen("audit", *options, "--controls", 2, "--out", tmp_path / "out")
    assert done.out.count("is it above one half?") == 2 and "verdicts" in done.out


@pytest.mark.slow  # four data sets of the whole zoo
def test_a_few_data_sets_of_the_zoo_are_audited_where_none_is_named(tmp_path: Path, popgen: Any) -> None:
    done = popgen("audit", "digits", "--arch", "mlp-s", "--samples", 2, "--controls", 2, "--out", tmp_path / "out")
    assert done.out.count("is it above one half?") == 4
    assert "mlp-s: audited on 4 of the zoo's 26 data sets, evenly spaced; --data names others" in done.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 4, "and neither of them is named"),
        (["digits", "--generated", "x"], 4, "and both of them are named"),
        (["--generated", "x"], 4, "the zoo of the networks in x is not named"),
        (["nowhere"], 3, "there is no generator called 'nowhere'"),
        (["digits", "--zoo", "nowhere"], 3, "there is no zoo 'nowhere'"),
        (["digits", "--arch", "cnn-x"], 3, "there is no architecture in this generator called 'cnn-x'"),
        (["digits", "--data", "digit"], 3, "there is no data set called 'digit'"),
        (["--generated", "nowhere", "--zoo", "digits"], 3, "there is no folder 'nowhere'"),
        (["--generated", "x", "--zoo", "digits", "--arch", "cnn-x"], 3, "there is no architecture called 'cnn-x'"),
        (["digits", "--samples", "1"], 4, "samples"),
    ],
)
def test_what_is_refused(arguments: list[str], code: int, message: str, here: Path, popgen: Any) -> None:
    assert message in popgen("audit", *arguments, code=code).err
    assert not (here / "audit").exists()


def test_folders_that_do_not_fit(tmp_path: Path) -> None:
    spec, out = ArchSpec.from_config("mlp-s"), str(tmp_path / "out")
    flat = written(spec, torch.zeros(2, spec.size), tmp_path / "flat")
    common: dict[str, Any] = {"zoo": "digits", "out": out, "data": [DATA]}
    with pytest.raises(BadInput, match="does not say of which architecture its networks are\nthe zoo has cnn-m, cnn-s"):
        popgen.run_audit(generated=str(flat), **common)
    with pytest.raises(BadInput, match=r"000.safetensors does not fit the architecture 'cnn-s'\n.* is missing"):
        popgen.run_audit(generated=str(flat), archs=["cnn-s"], **common)
    with pytest.raises(
        BadInput, match="it is not clear for which data set the networks of 'mlp-s' are\nthe zoo has 26 data sets"
    ):
        popgen.run_audit(generated=str(flat), archs=["mlp-s"], zoo="digits", out=out)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="has no networks"):
        popgen.run_audit(generated=str(tmp_path / "empty"), **common)
    written(spec, torch.zeros(1, spec.size), tmp_path / "one" / "mlp-s")
    with pytest.raises(BadInput, match="has fewer than two networks of mlp-s"):
        popgen.run_audit(generated=str(tmp_path / "one"), **common)
    with pytest.raises(BadInput, match="has 3 classes, 'mlp-s' has 10 outputs"):
        popgen.run_audit(
            generated=str(flat), archs=["mlp-s"], zoo="digits", out=out, data=["digits/classes:0+1+2"], samples=2
        )


def test_zoos_that_do_not_fit(tmp_path: Path, planted: PlantedZoo, own_generator: Path) -> None:
    out = str(tmp_path / "out")
    config = own_generator / "config.json"
    config.write_text(config.read_text().replace('"zoo": "digits"', '"zoo": "elsewhere"'))
    with pytest.raises(NotFound, match="the zoo 'elsewhere' of the generator .* was not found"):
        popgen.run_audit(str(own_generator), out=out)
    with pytest.raises(BadInput, match="the zoo 'planted' has no checkpoints of cnn-s\nit has mlp-s"):
        popgen.run_audit("digits", zoo=str(planted.folder), archs=["cnn-s"], out=out)
    zoo = Zoo.create(tmp_path / "zoo", "single")
    zoo.add([(planted.zoo.records[0], planted.zoo.matrix(planted.zoo.records[:1])[0])])
    with pytest.raises(BadInput, match="the zoo 'single' has 1 training checkpoints of 'mlp-s'"):
        popgen.run_audit("digits", zoo=str(zoo.folder), archs=["mlp-s"], data=[DATA], samples=2, out=out)
    shutil.rmtree(zoo.folder)
