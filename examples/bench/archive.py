"""Bytes of a zoo and the points that its networks lose: as an archive, in one codec alone, and under plain zstd.

    python examples/bench/archive.py
    python examples/bench/archive.py --zoo zoos/cifar_shifts --data-dir data --images 400 --test

It writes two archives of the zoo into --out, a lossless one and one whose checkpoints lose at most --max-loss points on their validation
images, and compares the second with every codec that is used for all checkpoints and keeps to the same limit. With --test the networks
of the archive are scored on the test images, too, which chose nothing. Negative losses are gains.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
import zstandard

from popgen.data import load_data
from popgen.generator import Generator
from popgen.generator.archive.codes import ArchiveCodes
from popgen.networks.forward import task_score
from popgen.tasks import get_task, lost
from popgen.zoo import Zoo
from popgen.zoo.archive.codecs.table import LOSSLESS
from popgen.zoo.archive.compare import each_codec
from popgen.zoo.archive.scores import Scores
from popgen.zoo.archive.write import Archived, Limit, archive_zoo, float32_bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", default="digits")
    parser.add_argument("--max-loss", type=float, default=0.5, help="points")
    parser.add_argument("--images", type=int, help="validation images at most for each score")
    parser.add_argument("--data-dir")
    parser.add_argument("--generator", help="whose codes are one more form, in an archive with the limit of its own")
    parser.add_argument("--first", type=int, help="only so many checkpoints of each architecture")
    parser.add_argument(
        "--no-codecs", action="store_true", help="without the rows of single codecs, which take the longest"
    )
    parser.add_argument("--test", action="store_true", help="also score the archive on test images")
    parser.add_argument("--out", type=Path, help="folder of the archives; they are kept there")
    parser.add_argument("--json", type=Path, help="file of all figures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        out, zoo = options.out or Path(folder), Zoo.open(options.zoo)
        if options.first:
            zoo = first_of(zoo, options.first, Path(folder) / "first")
        full = float32_bytes(zoo)
        found = {"float32": row(full), "zstd": row(zstd_bytes(zoo))}
        found["archive, lossless"] = archived(archive_zoo(zoo, out / "lossless", Limit()))
        limit, read = Limit(max_loss=options.max_loss), {"images": options.images, "data_dir": options.data_dir}
        found[f"archive, {options.max_loss:g}"] = archived(archive_zoo(zoo, out / "lossy", limit, **read))
        folders = {f"archive, {options.max_loss:g}": out / "lossy"}
        if options.generator:
            name = f"archive, {options.max_loss:g}, codes"
            folders[name], codes = out / "codes", ArchiveCodes(Generator.from_pretrained(options.generator))
            found[name] = archived(archive_zoo(zoo, folders[name], limit, codes=codes, **read))
        for name, archive in folders.items() if options.test else ():
            losses = test_losses(zoo, Zoo.open(archive), options.data_dir)
            found[name] |= {"test_mean": mean(losses), "test_worst": max(losses)}
        print_rows(zoo, full, found)
        if not options.no_codecs:
            codecs = one_codec(zoo, Scores(zoo, **read))
            print_rows(zoo, full, codecs)
            best = min(one["bytes"] for one in codecs.values() if one["worst"] <= options.max_loss)
            print(f"best single codec within {options.max_loss:g} points: {best / 1e6:.3f} MB", flush=True)
            found |= codecs
        if options.json:
            options.json.write_text(json.dumps(found, indent=1))


def row(size: int, losses: list[float] | None = None) -> dict[str, Any]:
    losses = losses or [0.0]
    return {"bytes": size, "mean": mean(losses), "worst": max(losses)}


def archived(made: Archived) -> dict[str, Any]:
    figures = {"bytes": made.archive_bytes, "mean": made.mean_loss, "worst": made.worst_loss}
    return {**figures, "codecs": made.codecs, "seconds": made.seconds}


def zstd_bytes(zoo: Zoo) -> int:
    """Bytes of the checkpoints as float32 under zstd, each architecture's in one block, at the level 19."""
    packer = zstandard.ZstdCompressor(level=19)
    return sum(len(packer.compress(zoo.matrix(zoo.select(arch=arch)).numpy().tobytes())) for arch in zoo.archs)


def one_codec(zoo: Zoo, scores: Scores) -> dict[str, dict[str, Any]]:
    """Every codec for all checkpoints: its bytes, and the points that are lost on validation images."""
    sizes: dict[str, int] = {}
    losses: dict[str, list[float]] = {}
    for arch in zoo.archs:
        records = zoo.select(arch=arch)
        weights = zoo.matrix(records)
        for one in each_codec(zoo, records):
            sizes[one.codec] = sizes.get(one.codec, 0) + one.bytes
            pairs = zip(records, weights, one.weights, strict=True)
            now = [0.0 if one.codec == LOSSLESS else scores.lost(*pair) for pair in pairs]
            losses[one.codec] = [*losses.get(one.codec, []), *now]
    whole = {codec: row(size, losses[codec]) for codec, size in sizes.items() if len(losses[codec]) == len(zoo)}
    return dict(sorted(whole.items(), key=lambda pair: -pair[1]["bytes"]))


def test_losses(zoo: Zoo, archive: Zoo, data_dir: str | None) -> list[float]:
    """Points that each checkpoint loses on the test images of its data set."""
    found = []
    for record in zoo.records:
        spec, data = zoo.spec(record.arch), load_data(record.data, data_dir)
        both = [one.matrix([one.record(record.id)])[0] for one in (zoo, archive)]
        before, after = (task_score(spec, flat, data, "test") for flat in both)
        found.append(100 * lost(get_task(spec.config.task).unit, before, after))
    return found


def first_of(zoo: Zoo, count: int, folder: Path) -> Zoo:
    """A zoo of the first checkpoints of each architecture, with their shared starts and bases."""
    made = Zoo.create(folder, zoo.name)
    starts = {arch: flat for arch in zoo.archs if (flat := zoo.start(arch)) is not None}
    made.set_starts(starts, {arch: flat for arch in starts if (flat := zoo.base(arch)) is not None})
    for arch in zoo.archs:
        records = zoo.select(arch=arch)[:count]
        made.add(zip(records, zoo.matrix(records), strict=True))
    made.finalize()
    return made


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def print_rows(zoo: Zoo, full: int, found: dict[str, dict[str, Any]]) -> None:
    print(f"{zoo.name}: {len(zoo)} checkpoints")
    for name, one in found.items():
        size = f"{one['bytes'] / 1e6:9.3f} MB {full / one['bytes']:6.1f}x"
        test = f"   test {one['test_mean']:6.2f} {one['test_worst']:6.2f}" if "test_mean" in one else ""
        print(f"  {name:20s} {size} {one['mean']:8.2f} {one['worst']:8.2f}{test}", flush=True)
        if "codecs" in one:
            print("    " + ", ".join(f"{count} {form}" for form, count in one["codecs"].items()))


if __name__ == "__main__":
    main()
