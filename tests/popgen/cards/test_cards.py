"""Cards: the hub client's own parser reads their headers, they say what the folders hold, and nobody's text is written over."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from popgen.cards.audits import audit_scores, audit_text, check_audit, read_audit
from popgen.cards.card import Card, Score, may_replace, write_card
from popgen.cards.licences import licence_fields, licence_text
from popgen.cards.make import keep_card, make_card
from popgen.cards.parents import licence_counts, parent_lines
from popgen.errors import BrokenFile, NotFound
from popgen.generator import Generator
from popgen.hub.kinds import GENERATOR, SEARCH, ZOO, kind_of
from popgen.refs import ASSETS
from popgen.zoo import Zoo
from popgen.zoo.parents import parents_of

GENERATORS = ASSETS / "generators"
SECTIONS = ("How it was made", "From what", "Licences", "Numbers", "Intended use", "Limits")
Edit = Callable[[Path, Callable[[dict[str, Any]], object]], None]


def scores_of(card: ModelCard) -> dict[tuple[str, str], float]:
    return {(one.dataset_split, one.metric_name): one.metric_value for one in card.data.eval_results or []}


@pytest.mark.parametrize("name", ["digits", "cifar_shifts"])
def test_the_shipped_cards_are_cards_of_the_hub(name: str) -> None:
    card = ModelCard.load(GENERATORS / name / "README.md")
    assert card.data.library_name == "popgen" and "popgen" in card.data.tags and card.data.license
    assert card.data.eval_results and all(one.dataset_split for one in card.data.eval_results)
    assert [heading for heading in (*SECTIONS, "Audit") if f"\n## {heading}\n" not in card.text] == []


def test_the_shipped_card_is_what_the_folder_says_today() -> None:
    folder = GENERATORS / "digits"
    assert (folder / "README.md").read_text() == make_card(folder, GENERATOR).text()


def test_the_card_of_a_generator(own_generator: Path) -> None:
    (own_generator / "README.md").unlink()
    made = Generator.from_pretrained(own_generator)
    sha256 = made.sha256
    made.save_pretrained(own_generator)
    card = ModelCard.load(own_generator / "README.md")
    assert card.data.license == "bsd-3-clause" and card.data.datasets == ["digits"]
    assert "BSD-3-Clause: 208 checkpoints" in card.text and "popgen train SPEC.yaml" in card.text
    retrieval = made.provenance.metrics["retrieval"]
    name = "accuracy of mlp-s, held-out checkpoints decoded"
    assert scores_of(card)["validation", name] == round(retrieval["mlp-s"]["held_out_decoded"], 4)
    assert "| mlp-s | 52 | 0.939 ± 0.002 | 0.956 ± 0.002 |" in card.text
    assert Generator.from_pretrained(own_generator).sha256 == sha256, "the hash does not depend on the card"


def test_stages_that_were_cut_short_are_named(own_generator: Path, edit_json: Edit) -> None:
    def cut(content: dict[str, Any]) -> None:
        steps = content["generator"]["vae"]["steps"]
        content["provenance"]["metrics"]["steps"] = {"vae": steps - 1, "tuning": content["generator"]["tune"]["steps"]}

    edit_json(own_generator / "config.json", cut)
    text = make_card(own_generator, GENERATOR).text()
    assert "stages cut short, because their held-out measure was flat: vae after " in text
    assert "tuning after" not in text


def test_a_generator_that_recorded_no_licences_says_so(own_generator: Path, edit_json: Edit) -> None:
    edit_json(own_generator / "config.json", lambda content: content["provenance"].pop("parents"))
    text = make_card(own_generator, GENERATOR).text()
    assert "license: unknown" in text and "are not recorded" in text


def test_the_card_of_a_zoo_with_mixed_licences(tmp_path: Path) -> None:
    whole = Zoo.open("digits")
    zoo = Zoo.create(tmp_path / "zoo", "mixed")
    records = whole.select("mlp-s", seed=0)[:4]
    licences = ["MIT", "MIT", "CC-BY-NC-4.0", "unknown"]
    changed = [one.model_copy(update={"licence": licence}) for one, licence in zip(records, licences, strict=True)]
    zoo.add([(one, whole.state(old)) for one, old in zip(changed, records, strict=True)])
    before = zoo.sha256
    zoo.finalize()
    assert Zoo.open(zoo.folder).sha256 == before and zoo.verify() == []
    card = ModelCard.load(tmp_path / "zoo" / "README.md")
    assert (card.data.license, card.data.license_name) == ("other", "mixed: CC-BY-NC-4.0, MIT, unknown")
    assert card.data.pipeline_tag == "image-classification"
    assert "- MIT: 2 checkpoints" in card.text and "- unknown: 1 checkpoint\n" in card.text
    assert "The licence of 1 is not known" in card.text
    mean = sum(one.score("test") or 0 for one in records) / 4
    assert scores_of(card) == {("test", "accuracy of mlp-s, mean of 4 checkpoints"): round(mean, 4)}


def test_the_card_of_a_search(run_folder: tuple[Path, dict[str, Any]]) -> None:
    folder, printed = run_folder
    card = ModelCard.load(folder / "README.md")
    rows = {one["arch"]: one["rows"][-1] for one in printed["results"]}
    assert scores_of(card) == {
        (shown, f"accuracy of {arch}, found by search"): round(row[f"{split}_accuracy"], 4)
        for arch, row in rows.items()
        for split, shown in (("val", "validation"), ("test", "test"))
    }
    row = rows["cnn-s"]
    written = f"| {row['val_accuracy']:.3f} ± {row['val_standard_error']:.3f} | {row['test_accuracy']:.3f} ± {row['test_standard_error']:.3f} |"
    assert f"| search | 60 {written}" in card.text
    assert (
        "popgen search --arch cnn-s,mlp-s --data digits/rotate:45" in card.text and card.data.license == "bsd-3-clause"
    )
    assert str(Path.home()) not in card.text or str(Path.home()) == "/"


def test_the_cards_of_generated_and_of_adapted_networks(here: Path, popgen: Any, photos: Path) -> None:
    popgen("generate", "--arch", "mlp-s,cnn-s", "--data", "digits/rotate:45", "-n", 2, "--out", "made")
    card = ModelCard.load(here / "made" / "README.md")
    networks = json.loads((here / "made" / "result.json").read_text())["networks"]
    mean = sum(one["val_accuracy"] for one in networks if one["arch"] == "mlp-s") / 2
    assert scores_of(card)["validation", "accuracy of mlp-s, mean of 2 generated networks"] == round(mean, 4)
    assert kind_of(here / "made").name == "generated networks" and "BSD-3-Clause: 208" in card.text
    popgen("adapt", "--arch", "resnet20", "--data", f"folder:{photos}")
    card = ModelCard.load(here / "adapted" / "README.md")
    assert kind_of(here / "adapted").name == "adapted network" and not card.data.eval_results
    assert "nats of mutual information over the base" in card.text and "| chosen |" in card.text


def test_a_card_by_hand_or_edited_is_kept(tmp_path: Path) -> None:
    card = Card("one", "First.", {"license": "mit"}, [("Empty", "")])
    assert write_card(tmp_path, card) and "Empty" not in (tmp_path / "README.md").read_text()
    assert write_card(tmp_path, Card("two", "Second.", {}, [])), "a card of popgen's own is written again"
    file = tmp_path / "README.md"
    file.write_text(file.read_text().replace("Second.", "Mine."))
    assert not may_replace(file) and not write_card(tmp_path, card) and "Mine." in file.read_text()
    file.write_text("# By hand\n")
    assert not write_card(tmp_path, card) and file.read_text() == "# By hand\n"


def test_a_score_of_another_unit_is_no_accuracy() -> None:
    text = Card("one", "", {}, [], [Score(12.5, "text", "test", "gpt", "perplexity")]).text()
    [result] = ModelCard(text).data.eval_results
    assert (result.task_type, result.metric_type, result.metric_value) == ("text-generation", "perplexity", 12.5)


@pytest.mark.parametrize(
    ("counts", "fields", "says"),
    [
        ({}, {"license": "unknown"}, "are not recorded"),
        ({"unknown": 2}, {"license": "unknown"}, "The licence of 2 is not known"),
        ({"Apache-2.0": 2}, {"license": "apache-2.0"}, "under the same licence"),
        ({"My own": 1}, {"license": "other", "license_name": "My own"}, "My own: 1 checkpoint\n"),
        ({"MIT": 1, "GPL-3.0": 2}, {"license": "other", "license_name": "mixed: GPL-3.0, MIT"}, "to the strictest"),
    ],
)
def test_licences_are_counted_and_said(counts: dict[str, int], fields: dict[str, str], says: str) -> None:
    assert licence_fields(counts) == fields and says in licence_text(counts)


def test_parents_name_what_they_go_back_to() -> None:
    [first, second] = Zoo.open("digits").records[:2]
    started = second.model_copy(update={"parent": "start:nowhere/zoo#x", "licence": "MIT", "lineage": first.lineage})
    found = parents_of([first, started], ["digits#" + first.id])
    assert (found["checkpoints"], found["lineages"], found["licences"]) == (2, 1, {"BSD-3-Clause": 1, "MIT": 1})
    assert found["bases"] == {"nowhere/zoo#x": "unknown", "digits#" + first.id: "BSD-3-Clause"}
    assert licence_counts(found) == {"BSD-3-Clause": 2, "MIT": 1, "unknown": 1}
    assert "they go back to zoo#x, licence unknown" in parent_lines(found)


AUDIT = {
    "popgen": "0.1.0",
    "zoo": {"name": "z", "sha256": "a"},
    "generator_sha256": "b",
    "audits": [
        {"arch": "n", "data": "d", "verdict": "novel", "lineages": 4, "arms": [{"points": [[0.5, 1], [0.7, 1]]}]}
    ],
}


def test_an_audit_is_shown_with_its_standard_error(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps(AUDIT))
    found = read_audit(tmp_path)
    assert found == AUDIT == read_audit(tmp_path / "result.json")
    check_audit(found, "a", "b")
    assert "| n | d | **novel** | 0.600 ± 0.100 | 4 |" in audit_text(found)
    assert audit_scores(found) == [Score(pytest.approx(0.6), "d", "test", "n, mean of generated networks")]  # type: ignore[arg-type]
    assert "There is no audit of it" in audit_text(None) and audit_scores(None) == []


def test_what_is_no_audit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no audit in"):
        read_audit(tmp_path)
    for text in ("{", "{}", '{"audits": [{}], "zoo": {"sha256": "a"}}'):
        (tmp_path / "result.json").write_text(text)
        with pytest.raises(BrokenFile, match="is not the result of an audit"):
            read_audit(tmp_path)


def test_a_broken_folder_has_no_card_and_fails_no_work(tmp_path: Path) -> None:
    (tmp_path / "zoo.json").write_text("{}")
    (tmp_path / "index.jsonl").write_text('{"id": 1}\n')
    (tmp_path / "result.json").write_text("[]")
    for kind in (ZOO, SEARCH):
        with pytest.raises(BrokenFile, match=f"the {kind.name} in .* cannot be read"):
            make_card(tmp_path, kind)
        keep_card(tmp_path, kind)
    assert not (tmp_path / "README.md").exists()
