"""Both daemons on this machine, as on two sites: mutual TLS, a journal, a process each; asked over their control sockets.

Invariant: certificates, configuration and state are new for each pair of daemons, so that no run knows what an earlier one
did; both have ended when the block that started them is left.
"""

import contextlib
import json
import pathlib
import shutil
import socket
import tempfile
import time

from . import place as places, process

MASTER_TARGET = "failback://master-target/versus"
PROCESS_SERVER = "failback://process-server/versus"
MACHINE = "versus"
JOB_SECONDS = 3600


class Asking:
    """A connection to a control socket: one JSON line asks, one answers."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(JOB_SECONDS)
        self.socket.connect(str(path))
        self.lines = self.socket.makefile("rb")

    def ask(self, request, **fields):
        """The answer."""
        self.socket.sendall(json.dumps({"request": request, **fields}).encode() + b"\n")
        answer = self.next()
        if answer["reply"] == "refused":
            raise process.Failed("; ".join(told(finding) for finding in answer["findings"]))
        return answer

    def next(self):
        """The next line: an answer, or an event."""
        line = self.lines.readline()
        if not line:
            raise process.Failed("the daemon closed its control socket")
        return json.loads(line)


def told(finding):
    """A finding in one line."""
    return f"{finding['code']} {finding['title']}: {finding['evidence']}"


class Pair:
    """Both daemons, ready to be asked."""

    def __init__(self, sockets, disks):
        self.sockets = sockets
        self.disks = disks
        self.asking = Asking(sockets / "process-server")
        self.events = Asking(sockets / "process-server")
        self.events.ask("events", machine=MACHINE)

    def bring_home(self):
        """Every disk, from the request until the last one is sealed: the events of what was sealed, by disk."""
        self.asking.ask("reprotect", job=f"versus-{time.time_ns()}", machine=MACHINE)
        sealed = {}
        while len(sealed) < self.disks:
            event = self.events.next()
            if event["event"] in ("pass_failed", "pass_interrupted"):
                raise process.Failed(told(event["finding"]))
            if event["event"] == "pass_sealed":
                sealed[event["disk"]] = event
        return sealed

    def counters(self, daemon):
        """The last pass's counters as that daemon has them, all disks together."""
        status = Asking(self.sockets / daemon).ask("status", machine=MACHINE)["status"]
        total = {}
        for disk in status["machines"][0]["disks"]:
            for name, value in disk["pass"]["counters"].items():
                total[name] = total.get(name, 0) + value
        return total

    def frame_bytes(self):
        """Encoded frames of all disks: both ways, and toward the target. Each end counts what it sends."""
        to_target = self.counters("process-server")["bytes_to_target"]
        return to_target + self.counters("master-target")["bytes_to_source"], to_target


@contextlib.contextmanager
def running(programs, folder, disks, cost, place=places.Loopback(), machine_keys=(), disk_keys=()):
    """Both daemons of that folder of programs, with these (source, target) disks, a raw image each; and further lines of
    the process server's configuration.
    """
    folder.mkdir()
    # A socket's path may have 107 bytes, and the folder's may be longer.
    sockets = pathlib.Path(tempfile.mkdtemp(prefix="failback-"))
    try:
        issue(programs, folder)
        address = f"{place.address}:{place.free_port()}"
        write_configurations(folder, sockets, disks, address, machine_keys, disk_keys)
        with contextlib.ExitStack() as daemons:
            for name, where in (("master-target", place.target), ("process-server", place.source)):
                daemons.enter_context(daemon(programs, folder, sockets, name, cost, where))
            yield Pair(sockets, len(disks))
    finally:
        shutil.rmtree(sockets)
        shutil.rmtree(folder)


def issue(programs, folder):
    """An authority, and a certificate for each daemon."""
    pki = ["--pki", str(folder / "pki"), "--json"]
    for command in (
        ["init"],
        ["issue", MASTER_TARGET, "--export", str(folder / "master-target")],
        ["issue", PROCESS_SERVER, "--export", str(folder / "process-server")],
    ):
        process.run([str(programs / "failback"), "pki", *command, *pki], process.Cost())


def write_configurations(folder, sockets, disks, address, machine_keys, disk_keys):
    """Both files. What they do not name is as it is for everyone."""
    at_source, at_target = [], []
    for number, (source, target) in enumerate(disks):
        head = ["[[machine.disk]]", f'id = "disk{number}"']
        at_source += [*head, f'source = "raw:{source}"', *disk_keys]
        at_target += [*head, f'path = "raw:{target}"', "create = true"]
    machine = ["[[machine]]", f'id = "{MACHINE}"']
    write(
        folder / "master-target.toml",
        [f'listen = "{address}"', *common(folder, sockets, "master-target")],
        [*machine, f'allow = ["{PROCESS_SERVER}"]', *at_target],
    )
    write(
        folder / "process-server.toml",
        common(folder, sockets, "process-server"),
        [*machine, f'target = "{address}"', f'target_identity = "{MASTER_TARGET}"', *machine_keys, *at_source],
    )


def common(folder, sockets, name):
    """What both have in common."""
    tls = {"certificate": "cert.pem", "key": "key.pem", "ca": "ca.pem", "crl": "crl.pem"}
    return [
        f'state_dir = "{folder}/state-{name}"',
        f'control = "{sockets}/{name}"',
        'admin = "off"',
        "[tls]",
        *(f'{key} = "{folder}/{name}/{file}"' for key, file in tls.items()),
    ]


def write(path, *parts):
    """A file of lines."""
    path.write_text("".join(line + "\n" for part in parts for line in part))


@contextlib.contextmanager
def daemon(programs, folder, sockets, name, cost, where):
    """One daemon, from its first answer to its orderly end."""
    command = [str(programs / f"failback-{name}"), "--config", str(folder / f"{name}.toml")]

    def is_ready():
        try:
            Asking(sockets / name).ask("version")
            return True
        except OSError:
            return False

    path = folder / f"{name}.log"
    with open(path, "wb") as log:
        try:
            with process.server(command, cost, is_ready, log, where):
                yield
        except process.Failed as failure:
            last = path.read_text(errors="replace").strip().splitlines()[-1:]
            raise process.Failed(" – ".join([str(failure), *last])) from None
