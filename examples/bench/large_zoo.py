"""Large zoos: what it takes to write, list, open, verify and read a zoo of many small checkpoints, and to find neighbours.

    python examples/bench/large_zoo.py
    python examples/bench/large_zoo.py --count 2000 --zoo zoos/large

It takes two minutes for 50,000 checkpoints, and 220 MB of disk. Each row is a process of its own, whose CPU time and largest
memory the operating system has counted, start of Python included. The zoo is written once, and kept if --zoo names it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

ARCHS = ("mlp-s/hidden:8", "mlp-s/hidden:16")  # 610 and 1,210 parameters
SHOWN = "mlp-s/hidden:8/digits/rotate:0/s0"
ROUNDS = 7  # repeats of what is timed within a process, of which the median counts


def write(folder: Path, count: int) -> None:
    """Write a zoo of `count` checkpoints with drawn weights, 5,000 at a time, and finish it."""
    import torch

    from popgen.archs import ArchSpec, arch_config
    from popgen.zoo import Checkpoint, Zoo

    configs = {arch: arch_config(arch) for arch in ARCHS}
    sizes = {arch: ArchSpec.from_config(config).size for arch, config in configs.items()}
    draws = torch.Generator().manual_seed(0)
    classes = tuple("0123456789")

    def networks(first: int, last: int) -> Iterator[tuple[Checkpoint, torch.Tensor]]:
        for i in range(first, last):
            arch, data, seed = ARCHS[i % 2], f"digits/rotate:{i // 2 % 360}", i // 720
            name = f"{arch}/{data}/s{seed}"
            score = {"test_accuracy": 0.5 + (i * 7919 % 1000) / 2000}
            record = Checkpoint(
                id=name,
                arch=arch,
                arch_config=configs[arch],
                data=data,
                classes=classes,
                lineage=name,
                seed=seed,
                held_out=seed % 5 == 4,
                metrics=score,
                source="drawn",
            )
            yield record, 0.05 * torch.randn(sizes[arch], generator=draws)

    zoo = Zoo.create(folder, "large", licence="CC0-1.0")
    for first in range(0, count, 5000):
        zoo.add(networks(first, min(count, first + 5000)))
    zoo.finalize()


def opened(folder: Path) -> None:
    from popgen.zoo import Zoo

    Zoo.open(folder)


def streamed(folder: Path) -> None:
    """Read the weights of all checkpoints, 4,096 at a time."""
    from popgen.zoo import Zoo

    zoo = Zoo.open(folder)
    for arch in zoo.archs:
        records = zoo.select(arch)
        for first in range(0, len(records), 4096):
            zoo.matrix(records[first : first + 4096])


def neighbours(folder: Path) -> None:
    """Print the milliseconds that the nearest of as many data sets and codes as there are checkpoints take."""
    import torch

    from popgen.generator import Generator
    from popgen.generator.records import Code
    from popgen.zoo import Zoo

    zoo = Zoo.open(folder)
    generator = Generator.from_pretrained("digits")
    draws = torch.Generator().manual_seed(0)
    arch, n = next(iter(generator.specs)), len(zoo)
    width = generator.data_vectors.shape[1]
    generator.data_vectors = torch.randn(n, width, generator=draws)
    generator.provenance = replace(generator.provenance, data=[record.id for record in zoo.records])
    generator.codes = torch.randn(n, *generator.latent_shape, generator=draws)
    named = [record.model_copy(update={"arch": arch, "data": record.id}) for record in zoo.records]
    generator.records = [Code.of(record, row) for row, record in enumerate(named)]
    codes, here = generator.codes.flatten(1), torch.randn(width, generator=draws)
    code = torch.randn(codes.shape[1], generator=draws)
    found = {
        f"data sets by their embeddings, {width} numbers each": median(lambda: generator.nearest(here)),
        "the codes of the nearest data sets, 40 of them": median(
            lambda: generator.stored_near(arch, generator.provenance.data, 40)
        ),
        f"codes, {codes.shape[1]} numbers each": median(lambda: (codes - code).norm(dim=1).topk(40, largest=False)),
    }
    print(json.dumps(found))


def median(call: Callable[[], object]) -> float:
    """Return the median CPU time of a call in milliseconds."""
    seconds = []
    for _ in range(ROUNDS):
        started = time.process_time()
        call()
        seconds.append(time.process_time() - started)
    return 1e3 * sorted(seconds)[ROUNDS // 2]


STEPS = {"open": opened, "stream": streamed, "neighbours": neighbours}


def measured(command: list[str]) -> tuple[str, str]:
    """Run a command; return its row of the table, and what it printed."""
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stdout=output)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(f"{' '.join(command)} ended with exit code {process.returncode}")
        output.seek(0)
        printed = output.read()
    memory = used.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return f"{used.ru_utime + used.ru_stime:.2f} | {wall:.2f} | {memory:.0f} MB |", printed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=50_000, help="checkpoints")
    parser.add_argument("--zoo", type=Path, help="folder of the zoo, which is kept; an existing one is used as it is")
    parser.add_argument("--step", choices=["write", *STEPS], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    if arguments.step is not None:
        if arguments.step == "write":
            write(arguments.zoo, arguments.count)
        else:
            STEPS[arguments.step](arguments.zoo)
        return
    with tempfile.TemporaryDirectory() as temporary:
        report(arguments.zoo or Path(temporary) / "zoo", arguments.count)


def report(folder: Path, count: int) -> None:
    own = [sys.executable, __file__, "--zoo", str(folder), "--count", str(count), "--step"]
    popgen = [sys.executable, "-m", "popgen", "zoo"]
    commands = {
        "import torch": [sys.executable, "-c", "import torch"],
        "write": [*own, "write"],
        "`popgen zoo list`": [*popgen, "list", str(folder)],
        "`popgen zoo list --all`": [*popgen, "list", str(folder), "--all"],
        "`popgen zoo show`": [*popgen, "show", str(folder), SHOWN],
        "`Zoo.open`": [*own, "open"],
        "`popgen zoo verify`": [*popgen, "verify", str(folder)],
        "open, and read all weights in pieces": [*own, "stream"],
    }
    if (folder / "zoo.json").exists():
        del commands["write"]
    print(f"| {count:,} checkpoints | CPU seconds | wall seconds | largest memory |\n|---|---|---|---|")
    for name, command in commands.items():
        print(f"| {name} | {measured(command)[0]}", flush=True)
    print(f"\n| the nearest of {count:,} | CPU ms |\n|---|---|")
    for name, milliseconds in json.loads(measured([*own, "neighbours"])[1]).items():
        print(f"| {name} | {milliseconds:.1f} |")


if __name__ == "__main__":
    main()
