"""Processes whose cost is known: time until they end, processor time with their children, peak memory.

Invariant: a server ends with the block that started it, by its own process id, however the block ends.
"""

import contextlib
import os
import signal
import socket
import subprocess
import time

READY_SECONDS = 10


class Failed(Exception):
    """A program of a contender did not do its job."""


class Cost:
    """What several processes used together, and the most memory that each had."""

    def __init__(self):
        self.cpu_seconds = 0.0
        self.peak_bytes = 0
        self.peaks = {}  # program -> bytes, of the fattest process of that name

    def add(self, command, usage):
        """Adds an ended process. Peaks add up: both ends live at the same time."""
        peak_bytes = usage.ru_maxrss * 1024
        self.cpu_seconds += usage.ru_utime + usage.ru_stime
        self.peak_bytes += peak_bytes
        name = os.path.basename(command[0])
        self.peaks[name] = max(self.peaks.get(name, 0), peak_bytes)


def run(command, cost, environment=None, where=()):
    """Runs a command that must succeed, behind what puts it where it belongs; counts its cost, returns its output."""
    environment = {**os.environ, **(environment or {})}
    with subprocess.Popen([*where, *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environment) as process:
        text = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise Failed(f"{os.path.basename(command[0])} ended with {process.returncode}")
    cost.add(command, usage)
    return text.decode(errors="replace")


def free_port():
    """A port of the loopback interface that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def server(command, cost, is_ready, log=None, where=()):
    """A server, once `is_ready` says so; its cost counts when it has ended. Without a log its complaints are ours."""
    line = [*where, *command]
    process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=log or subprocess.DEVNULL, stderr=log)
    try:
        wait_until(process, command, is_ready)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        cost.add(command, usage)


def wait_until(process, command, is_ready):
    """Looks again and again: no sign of life is common to all these servers."""
    deadline = time.monotonic() + READY_SECONDS
    while not is_ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise Failed(f"{os.path.basename(command[0])} does not start")
        time.sleep(0.01)


def answers(port):
    """Whether somebody listens on that port of the loopback interface."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False


def loopback_bytes():
    """Bytes that crossed the loopback interface since the machine started."""
    with open("/sys/class/net/lo/statistics/tx_bytes", encoding="ascii") as file:
        return int(file.read())
