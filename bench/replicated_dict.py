"""PySyncObj's replicated dictionary, what a Python user would take instead, beside kvraft.

`python -m bench.replicated_dict SELF OTHER OTHER [--journal FILE]` is one process of it.
"""

import argparse
import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from bench.load import TICK_US
from bench.measured import Measured
from bench.puts import put
from kvraft import clock
from kvraft.testing import leash, ports
from kvraft.testing.cluster import Cluster, Program

KEYS: Final = 10_000
VALUE: Final = "v" * 256
READY_WITHIN_S: Final = 60
AT_ONCE: Final = (1, 64)


class Kind(NamedTuple):
    """A line of the table."""

    name: str
    durability: str
    """Of a write that was answered."""


KVRAFT: Final = Kind("kvraft", "on the disks of a majority: outlives the loss of power at all members")
DEFAULTS: Final = Kind("PySyncObj, its defaults", "in memory alone: gone when all three processes have ended")
JOURNAL: Final = Kind(
    "PySyncObj, with its journal", "in a file that is mapped and never synced: outlives processes, not the power"
)


def of_kvraft(directory: pathlib.Path, program: Program, seconds: int) -> list[Measured]:
    """Writes a second, one and 64 at once, over HTTP."""
    figures = []
    for at_once in AT_ONCE:
        shutil.rmtree(directory, ignore_errors=True)
        with Cluster(directory, program=program) as cluster:
            figures.append(put(cluster, seconds, at_once)[0])
    return figures


def of_pysyncobj(directory: pathlib.Path, seconds: int, *, journal: bool) -> list[Measured]:
    """The same, in the process that leads: no HTTP, no client of its own."""
    figures = []
    for at_once in AT_ONCE:
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        with _processes(directory, journal=journal) as processes:
            leaders = [process for process in processes if _line(process) == "leads"]
            assert len(leaders) == 1, leaders
            (leader,) = leaders
            before_us = sum(map(_cpu_us, processes))
            assert leader.stdin is not None
            leader.stdin.write(f"{at_once} {seconds}\n")
            leader.stdin.flush()
            count, took_s = map(float, _line(leader).split())
            each_us = (sum(map(_cpu_us, processes)) - before_us) / count
            figures.append(Measured(count / took_s, f"{count:.0f} writes", each_us))
    return figures


def _line(process: "subprocess.Popen[str]") -> str:
    """The next that it prints.

    Raises:
        SystemExit: it ended instead.
    """
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        sys.exit(f"bench: a process of PySyncObj ended with {process.wait()}")
    return line.strip()


def _cpu_us(process: "subprocess.Popen[str]") -> float:
    """As of a member (`bench/load.py`)."""
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_US


@contextlib.contextmanager
def _processes(directory: pathlib.Path, *, journal: bool) -> "Iterator[list[subprocess.Popen[str]]]":
    """Three that know each other."""
    reservation = ports.reserve(3)
    addresses = [f"{ports.LOOPBACK}:{port}" for port in reservation.ports]
    processes = []
    try:
        for number, address in enumerate(addresses):
            command = [sys.executable, "-m", "bench.replicated_dict", address, *addresses[:number]]
            command += addresses[number + 1 :]
            if journal:
                command += ["--journal", str(directory / f"{number}.journal")]
            process = subprocess.Popen(
                command,
                cwd=pathlib.Path(__file__).parents[1],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            leash.hold(process.pid)
            processes.append(process)
        yield processes
    finally:
        for process in processes:
            leash.kill_group(process.pid)
            process.communicate()
            leash.let_go(process.pid)
        reservation.release()


def write(replicated: Any, at_once: int, seconds: int) -> tuple[int, float]:
    """How many writes were acknowledged, and in how many seconds: so many at once, each followed by the next.

    Raises:
        RuntimeError: one failed.
    """
    until_ns = clock.monotonic_ns() + seconds * 10**9
    left = threading.Semaphore(0)
    count = 0
    failed: list[object] = []

    def go_on(_result: object = None, error: object = 0) -> None:
        # Called in PySyncObj's one thread, but for the first ones.
        nonlocal count
        if error:
            failed.append(error)
        count += 1
        if failed or clock.monotonic_ns() > until_ns:
            left.release()
        else:
            replicated.set(count % KEYS, VALUE, callback=go_on)

    begun_ns = clock.monotonic_ns()
    for lane in range(at_once):
        replicated.set(lane, VALUE, callback=go_on)
    for _ in range(at_once):
        if not left.acquire(timeout=seconds + READY_WITHIN_S):
            raise RuntimeError("a write was not answered")
    if failed:
        raise RuntimeError(f"a write failed: {failed[0]}")
    return count, (clock.monotonic_ns() - begun_ns) / 1e9


def main() -> None:
    """Says `leads` or `follows` once the three have a leader; then, for a line `AT_ONCE SECONDS`, what it wrote."""
    from pysyncobj import SyncObj, SyncObjConf  # noqa: PLC0415 -- for these processes alone
    from pysyncobj.batteries import ReplDict  # noqa: PLC0415 -- for these processes alone

    parser = argparse.ArgumentParser(prog="python -m bench.replicated_dict")
    parser.add_argument("addresses", nargs=3)
    parser.add_argument("--journal")
    given = parser.parse_args()
    ready = threading.Event()
    replicated = ReplDict()
    own, *others = given.addresses
    settings = SyncObjConf(onReady=ready.set, **({"journalFile": given.journal} if given.journal else {}))
    node = SyncObj(own, others, settings, consumers=[replicated])
    if not ready.wait(READY_WITHIN_S):
        sys.exit("no leader")
    print("leads" if str(node.getStatus()["leader"]) == own else "follows", flush=True)
    for line in sys.stdin:
        at_once, seconds = map(int, line.split())
        print(*write(replicated, at_once, seconds), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
