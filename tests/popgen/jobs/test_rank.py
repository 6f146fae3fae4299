"""`popgen rank`: the job and the command, on a tiny zoo of the digits."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

import popgen
from popgen.archs import ArchSpec, arch_config, build
from popgen.archs.config import ArchConfig
from popgen.cli import cli
from popgen.configs.rank import RankConfig
from popgen.data import load_data
from popgen.errors import BadInput, NotFound
from popgen.hub.kinds import RANKED, kind_of
from popgen.jobs.ranking.race import planned_passes, run_race
from popgen.jobs.ranking.rank import rank
from popgen.networks.forward import task_score
from popgen.ranking import stream
from popgen.ranking.examples import ranking_examples
from popgen.ranking.methods import METHODS
from popgen.ranking.seen import Score, Seen
from popgen.ranking.stream import Stream
from popgen.zoo import Checkpoint, Zoo

DATA = "digits/rotate:45"
NAMES = tuple("0123456789")


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    """Some of the package's networks of two designs, and one of random weights."""
    packaged = Zoo.open("digits")
    mine = Zoo.create(tmp_path_factory.mktemp("rank") / "mine", "mine")
    ids = [f"{arch}/digits/rotate:{angle}/s0" for arch in ("mlp-s", "cnn-s") for angle in (0, 30, 60, 180)]
    records = [packaged.record(i) for i in ids if i in packaged]
    mine.add([(record, packaged.state(record)) for record in records])
    noise = replace_record(records[0], id="mlp-s/noise", data="noise")
    mine.add([(noise, build("mlp-s", seed=3).state_dict())])
    return mine


def replace_record(record: Checkpoint, **fields: Any) -> Checkpoint:
    return record.model_copy(update={"sha256": "", "shard": "", **fields})


def ranked(zoo: Zoo, **options: Any) -> Any:
    return popgen.rank(options.pop("data", DATA), zoo=str(zoo.folder), **options)


def test_without_a_share_the_order_is_that_of_all_validation_images(zoo: Zoo) -> None:
    made = ranked(zoo, share=1.0, images=300)
    data = load_data(DATA)
    for row in made.rows:
        score = task_score(zoo.spec(row.arch), zoo.matrix([zoo.record(row.id)])[0], data)
        assert row.score == pytest.approx(score, abs=1e-6) and row.images == row.examples == 300
    assert made.method == "direct" and made.images == made.exhaustive == 300 * len(zoo)
    assert "mlp-s/noise" in [row.id for row in made.rows[-4:]] and made.rows[0].data in (
        "digits/rotate:30",
        "digits/rotate:60",
    )
    assert made.written == [] and [row.id for row in made.chosen] == [made.rows[0].id]


def test_a_race_costs_its_share_and_finds_a_good_one(zoo: Zoo) -> None:
    whole, made = ranked(zoo, share=1.0, images=300), ranked(zoo, share=0.25, images=300)
    assert (
        made.images == sum(row.images for row in made.rows) <= 0.25 * made.exhaustive + len(zoo)
    )  # a look and a half are rounded up
    assert made.rows[0].id in [row.id for row in whole.rows[:3]]
    examples = [row.examples for row in made.rows]
    assert examples == sorted(examples, reverse=True) and examples[0] == 300 > examples[-1]
    assert ranked(zoo, share=0.25, images=300).rows[0].id == made.rows[0].id


def test_a_share_that_pays_for_too_few_images_is_said(zoo: Zoo, capsys: pytest.CaptureFixture[str]) -> None:
    made = ranked(zoo, share=0.05, images=40, verbose=True)
    assert (
        made.images > 0.05 * made.exhaustive
        and "more than --share 0.05: fewer than 10 images say" in capsys.readouterr().out
    )


def test_names_that_do_not_match_are_ranked_by_features(zoo: Zoo, tmp_path: Path) -> None:
    made = ranked(
        zoo, data="digits/rotate:45/classes:3+5+8", method="ridge", top=2, images=200, out=str(tmp_path / "r")
    )
    assert made.method == "ridge" and made.rows[0].score > 0.8
    first = made.written[0]
    assert first.head == "remap"  # the digits are known by name, so that the written head is not fitted
    unnamed = Zoo.create(tmp_path / "unnamed", "unnamed")
    unnamed.add([(replace_record(r, classes=()), zoo.state(r)) for r in zoo.records])
    made = ranked(unnamed, out=str(tmp_path / "u"), images=400, top=1)
    assert (
        made.method == "ridge"
        and made.why == f"{len(zoo)} of {len(zoo)} checkpoints do not know the data set's classes by name"
    )
    assert made.written[0].head == "refit" and made.written[0].val_score > 0.8
    with pytest.raises(BadInput, match="needs the names of classes"):
        ranked(unnamed, method="direct")


def test_the_written_folder_is_that_of_a_result(zoo: Zoo, tmp_path: Path) -> None:
    out = tmp_path / "chosen"
    made = ranked(zoo, top=2, images=300, out=str(out))
    assert kind_of(out) is RANKED and [Path(one.weights).parent for one in made.written] == [out, out]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chosen"]
    for one, row in zip(made.written, made.chosen, strict=True):
        with safe_open(one.weights, framework="pt") as file:
            header = file.metadata()
        spec = ArchSpec.from_config(ArchConfig.from_json(json.loads(header["arch_config"])))
        assert header["checkpoint"] == row.id and json.loads(header["classes"]) == list(NAMES)
        score = task_score(spec, spec.to_flat(load_file(one.weights)), load_data(DATA))
        assert one.val_score == pytest.approx(score, abs=1e-6)
    content = json.loads((out / "result.json").read_text())
    assert content["chosen"] == [one.id for one in made.written] and content["made_from"]["checkpoints"] == 2
    assert "by `popgen rank`" in (out / "README.md").read_text()
    with pytest.raises(BadInput, match="is not an empty folder"):
        ranked(zoo, out=str(out))


def test_an_interrupted_command_leaves_nothing(zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("popgen.jobs.ranking.write.write_text", interrupt)
    with pytest.raises(KeyboardInterrupt):
        ranked(zoo, images=50, out=str(tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


def test_features_are_computed_once_and_memory_is_bounded(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    data, read = load_data(DATA), []
    examples, rungs = ranking_examples(data, 80, 0), (0.25, 0.5)
    rows = [tuple(range(10))] * len(zoo)

    def places(kept_bytes: int) -> tuple[list[Any], Stream]:
        monkeypatch.setattr(stream, "KEPT_BYTES", kept_bytes)
        shown = Stream(zoo, zoo.records, rows, data, examples, METHODS["knn"])
        return run_race(shown, rungs), shown

    monkeypatch.setattr(stream, "CHUNK_BYTES", 1)  # one network at once
    matrix = zoo.matrix

    def counted(records: list[Checkpoint]) -> Tensor:
        read.append(len(records))
        return matrix(records)

    monkeypatch.setattr(zoo, "matrix", counted)
    kept, with_room = places(2**20)
    assert set(read) == {1} and sum(cost.images for cost in with_room.costs) == planned_passes(len(zoo), 80, rungs)
    again, without = places(0)
    assert [(one.index, one.score.value) for one in kept] == [(one.index, one.score.value) for one in again]
    assert sum(cost.images for cost in without.costs) > sum(cost.images for cost in with_room.costs)


def test_the_images_are_those_of_validation_then_of_training() -> None:
    data = load_data(DATA)
    examples = ranking_examples(data, 400, 0)
    assert len(examples) == 400 and len(ranking_examples(data, 10_000, 0)) == len(data.val) + len(data.train)
    rows = {row.numpy().tobytes() for row in data.val.inputs}
    assert all(row.numpy().tobytes() in rows for row in examples.inputs[:300])
    assert examples.targets[:10].unique().numel() == 10
    few = load_data("digits/labels:20")
    assert len(ranking_examples(few, 400, 0)) == len(few.train)


def test_a_network_that_fails_is_reported_and_left_behind(zoo: Zoo) -> None:
    data = load_data(DATA)

    def fails(seen: Seen) -> Score:
        if len(seen) > 20:
            raise ZeroDivisionError("too many")
        return METHODS["knn"].score(seen)

    method = replace(METHODS["knn"], score=fails)
    shown = Stream(zoo, zoo.records, [None] * len(zoo), data, ranking_examples(data, 40, 0), method)
    places = run_race(shown, (0.5,))
    assert len(places) == len(zoo) // 2 and all(place.examples == 20 for place in places)
    assert len(shown.failures) == (len(zoo) + 1) // 2
    assert set(shown.failures.values()) == {"ZeroDivisionError: too many"}


def test_the_command_prints_a_table_and_json(zoo: Zoo, tmp_path: Path) -> None:
    arguments = ["rank", "--data", DATA, "--zoo", str(zoo.folder), "--arch", "cnn-s", "--images", "100", "--top", "2"]
    printed = CliRunner().invoke(cli, [*arguments, "--out", str(tmp_path / "out")])
    assert printed.exit_code == 0, printed.output
    assert (
        "the checkpoints know the data set's classes by name" in printed.stdout and "image passes: " in printed.stderr
    )
    assert printed.stdout.count("weights: ") == 2
    as_json = CliRunner().invoke(cli, [*arguments, "--method", "leep", "--json"])
    content = json.loads(as_json.stdout)
    assert content["method"] == "leep" and len(content["rows"]) == 4 and len(content["chosen"]) == 2
    assert {"rank", "id", "score", "error", "images", "seconds"} <= set(content["rows"][0])


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"archs": ["vit"]}, NotFound, "there is no architecture called 'vit'"),
        ({"zoo": "none"}, NotFound, "there is no zoo 'none'"),
        ({"method": "luck"}, BadInput, "method"),
        ({"share": 0.0}, BadInput, "share"),
        ({"data": "digitz"}, NotFound, "digitz"),
    ],
)
def test_refusals(zoo: Zoo, options: dict[str, Any], error: type[Exception], text: str) -> None:
    given = {"data": DATA, "zoo": str(zoo.folder), **options}
    with pytest.raises(error, match=text):
        popgen.rank(**given)


def test_unknown_names_are_refused_on_the_command_line() -> None:
    for arguments in (["--data", DATA, "--arch", "vit"], ["--data", "digitz"], ["--data", DATA, "--zoo", "none"]):
        assert isinstance(CliRunner().invoke(cli, ["rank", *arguments]).exception, NotFound)


def test_checkpoints_that_cannot_read_the_data_are_left_out(tmp_path: Path) -> None:
    lm = Zoo.create(tmp_path / "zoo", "zoo")
    record = Checkpoint(id="a", arch="mlp-s", arch_config=arch_config("mlp-s"), data="digits", lineage="a")
    lm.add([(record, build("mlp-s", seed=0).state_dict())])
    (tmp_path / "texts.jsonl").write_text(
        "".join(
            json.dumps({"text_a": f"word {i}", "label": "ab"[i % 2], "split": s}) + "\n"
            for i in range(9)
            for s in ("train", "validation", "test")
        )
    )
    with pytest.raises(BadInput, match="can be ranked for") as refused:
        ranked(lm, data=f"text:{tmp_path / 'texts.jsonl'}")
    assert "1 cannot read its texts" in refused.value.why


def test_checkpoints_in_a_damaged_file_are_named_and_the_others_ranked(tmp_path: Path) -> None:
    packaged, mine = Zoo.open("digits"), Zoo.create(tmp_path / "mine", "mine")
    records = [
        packaged.record(f"{arch}/digits/rotate:{angle}/s0") for arch in ("mlp-s", "cnn-s") for angle in (0, 30, 60, 180)
    ]
    mine.add([(record, packaged.state(record)) for record in records])
    damaged = {record.shard for record in mine.records if record.arch == "cnn-s"}
    for shard in damaged:
        whole = (mine.folder / shard).read_bytes()
        (mine.folder / shard).write_bytes(whole[: len(whole) // 2])
    said: list[str] = []
    made = rank(RankConfig(data=DATA, zoo=str(mine.folder)), say=said.append)
    assert {row.arch for row in made.rows} == {"mlp-s"} and len(made.rows) == 4
    [text] = [text for text in said if "could not be scored" in text]
    assert " and 1 more could not be scored: " in text and "cannot be read" in text
    assert set(made.failures) == {record.id for record in records if record.arch == "cnn-s"}
