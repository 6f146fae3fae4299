"""Mutated files of every kind that popgen reads: each is read, or refused by an error of popgen's own, and nothing else happens.

    python tests/fuzz/fuzz.py --inputs 1000000 --seconds 3600

A fault is an exception of another class, a crash or a hang of the process, an allocation above 2 GB, or a file that is
written, renamed or removed outside the folder of the inputs. Faulty inputs are kept in the folder that --keep names.
Input number i of a kind is the same for the same --seed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))

from doors import Door, Sample, doors

from popgen.errors import PopgenError
from search import SearchError

SECONDS_EACH = 20.0  # an input that takes longer hangs
MOST_BYTES = 2 * 2**30  # what reading one input may allocate
_BATCH = 500  # inputs that a process reads before it reports
_WRITES = ("os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate", "shutil.rmtree")
_STARTS = ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.system", "socket.connect")


class Fault(BaseException):
    """Something that no door lets happen; a BaseException, so that no door takes it for a damaged file."""


@dataclass
class Report:
    """Counts of outcomes by door, and the faults."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: list[tuple[str, int, str]] = field(default_factory=list)  # door, number of the input, what happened


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code: 1 if there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=600.0, help="the end, however many inputs are read by then")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="a door by its name")
    parser.add_argument("--keep", type=Path, help="folder for the inputs that end in a fault")
    chosen = parser.parse_args(arguments)
    scratch = Path(tempfile.mkdtemp(prefix="fuzz-"))
    try:
        found = [door for door in doors(scratch) if chosen.only in (None, door.name)]
        report = _run(found, chosen, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    _print(report, found)
    return 1 if report.faults else 0


def _run(found: list[Door], chosen: argparse.Namespace, scratch: Path) -> Report:
    """Hand batches of inputs to processes until all are read or the time is over."""
    total = sum(door.share for door in found)
    todo = [
        (door, start, min(start + _BATCH, count))
        for door in found
        for count in [max(1, round(chosen.inputs * door.share / total))]
        for start in range(0, count, _BATCH)
    ]
    Random(chosen.seed).shuffle(todo)  # an end by the clock leaves the doors their shares
    report, began, inputs = Report(), time.monotonic(), sum(stop - start for _, start, stop in todo)
    running: list[_Batch] = []
    while (todo or running) and (running or time.monotonic() - began < chosen.seconds):
        over = time.monotonic() - began >= chosen.seconds
        while todo and not over and len(running) < chosen.workers:
            door, start, stop = todo.pop()
            running.append(_Batch(door, start, stop, chosen.seed, scratch))
        for batch in list(running):
            if batch.wait(0.2, report):
                running.remove(batch)
                _keep(batch, report, chosen.keep)
                if batch.start < batch.stop:  # the process died on an input; the others are still to be read
                    todo.append((batch.door, batch.start, batch.stop))
                done, seconds = sum(report.counts.values()), time.monotonic() - began
                left = min(chosen.seconds - seconds, seconds * (inputs - done) / max(done, 1))
                print(
                    f"{done} of {inputs} inputs, {len(report.faults)} faults, {max(left, 0):.0f} s left",
                    file=sys.stderr,
                )
    return report


class _Batch:
    """A process that reads the inputs from `start` to `stop` of a door."""

    def __init__(self, door: Door, start: int, stop: int, seed: int, scratch: Path) -> None:
        self.door, self.start, self.stop, self.seed = door, start, stop, seed
        context = multiprocessing.get_context("fork")  # everything is imported
        self._mine, theirs = context.Pipe()
        folder = scratch / f"in-{door.name.replace(' ', '-').replace(',', '')}-{start}"
        self._process = context.Process(target=_read_batch, args=(door, start, stop, seed, folder, theirs))
        self._process.start()
        theirs.close()
        self._heard = time.monotonic()

    def wait(self, seconds: float, report: Report) -> bool:
        """Take what the process has reported; returns whether it has ended."""
        try:
            while self._mine.poll(seconds):
                outcome, fault = self._mine.recv()
                self._heard, seconds = time.monotonic(), 0.0
                self._count(outcome, fault, report)
        except EOFError:
            self._process.join()
            if self.start < self.stop:
                self._count("died", f"the process ended with {self._process.exitcode}", report)
            return True
        if time.monotonic() - self._heard > 3 * SECONDS_EACH:
            self._process.kill()
            self._process.join()
            self._count("hung", f"no answer for {3 * SECONDS_EACH:.0f} s", report)
            return True
        return False

    def _count(self, outcome: str, fault: str, report: Report) -> None:
        report.counts[self.door.name, outcome] += 1
        if fault:
            report.faults.append((self.door.name, self.start, fault))
        self.start += 1


def _read_batch(door: Door, start: int, stop: int, seed: int, folder: Path, pipe: Connection) -> None:
    """Read inputs one by one, in a process of its own, and report the outcome of each."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    door.fill(folder)
    os.chdir(folder)
    _limit_memory()
    sys.addaudithook(_Guard(folder))
    signal.signal(signal.SIGALRM, _hangs)
    for number in range(start, stop):
        sample, content = make_input(door, number, seed)
        file = folder / sample.name
        file.write_bytes(content)
        signal.setitimer(signal.ITIMER_REAL, SECONDS_EACH)
        try:
            pipe.send(read_one(door, file))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        file.write_bytes(sample.content)
    pipe.close()


def make_input(door: Door, number: int, seed: int) -> tuple[Sample, bytes]:
    """The sample that input `number` is made of, and its content."""
    draw = Random(f"{seed} {door.name} {number}")
    sample = draw.choice(door.samples)
    return sample, sample.mutation(sample.content, draw)


def read_one(door: Door, file: Path) -> tuple[str, str]:
    """The outcome of reading a file, and the fault, "" if there is none."""
    try:
        door.read(file)
    except (PopgenError, SearchError) as error:
        if memory := _ran_out_of_memory(error):
            return "out of memory", memory
        return type(error).__name__, ""
    except Fault as error:
        return str(error).partition(":")[0], "".join(traceback.format_exception(error)[-4:])
    except BaseException as error:
        return "traceback", "".join(traceback.format_exception(error)[-6:])
    return "read", ""


def _ran_out_of_memory(error: BaseException | None) -> str:
    """The text of the first cause that is a failed allocation."""
    while error is not None:
        if isinstance(error, MemoryError) or "t allocate memory" in str(error) or "not enough memory" in str(error):
            return f"{type(error).__name__}: {error}"
        error = error.__cause__ or error.__context__
    return ""


def _limit_memory() -> None:
    """Let the process have so much more memory than it has, so that larger allocations fail."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MOST_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _hangs(*_: object) -> None:
    raise Fault(f"hung: longer than {SECONDS_EACH:.0f} s")


class _Guard:
    """An audit hook that refuses what reading a file never does: other files written, programs started, connections."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _STARTS:
            raise Fault(f"started: {event} {arguments[:2]!r:.200}")
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, (str, bytes)) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                self._check(event, path)
        elif event in _WRITES:
            self._check(event, arguments[0])

    def _check(self, event: str, path: Any) -> None:
        whole = os.path.abspath(os.fsdecode(path))
        if not whole.startswith((self.folder, "/dev/")):
            raise Fault(f"wrote outside: {event} {whole}")


def _keep(batch: _Batch, report: Report, folder: Path | None) -> None:
    """Write the inputs of this batch's door that ended in a fault, with what happened."""
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name, number, fault in report.faults:
        if name == batch.door.name:
            sample, content = make_input(batch.door, number, batch.seed)
            file = folder / f"{number}-{sample.name.replace('/', '-')}"
            if not file.exists():
                file.write_bytes(content)
                file.with_name(f"{file.name}.txt").write_text(fault)


def _print(report: Report, found: list[Door]) -> None:
    outcomes = sorted({outcome for _, outcome in report.counts})
    print(f"{'':20s}" + "".join(f"{outcome:>16s}" for outcome in [*outcomes, "in all"]))
    for door in found:
        counts = [report.counts[door.name, outcome] for outcome in outcomes]
        print(f"{door.name:20s}" + "".join(f"{count:16d}" for count in [*counts, sum(counts)]))
    print(f"{'in all':20s}{'':{16 * len(outcomes)}s}{sum(report.counts.values()):16d}")
    for name, number, fault in report.faults[:20]:
        print(f"\n{name}, input {number}\n{fault}")
    if len(report.faults) > 20:
        print(f"\nand {len(report.faults) - 20} more faults")


if __name__ == "__main__":
    sys.exit(main())
