"""Archives of small zoos: they keep their promise, are read as zoos, and leave the zoo that they were made of alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from popgen.data import load_data
from popgen.errors import BadInput, BrokenFile, NotFound
from popgen.networks.forward import task_score
from popgen.zoo import Checkpoint, Zoo
from popgen.zoo.archive.write import Limit, archive_zoo, float32_bytes

RUNS = [f"{arch}/digits/rotate:{turn}/s0" for arch in ("mlp-s", "cnn-s") for turn in (0, 30, 60)]


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    """Six networks of the packaged zoo with their shared starts."""
    digits = Zoo.open("digits")
    made = Zoo.create(tmp_path_factory.mktemp("zoos") / "six", "six", licence="BSD-3-Clause")
    made.set_starts({arch: start for arch in ("mlp-s", "cnn-s") if (start := digits.start(arch)) is not None})
    made.add((digits.record(run), digits.matrix([digits.record(run)])[0]) for run in RUNS)
    made.finalize()
    return made


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def lossless(zoo: Zoo) -> Zoo:
    before = content(zoo.folder)
    archive_zoo(zoo, zoo.folder.parent / "lossless", Limit())
    assert content(zoo.folder) == before
    return Zoo.open(zoo.folder.parent / "lossless")


@pytest.fixture(scope="module")
def lossy(zoo: Zoo) -> tuple[Zoo, Any]:
    made = archive_zoo(zoo, zoo.folder.parent / "lossy", Limit(max_loss=0.5))
    return Zoo.open(zoo.folder.parent / "lossy"), made


def test_a_lossless_archive_is_the_zoo(zoo: Zoo, lossless: Zoo) -> None:
    assert lossless.sha256 == zoo.sha256 and lossless.verify() == [] and lossless.is_archive
    for arch in zoo.archs:
        assert torch.equal(lossless.matrix(lossless.select(arch=arch)), zoo.matrix(zoo.select(arch=arch)))
        for kind in ("start", "reference", "scales"):
            assert torch.equal(getattr(lossless, kind)(arch), getattr(zoo, kind)(arch))
        assert lossless.base(arch) is None
    assert sum(f.stat().st_size for f in (lossless.folder / "shards").iterdir()) < 0.9 * float32_bytes(zoo)
    assert not (lossless.folder / "archiving.jsonl").exists() and (lossless.folder / "README.md").is_file()


def test_no_checkpoint_loses_more_than_the_limit(zoo: Zoo, lossy: tuple[Zoo, Any]) -> None:
    """The losses are measured here once more, from the archive on the disk."""
    archive, made = lossy
    assert archive.verify() == [] and made.zoo_bytes / made.archive_bytes > 4
    losses = []
    for record in zoo.records:
        spec, data = zoo.spec(record.arch), load_data(record.data)
        before, after = (task_score(spec, one.matrix([one.record(record.id)])[0], data) for one in (zoo, archive))
        losses.append(100 * (before - after))
    assert max(losses) == pytest.approx(made.worst_loss) and made.worst_loss <= 0.5
    assert sum(losses) / len(losses) == pytest.approx(made.mean_loss)
    coded = archive.record(RUNS[0])
    assert coded.sha256 != zoo.record(RUNS[0]).sha256
    assert f"sha256 before {zoo.record(RUNS[0]).sha256[:16]}" in coded.note and "points lost" in coded.note
    assert sum(made.codecs.values()) == 6


@pytest.mark.slow  # every codec for every checkpoint
def test_the_archive_is_never_larger_than_one_codec_for_all(zoo: Zoo, lossy: tuple[Zoo, Any]) -> None:
    """Every codec that keeps to the limit for all checkpoints, with each set of bases, takes at least as many bytes."""
    from popgen.zoo.archive.bases import base_options
    from popgen.zoo.archive.choose import forms
    from popgen.zoo.archive.codecs.codec import Values
    from popgen.zoo.archive.codecs.layout import Layout
    from popgen.zoo.archive.codecs.table import CODECS
    from popgen.zoo.archive.coded import CodedNetwork, write_coded
    from popgen.zoo.archive.rows import rows_of
    from popgen.zoo.archive.scores import Scores

    scores, best = Scores(zoo), 0

    def is_within(record: Checkpoint, flat: Values, network: CodedNetwork) -> bool:
        decoded = torch.from_numpy(network.decode(layout, bases.decoded))
        return scores.within(record, torch.from_numpy(flat), decoded, 0.5) is not None

    for arch in zoo.archs:
        records, layout, sizes = zoo.select(arch=arch), Layout.of(zoo.spec(arch)), []
        for bases in base_options(zoo, records, layout, lossless=False):
            for codec in CODECS:
                every = [[*forms(layout, flat, bases, {codec: CODECS[codec]})] for _, flat in rows_of(zoo, records)]
                for chosen in zip(*every, strict=True):
                    pairs = zip(rows_of(zoo, records), chosen, strict=True)
                    if all(is_within(r, flat, network) for (r, flat), network in pairs):
                        sizes.append(write_coded(zoo.folder.parent / "one.safetensors", layout, bases.coded, chosen))
        best += min(sizes)
    assert lossy[1].archive_bytes <= best + 64 * len(zoo.archs)  # the names of more than one codec


def test_a_total_of_bytes_is_kept(zoo: Zoo, tmp_path: Path) -> None:
    tight, wide = (archive_zoo(zoo, tmp_path / str(most), Limit(max_bytes=most)) for most in (18_000, 40_000))
    assert tight.archive_bytes <= 18_000 < wide.archive_bytes <= 40_000
    assert max(wide.mean_loss, 0) <= tight.mean_loss
    with pytest.raises(BadInput, match="do not fit into"):
        archive_zoo(zoo, tmp_path / "x", Limit(max_bytes=2_000))


def test_an_interrupted_archive_goes_on_with_its_scores(
    zoo: Zoo, lossy: tuple[Zoo, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, scored = tmp_path / "archive", []
    steps = 0

    def stop(*_: object) -> None:
        nonlocal steps
        steps += 1
        if steps == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        archive_zoo(zoo, out, Limit(max_loss=0.5), show=stop)
    kept = (out / "archiving.jsonl").read_text().splitlines()
    assert len(kept) > 4 and not (out / "zoo.json").exists()
    (out / "archiving.jsonl").write_text("\n".join(kept) + '\n["torn')
    with pytest.raises(NotFound):
        Zoo.open(out)
    from popgen.zoo.archive import scores

    whole = scores.Passes.outputs
    monkeypatch.setattr(scores.Passes, "outputs", lambda *args: scored.append(1) or whole(*args))
    again = archive_zoo(zoo, out, Limit(max_loss=0.5))
    assert content(out).keys() == content(lossy[0].folder).keys()
    assert Zoo.open(out).sha256 == lossy[0].sha256
    assert again.archive_bytes == lossy[1].archive_bytes and len(scored) > 0
    monkeypatch.undo()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "archiving.jsonl").write_text('["key"]\n')
    with pytest.raises(BrokenFile, match=r"archiving.jsonl cannot be read(?s:.*)Remove it"):
        archive_zoo(zoo, tmp_path / "other", Limit(max_loss=0.5))
    with pytest.raises(BadInput, match="not an empty folder"):
        archive_zoo(zoo, out, Limit(max_loss=0.5))


def test_checkpoints_that_become_equal_are_no_damage(zoo: Zoo, tmp_path: Path) -> None:
    twins = Zoo.create(tmp_path / "twins", "twins")
    record, start = zoo.record(RUNS[0]), zoo.start("mlp-s")
    assert start is not None
    twins.set_starts({"mlp-s": start})
    flat = zoo.matrix([record])[0]
    near = flat.clone()
    near[0] += 1e-7
    twins.add([(record.model_copy(update={"id": "a"}), flat), (record.model_copy(update={"id": "b"}), near)])
    twins.finalize()
    archive_zoo(twins, tmp_path / "out", Limit(max_loss=100))
    assert Zoo.open(tmp_path / "out").verify() == []
    one, other = Zoo.open(tmp_path / "out").records
    assert one.sha256 == other.sha256


def test_archives_are_only_read(lossless: Zoo, lossy: tuple[Zoo, Any], tmp_path: Path) -> None:
    before = content(lossless.folder)
    record = lossless.records[0].model_copy(update={"id": "new"})
    for change in (
        lambda: lossless.add([(record, lossless.matrix([lossless.records[0]])[0])]),
        lambda: lossless.drop([record.id]),
        lossless.finalize,
    ):
        with pytest.raises(BadInput, match=r"is an archive\narchives can only be read\nChange the zoo"):
            change()
    assert content(lossless.folder) == before
    with pytest.raises(BadInput, match="lost something already"):
        archive_zoo(lossy[0], tmp_path / "twice", Limit(max_loss=1))
    archive_zoo(lossy[0], tmp_path / "same", Limit())
    assert Zoo.open(tmp_path / "same").sha256 == lossy[0].sha256


def test_what_cannot_be_archived(zoo: Zoo, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="lies in the zoo"):
        archive_zoo(zoo, zoo.folder / "archive", Limit())
    with pytest.raises(BadInput, match="no checkpoints"):
        archive_zoo(Zoo.create(tmp_path / "empty", "empty"), tmp_path / "out", Limit())
    broken = Zoo.open(shutil.copytree(zoo.folder, tmp_path / "broken"))
    shard = broken.folder / broken.records[0].shard
    altered = bytearray(shard.read_bytes())
    altered[-1] ^= 1
    shard.write_bytes(altered)
    with pytest.raises(BrokenFile, match="do not have the recorded sha256"):
        archive_zoo(broken, tmp_path / "out", Limit())


def test_a_damaged_archive_is_found(lossless: Zoo, tmp_path: Path, edit_json: Any) -> None:
    copy = Path(shutil.copytree(lossless.folder, tmp_path / "copy"))
    shard = copy / lossless.records[0].shard
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    (problem,) = [line for line in Zoo.open(copy).verify() if "checksum" not in line] or [""]
    assert problem == "" and any("checksum" in line for line in Zoo.open(copy).verify())
    shard.write_bytes(whole)
    index = copy / "index.jsonl"
    index.write_text(index.read_text().replace('"held_out":false', '"held_out":true', 1))
    assert Zoo.open(copy).verify() == ["index.jsonl: it is not that of the archive as it was made"]
    edit_json(copy / "zoo.json", lambda info: info.pop("archive"))
    with pytest.raises(BrokenFile, match="does not say how the archive was made"):
        Zoo.open(copy)


def test_the_command_and_what_reads_archives(popgen: Any, zoo: Zoo, here: Path) -> None:
    command = ("zoo", "archive", zoo.folder, "--out", "a", "--max-loss", 1, "--images", 100)
    made = popgen(*command, "--json").json
    assert made["networks"] == 6 and made["worst_loss"] <= 1 and made["smaller"] > 4
    assert "b: 0.14 MB -> 0.12 MB (1.2x smaller)" in popgen("zoo", "archive", zoo.folder, "--out", "b").out
    assert "6 networks, nothing damaged" in popgen("zoo", "verify", "a").out
    assert len(popgen("zoo", "list", "a", "--json").json["checkpoints"]) == 6
    assert "points lost" in popgen("zoo", "show", "a", RUNS[0]).out
    got = popgen("retrieve", "--arch", "cnn-s", "--data", "digits/rotate:30", "--zoo", "a", "--json").json
    assert got["id"] == "cnn-s/digits/rotate:30/s0" and abs(got["original_val_accuracy"] - got["val_accuracy"]) < 0.05
    searched = ("search", "--arch", "cnn-s", "--data", "digits/rotate:45", "--zoo", "a", "--space", "mix")
    popgen(*searched, "--evaluations", 4, "--workers", 0, "--out", "run")
    assert json.loads((here / "run" / "result.json").read_text())


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (("--lossless", "--max-loss", 1), 2, "exclude each other"),
        (("--max-loss", -1), 2, "not in the range"),
        (("--generator", "digits"), 2, "--generator needs --max-loss"),
        (("--generator", "digitz", "--max-loss", 1), 3, "digits"),
    ],
)
def test_options_that_do_not_fit(
    popgen: Any, zoo: Zoo, here: Path, options: tuple[Any, ...], code: int, says: str
) -> None:
    assert says in popgen("zoo", "archive", zoo.folder, "--out", "x", *options, code=code).err
    assert not (here / "x").exists()


@pytest.mark.usefixtures("here")
def test_names_that_do_not_exist(popgen: Any, zoo: Zoo) -> None:
    assert "there is no zoo 'nozoo'" in popgen("zoo", "archive", "nozoo", "--out", "x", code=3).err
    wrong = ("retrieve", "--data", "digits/rotate:31", "--zoo", zoo.folder, "--arch")
    assert "no architecture called 'cnn-x'" in popgen(*wrong, "cnn-x", code=3).err
    assert "has no cnn-s checkpoint for 'digits/rotate:31'\ndigits/rotate:30" in popgen(*wrong, "cnn-s", code=3).err
    seed = ("retrieve", "--data", "digits/rotate:30", "--zoo", zoo.folder, "--arch", "cnn-s", "--seed", 9)
    assert "it has the seeds 0" in popgen(*seed, code=3).err
