"""Peak memory of both daemons with several disks at once: new, and with a tenth of their pages changed.

usage: python3 -m sidebyside.memory PROGRAMS WORK          (tools/long daemons-memory does that)

Prints rows of a table. Ends with 1 when a daemon had more resident than it may, when a target is wrong, or when the
disks did not run at once.

Invariant: what is measured is each daemon's own peak over its whole life, as the kernel counts it.
"""

import contextlib
import pathlib
import shutil
import subprocess
import sys
import time

from . import daemons, process

DISKS = 4
DISK_BYTES = 1 << 30
CHANGED_PERMILLE = 100
LIMIT_BYTES = 256 << 20


def generate(programs, *arguments):
    """Makes or changes a disk."""
    command = [str(programs / "generate-disk"), *(str(argument) for argument in arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def bring_home(programs, work, disks):
    """All disks at once: seconds, and each daemon's peak."""
    cost = process.Cost()
    with daemons.running(programs, work / "daemons", disks, cost) as pair:
        start = time.monotonic()
        sealed = pair.bring_home()
        seconds = time.monotonic() - start
    begun = [event["time_unix_ms"] / 1000 - event["elapsed_seconds"] for event in sealed.values()]
    if max(begun) >= min(event["time_unix_ms"] / 1000 for event in sealed.values()):
        raise process.Failed("the disks did not run at once")
    for source, target in disks:
        subprocess.run(["cmp", source, target], check=True)
    return seconds, cost.peaks["failback-process-server"], cost.peaks["failback-master-target"]


def main(programs, work):
    """Both cases. Whether all was well."""
    disks = [(work / f"source-{number}.raw", work / f"target-{number}.raw") for number in range(DISKS)]
    is_fine = True
    print("| run | seconds | process server, MiB at most | master target, MiB at most |\n|---|---|---|---|")
    for title in ("new disks", f"{CHANGED_PERMILLE // 10} % of the pages changed"):
        for number, (source, _) in enumerate(disks):
            if source.exists():
                generate(programs, "mutate", source, DISKS + number, CHANGED_PERMILLE)
            else:
                generate(programs, "create", source, DISK_BYTES, number)
        seconds, *peaks = bring_home(programs, work, disks)
        print(f"| {title} | {seconds:.1f} | " + " | ".join(f"{peak >> 20}" for peak in peaks) + " |", flush=True)
        is_fine &= max(peaks) <= LIMIT_BYTES
    if not is_fine:
        print(f"\nFAILED: more than {LIMIT_BYTES >> 20} MiB resident")
    return is_fine


if __name__ == "__main__":
    WORK = pathlib.Path(sys.argv[2])
    WORK.mkdir(parents=True)
    with contextlib.ExitStack() as cleared:
        cleared.callback(shutil.rmtree, WORK)
        try:
            sys.exit(0 if main(pathlib.Path(sys.argv[1]), WORK) else 1)
        except (process.Failed, subprocess.CalledProcessError) as failure:
            print(f"\nFAILED: {failure}")
            sys.exit(1)
