"""Where the two ends of a contender run: both on the loopback interface, or in two namespaces with a long link between.

Invariant: whatever a place made, namespaces and the process that carries packets, is gone when its block is left.
"""

import contextlib
import os
import re
import subprocess
import threading
import time

from . import process

SAMPLE_SECONDS = 0.2
# What a link takes to come up to speed is left out of its rate.
WARM_SECONDS = 2


class Loopback:
    """Both ends on this host as it is."""

    address = "127.0.0.1"
    source = ()  # what stands before a command of that end
    target = ()

    free_port = staticmethod(process.free_port)
    answers = staticmethod(process.answers)
    crossed_bytes = staticmethod(process.loopback_bytes)

    @contextlib.contextmanager
    def watched(self):
        """Nothing is measured of loopback."""
        yield Flow()


class Flow:
    """What crossed a link into the target's listening port, over time."""

    def __init__(self):
        self.samples = []  # (seconds, bytes of TCP streams: TLS records or plain, no headers, nothing twice)
        self.emulator_seconds = None

    def rate(self):
        """Bytes a second from the time at which the link was warm until the stream thinned out; None: too short."""
        grown = [late for early, late in zip(self.samples, self.samples[1:]) if late[1] > early[1]]
        # In the last step the stream ended somewhere.
        warm = [sample for sample in grown[:-1] if sample[0] >= WARM_SECONDS]
        if len(warm) < 3:
            return None
        (start, before), (end, after) = warm[0], warm[-1]
        return (after - before) / (end - start)


class Wan:
    """Two namespaces; needs root and a kernel with TUN devices."""

    address = "10.78.0.2"

    def __init__(self, names, emulator):
        self.names = names
        self.emulator = emulator
        self.source, self.target = (("ip", "netns", "exec", name) for name in names)

    @staticmethod
    def free_port():
        """Nobody else is in the namespace."""
        return 9443

    def sockets(self, *more):
        """What the kernel knows of TCP in the target's namespace."""
        command = [*self.target, "ss", "-Htin", *more, "sport", "=", f":{self.free_port()}"]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout

    def answers(self, _port):
        """Whether somebody listens."""
        return bool(self.sockets("-l"))

    def crossed_bytes(self):
        """Bytes that crossed the source's interface since it was made, both ways."""
        command = [*self.source, "cat", *(f"/sys/class/net/wan/statistics/{way}_bytes" for way in ("rx", "tx"))]
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        return sum(map(int, said.split()))

    @contextlib.contextmanager
    def watched(self):
        """Samples the stream while the block runs."""
        flow, over = Flow(), threading.Event()
        started, emulator = time.monotonic(), self.emulator_seconds()

        def sample():
            while not over.wait(SAMPLE_SECONDS):
                at = time.monotonic() - started
                received = sum(map(int, re.findall(r"bytes_received:(\d+)", self.sockets())))
                flow.samples.append((at, received))

        watcher = threading.Thread(target=sample)
        watcher.start()
        try:
            yield flow
        finally:
            over.set()
            watcher.join()
            flow.emulator_seconds = self.emulator_seconds() - emulator

    def emulator_seconds(self):
        """Processor time of the process that carries packets."""
        with open(f"/proc/{self.emulator.pid}/stat", encoding="ascii") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def wan(root, work, link):
    """A link between two namespaces, both ends up."""
    program = work / "linkemu"
    if not program.exists():
        subprocess.run(["cc", "-O2", "-o", program, root / "tools/lab/linkemu.c"], check=True)
    names = [f"versus-{os.getpid()}-{end}" for end in ("az", "site")]
    with contextlib.ExitStack() as made:
        for name in names:
            ip("netns", "add", name)
            made.callback(ip, "netns", "delete", name)
        parameters = [link.delay_ms, link.loss_percent, link.rate_mbit]
        command = [program, names[0], "wan", names[1], "wan", *parameters]
        emulator = made.enter_context(
            subprocess.Popen([str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        )
        # It ends with its input; leaving its own block waits for that.
        made.callback(emulator.stdin.close)
        if emulator.stdout.readline() != b"ready\n":
            raise process.Failed("the link emulator does not start")
        for name, address in zip(names, ("10.78.0.1", Wan.address)):
            ip("-n", name, "address", "add", f"{address}/24", "dev", "wan")
            ip("-n", name, "link", "set", "wan", "mtu", "1500", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield Wan(names, emulator)


def ip(*command):
    """Must succeed."""
    subprocess.run(["ip", *command], check=True)
