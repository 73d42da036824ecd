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
    """What several processes used together."""

    def __init__(self):
        self.cpu_seconds = 0.0
        self.peak_bytes = 0

    def add(self, usage):
        """Adds an ended process. Peaks add up: both ends live at the same time."""
        self.cpu_seconds += usage.ru_utime + usage.ru_stime
        self.peak_bytes += usage.ru_maxrss * 1024


def run(command, cost, environment=None):
    """Runs a command that must succeed, counts its cost, returns its standard output."""
    environment = {**os.environ, **(environment or {})}
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environment) as process:
        text = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise Failed(f"{os.path.basename(command[0])} ended with {process.returncode}")
    cost.add(usage)
    return text.decode(errors="replace")


def free_port():
    """A port of the loopback interface that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def server(command, port, cost):
    """A server that answers on the port; its cost counts when it has ended."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        wait_until_it_answers(process, command, port)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        cost.add(usage)


def wait_until_it_answers(process, command, port):
    """Connecting is the only sign that every one of these servers gives."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"{command[0]} does not answer on port {port}") from None
            time.sleep(0.01)


def loopback_bytes():
    """Bytes that crossed the loopback interface since the machine started."""
    with open("/sys/class/net/lo/statistics/tx_bytes", encoding="ascii") as file:
        return int(file.read())
