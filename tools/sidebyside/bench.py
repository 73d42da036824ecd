"""The bench: makes the disks, runs every contender in turn, times them until durable, checks every result.

Invariant: before the timer starts the disks that have contents lie in the page cache and nothing is left to be written
back; a target that a contender wrote to is never used again; a contender that fails once takes no further part in its case.
"""

import contextlib
import dataclasses
import os
import shutil
import subprocess
import time

from . import place as places, process

SEED = 1
PAGE_BYTES = 4096


@dataclasses.dataclass
class Run:
    """One run of one contender."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    peaks: dict  # program -> bytes
    wire_bytes: int | None
    to_target_bytes: int | None
    # Of a link: bytes a second into the target once it was warm, and processor time of what carries the packets.
    rate_bytes: float | None = None
    emulator_seconds: float | None = None


@dataclasses.dataclass
class Result:
    """All runs of one case."""

    case: object
    changed_bytes: int
    runs: dict  # contender's name -> list of Run, in order; of those that never failed
    failures: dict  # contender's name -> what went wrong


class Bench:
    """A folder of disks and the programs that work on them."""

    def __init__(self, root, work, size_bytes, runs):
        self.root = root
        self.work = work
        self.place = places.Loopback()
        self.size_bytes = size_bytes
        self.runs = runs
        release = root / "target" / "release"
        self.programs = release
        self.failback = release / "failback"
        self.read_hash_floor = release / "read-hash-floor"
        self.generate_disk = release / "generate-disk"
        self.base = None

    def make_base(self, size_bytes):
        """The disk that both ends last had in common; the one before goes."""
        base = self.work / f"base-{size_bytes}.raw"
        if base == self.base:
            return
        if self.base:
            self.base.unlink()
        print(f"making a disk of {size_bytes >> 20} MiB", flush=True)
        self.call(self.generate_disk, "create", base, size_bytes, SEED)
        self.base = base

    def clear(self):
        """Removes what a contender left, so that a long run takes no more space than a short one."""
        for left in self.work.iterdir():
            if left.name.endswith(".raw") and left.name.startswith(("base-", "source-")) or left.name == "linkemu":
                continue
            shutil.rmtree(left) if left.is_dir() else left.unlink()

    @staticmethod
    def call(*command):
        """Runs a helper that must succeed, outside any timer."""
        return subprocess.run([str(part) for part in command], check=True, stdout=subprocess.PIPE, text=True).stdout

    def run_case(self, case, chosen):
        """Every contender of the case in turn, as often as asked."""
        self.make_base(case.size_bytes(self.size_bytes))
        source, changed_bytes = self.source_of(case)
        taking_part = [each for each in chosen if case.letter in each.cases]
        result = Result(case, changed_bytes, {each.name: [] for each in taking_part}, {})
        with contextlib.ExitStack() as link:
            if case.link:
                self.place = link.enter_context(places.wan(self.root, self.work, case.link))
                link.callback(setattr, self, "place", places.Loopback())
            for number in range(self.runs):
                for contender in (each for each in taking_part if each.name not in result.failures):
                    self.add_run(result, number, contender, source)
        if source != self.base:
            source.unlink()
        return result

    def add_run(self, result, number, contender, source):
        """One more run, or why there is none."""
        label = f"case {result.case.letter} run {number + 1} {contender.name:14}"
        try:
            run = self.run_once(result.case, contender, source)
        except (process.Failed, subprocess.CalledProcessError, OSError, ValueError) as failure:
            result.failures[contender.name] = str(failure)
            del result.runs[contender.name]
            print(f"{label} FAILED: {failure}", flush=True)
            return
        finally:
            self.clear()
        result.runs[contender.name].append(run)
        rate = f", {run.rate_bytes / 1e6:.1f} MB/s" if run.rate_bytes else ""
        print(f"{label} {run.seconds:8.3f} s{rate}", flush=True)

    def source_of(self, case):
        """The disk that comes home, and how many bytes of it changed."""
        if case.permille == 0:
            return self.base, 0
        source = self.work / f"source-{case.letter}.raw"
        self.copy(self.base, source)
        pages = int(self.call(self.generate_disk, "mutate", source, SEED + 1, case.permille))
        return source, pages * PAGE_BYTES

    @staticmethod
    def copy(source, target):
        """A copy with holes where the original has zeros, as both ends keep their disks."""
        Bench.call("cp", "--sparse=always", "--reflink=never", source, target)

    def run_once(self, case, contender, source):
        """Prepares, times, checks."""
        target = self.work / "target.raw"
        self.lay_out(case, contender, target)
        self.warm(source, *([] if case.new_target else [target]))
        cost = process.Cost()
        with contender.prepare(self, source, target, cost) as job, self.place.watched() as flow:
            start = time.monotonic()
            wire_bytes, to_target_bytes = job()
            if contender.writes:
                self.call("sync", "-d", target)
            seconds = time.monotonic() - start
        if contender.writes:
            self.call("cmp", source, target)
        peaks, rate = (cost.peak_bytes, cost.peaks), flow.rate()
        return Run(seconds, cost.cpu_seconds, *peaks, wire_bytes, to_target_bytes, rate, flow.emulator_seconds)

    def lay_out(self, case, contender, target):
        """The target as the contender needs to find it."""
        target.unlink(missing_ok=True)
        if not case.new_target:
            self.copy(self.base, target)
        elif not contender.makes_target:
            # Servers serve what exists; an empty disk of the right length is a new disk.
            target.touch()
            os.truncate(target, self.base.stat().st_size)

    def warm(self, *disks):
        """These disks into the page cache, and everything dirty out to the medium.

        Not a new target: reading its holes would fill the page cache with pages that nobody else finds ready.
        """
        for disk in disks:
            self.call("dd", f"if={disk}", "of=/dev/null", "bs=1M", "status=none")
        os.sync()
