"""Who takes part, and in which cases. A contender is a context that prepares outside the timer and gives a function
to run inside it; the function returns the bytes that crossed a wire as (both ways, toward the target), None where
nobody knows.
"""

import contextlib
import dataclasses
import json
import os
import re
import shutil
import typing

from . import daemons, process


@dataclasses.dataclass(frozen=True)
class Link:
    """A long thin link; the delay is that of one way."""

    rate_mbit: int
    delay_ms: int = 15
    loss_percent: float = 0


@dataclasses.dataclass(frozen=True)
class Case:
    """One job."""

    letter: str
    title: str
    permille: int  # pages rewritten, of a thousand
    new_target: bool = False
    link: Link | None = None
    most_bytes: int | None = None

    def size_bytes(self, asked):
        """Length of its disk."""
        return min(asked, self.most_bytes or asked)


CASES = (
    Case("a", "target is identical", 0),
    Case("b", "1 % of the 4 KiB pages rewritten", 10),
    Case("c", "10 % of the 4 KiB pages rewritten", 100),
    Case("d", "new disk", 0, new_target=True),
    Case("e", "new disk over 1 Gbit/s with 30 ms", 0, new_target=True, link=Link(1000), most_bytes=1 << 30),
    Case("t", "new disk over 100 Mbit/s with 30 ms", 0, new_target=True, link=Link(100), most_bytes=1 << 30),
)


@dataclasses.dataclass(frozen=True)
class Contender:
    """One way to do the job."""

    name: str
    title: str
    cases: str
    programs: tuple
    prepare: typing.Callable  # (bench, source, target, cost) -> context manager of a function
    makes_target: bool = False  # a new disk is made by it; else it finds an empty one of the right length
    writes: bool = True  # whether the target equals the source afterwards, and must be made anew
    only_if_named: bool = False  # takes part only when --peers names it

    def is_installed(self):
        """Whether its programs are there."""
        return all(shutil.which(program) for program in self.programs)


@contextlib.contextmanager
def ours(bench, source, target, cost):
    """failback with both ends in one process, as anyone would call it."""

    def job():
        said = process.run([bench.failback, "sync", f"raw:{source}", f"raw:{target}", "--json", "--no-progress"], cost)
        figures = json.loads(said)
        return figures["bytes_to_target"] + figures["bytes_to_source"], figures["bytes_to_target"]

    yield job


def sync_with_journal(bench, source, target):
    """Command line of a pass whose undo is kept."""
    journal = bench.work / "journal"
    return [bench.failback, "sync", "--journal", journal, f"raw:{source}", f"raw:{target}", "--json", "--no-progress"]


@contextlib.contextmanager
def journaled(bench, source, target, cost):
    """The same, with what it overwrites kept for a way back, durable before it is overwritten."""

    def job():
        figures = json.loads(process.run(sync_with_journal(bench, source, target), cost))
        return figures["bytes_to_target"] + figures["bytes_to_source"], figures["bytes_to_target"]

    yield job


@contextlib.contextmanager
def undone(bench, source, target, cost):
    """The way back from such a pass; the target is what it was before."""
    process.run(sync_with_journal(bench, source, target), process.Cost())
    command = [bench.failback, "journal", "undo", "--yes", bench.work / "journal", f"raw:{target}", "--json"]

    def job():
        process.run([*command, "--no-progress"], cost)
        return None, None

    yield job
    bench.call("cmp", bench.base, target)


def over_rsync(*how):
    """rsync to a daemon; `how` says what it does with blocks."""

    def prepare(bench, source, target, cost):
        return rsync(bench, source, target, cost, how)

    return prepare


@contextlib.contextmanager
def rsync(bench, source, target, cost, how):
    """A daemon at the target, and one run of its client."""
    place = bench.place
    port = place.free_port()
    config = bench.work / "rsyncd.conf"
    # A daemon of root becomes somebody else unless it is told not to; any other user's may not even be told.
    user = "uid = 0\ngid = 0\n" if os.geteuid() == 0 else ""
    config.write_text(
        f"port = {port}\naddress = {place.address}\nuse chroot = no\n{user}pid file = {bench.work}/rsyncd.pid\n"
        f"log file = /dev/null\n[d]\npath = {target.parent}\nread only = no\n"
    )
    packed = ["-z", "--zc=zstd", "--zl=1", "--fsync", "--stats"]

    def job():
        url = f"rsync://{place.address}:{port}/d/{target.name}"
        said = process.run(["rsync", "-I", "--inplace", *how, *packed, source, url], cost, where=place.source)
        sent, received = (int(number.replace(",", "")) for number in re.findall(r"Total bytes \w+: ([\d,]+)", said))
        return sent + received, sent

    serve = ["rsync", "--daemon", "--no-detach", f"--config={config}"]
    with process.server(serve, cost, lambda: place.answers(port), where=place.target):
        yield job


def two_daemons(machine_keys=(), disk_keys=()):
    """Both daemons, with mutual TLS and the journal; from the request to the sealed event."""

    @contextlib.contextmanager
    def prepare(bench, source, target, cost):
        keys = (machine_keys, disk_keys)
        folder = bench.work / "daemons"
        with daemons.running(bench.programs, folder, [(source, target)], cost, bench.place, *keys) as pair:

            def job():
                pair.bring_home()
                return pair.frame_bytes()

            yield job

    return prepare


IPERF_SECONDS = 8


@contextlib.contextmanager
def iperf(bench, _source, _target, cost):
    """As many streams as the daemons' data connections, for some seconds, and nothing else: what the link carries."""
    place = bench.place
    port = place.free_port()

    def job():
        client = ["iperf3", "-c", place.address, "-p", str(port), "-P", "4", "-t", str(IPERF_SECONDS)]
        process.run(client, cost, where=place.source)
        return None, None

    serve = ["iperf3", "-s", "-p", str(port)]
    with process.server(serve, process.Cost(), lambda: place.answers(port), where=place.target):
        yield job


NBDKIT = ("nbdkit", "-f", "--threads", "16")


def over_nbd(*command):
    """A client of nbdkit's file server; {source} and {url} stand for the ends."""

    @contextlib.contextmanager
    def prepare(bench, source, target, cost):
        place = bench.place
        port = place.free_port()
        serve = [*NBDKIT, "-i", place.address, "-p", str(port), "file", str(target)]
        with process.server(serve, cost, lambda: place.answers(port), where=place.target):
            yield nbd_client(place, command, source, f"nbd://{place.address}:{port}", cost)

    return prepare


def over_nbds(*command):
    """The same over TLS, both ends proven by a key that they share."""

    @contextlib.contextmanager
    def prepare(bench, source, target, cost):
        keys = bench.work / "keys.psk"
        bench.call("psktool", "-u", "versus", "-p", keys)
        place = bench.place
        port = place.free_port()
        tls = ["--tls=require", f"--tls-psk={keys}"]
        serve = [*NBDKIT, "-i", place.address, "-p", str(port), *tls, "file", str(target)]
        url = f"nbds://versus@{place.address}:{port}/?tls-psk-file={keys}"
        with process.server(serve, cost, lambda: place.answers(port), where=place.target):
            yield nbd_client(place, command, source, url, cost)

    return prepare


def nbd_client(place, command, source, url, cost):
    """The job of a client."""

    def job():
        before = place.crossed_bytes()
        process.run([part.format(source=source, url=url) for part in command], cost, where=place.source)
        return place.crossed_bytes() - before, None

    return job


def bare(mode):
    """Reading and hashing both disks, and nothing else."""

    @contextlib.contextmanager
    def prepare(bench, source, target, cost):
        def job():
            process.run([bench.read_hash_floor, mode, "2", source, target], cost)
            return None, None

        yield job

    return prepare


def through_a_store(make, bring_home):
    """A backup program: what the source makes goes into a store of chunks, and the target is made from that. Before the
    timer the store holds the state that both ends last had in common; for a new disk it is empty.
    """

    @contextlib.contextmanager
    def prepare(bench, source, target, cost):
        folder = bench.work / "store"
        folder.mkdir()
        try:
            make(folder, bench.base if target.stat().st_blocks else None, None)

            def job():
                make(folder, source, cost)
                bring_home(folder, source, target, cost)
                return None, None

            yield job
        finally:
            shutil.rmtree(folder)

    return prepare


def casync_make(folder, source, cost):
    """Chunks of a disk into the store, and their index."""
    if source is not None:
        command = ["casync", "make", f"--store={folder}/s.castr", folder / "disk.caibx", source]
        process.run(command, cost or process.Cost())


def casync_bring_home(folder, _source, target, cost):
    """The disk from the store; what the old target holds is taken from there. A new file takes the old one's place."""
    new = target.with_suffix(".new")
    seed = [f"--seed={target}", f"--store={folder}/s.castr"]
    process.run(["casync", "extract", *seed, folder / "disk.caibx", new], cost)
    os.replace(new, target)


def restic_environment(folder):
    """Where the repository and its cache are; it is always encrypted."""
    return {"RESTIC_REPOSITORY": f"{folder}/repo", "RESTIC_PASSWORD": "versus", "RESTIC_CACHE_DIR": f"{folder}/cache"}


def restic_make(folder, source, cost):
    """A snapshot of a disk, under one name whatever the file's is: a link would be kept as a link."""
    if not (folder / "repo").exists():
        process.run(["restic", "-q", "init"], process.Cost(), restic_environment(folder))
    if source is not None:
        name = folder / "disk.raw"
        name.unlink(missing_ok=True)
        os.link(source, name)
        process.run(["restic", "-q", "backup", name], cost or process.Cost(), restic_environment(folder))


def restic_bring_home(folder, _source, target, cost):
    """The whole disk from the last snapshot: this version knows no restoring in place."""
    out = folder / "out"
    process.run(["restic", "-q", "restore", "latest", "--target", out], cost, restic_environment(folder))
    (restored,) = out.rglob("disk.raw")
    os.replace(restored, target)


@contextlib.contextmanager
def copy(_bench, source, target, cost):
    """cp, which knows holes and nothing of networks."""

    def job():
        process.run(["cp", "--sparse=auto", source, target], cost)
        return None, None

    yield job


CONVERT = ("qemu-img", "convert", "-n", "-W", "-m", "16", "-f", "raw", "-O", "raw", "{source}", "{url}")
COMPARE = ("qemu-img", "compare", "-f", "raw", "-F", "raw", "{source}", "{url}")
NBDCOPY = ("nbdcopy", "-C", "4", "-R", "64", "--request-size=262144", "--flush", "{source}", "{url}")
RSYNC_DELTA = ("--no-whole-file", "--block-size=65536", "--cc=xxh128")

# Daemons that differ in one thing: name, title, keys of the machine, keys of the disk.
VARIANTS = (
    ("sized", "socket buffers sized for the link", ('link_rate = "120M"', "round_trip_ms = 30"), ()),
    ("bbr", "BBR", ('congestion = "bbr"',), ()),
    *((f"z{level}", f"always zstd {level}", (), (f'compression = "{level}"',)) for level in (1, 3, 6, 9)),
    ("off", "never compressed", (), ('compression = "off"',)),
)

ALL = (
    Contender("ours", "failback sync, both ends in one process", "abcd", (), ours, makes_target=True),
    Contender("journal", "the same with --journal: undo is kept", "bc", (), journaled),
    Contender("undo", "failback journal undo of that", "bc", (), undone, writes=False),
    Contender("daemons", "both daemons, mutual TLS, journal, undo", "abcdet", (), two_daemons(), makes_target=True),
    *(
        Contender(
            f"daemons-{name}",
            f"the same, {title}",
            "et",
            (),
            two_daemons(machine_keys, disk_keys),
            makes_target=True,
            only_if_named=True,
        )
        for name, title, machine_keys, disk_keys in VARIANTS
    ),
    Contender("iperf3", "4 streams for some seconds: what the link carries", "et", ("iperf3",), iperf, writes=False),
    Contender("bare", "read and hash both disks, holes left out", "abc", (), bare("holes"), writes=False),
    Contender("bare-dense", "read and hash both disks, holes read too", "a", (), bare("dense"), writes=False),
    Contender("cp", "cp --sparse=auto", "d", ("cp",), copy),
    Contender(
        "rsync", "delta over a daemon: 64 KiB blocks, zstd 1, xxh128", "abc", ("rsync",), over_rsync(*RSYNC_DELTA)
    ),
    Contender(
        "rsync-whole", "over a daemon, whole, zstd 1", "et", ("rsync",), over_rsync("--whole-file"), makes_target=True
    ),
    Contender("nbdcopy", "full copy, 4 connections, to nbdkit", "abcdet", ("nbdcopy", "nbdkit"), over_nbd(*NBDCOPY)),
    Contender(
        "nbdcopy-tls",
        "full copy, 4 connections, to nbdkit over TLS with a shared key",
        "abcd",
        ("nbdcopy", "nbdkit", "psktool"),
        over_nbds(*NBDCOPY),
    ),
    Contender("qemu-convert", "qemu-img convert to nbdkit", "abcd", ("qemu-img", "nbdkit"), over_nbd(*CONVERT)),
    Contender(
        "qemu-compare", "qemu-img compare with nbdkit", "a", ("qemu-img", "nbdkit"), over_nbd(*COMPARE), writes=False
    ),
    Contender(
        "casync",
        "make into a local store, extract with the target as seed",
        "bcd",
        ("casync",),
        through_a_store(casync_make, casync_bring_home),
        only_if_named=True,
    ),
    Contender(
        "restic",
        "backup to a local repository, restore of the whole disk",
        "bcd",
        ("restic",),
        through_a_store(restic_make, restic_bring_home),
        only_if_named=True,
    ),
)
