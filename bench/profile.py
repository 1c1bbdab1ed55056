"""`python -m bench.profile ROW... [--seconds 6]`: where the CPU of all members goes under the load of a row, by perf.

For both programs: shares by what the code belongs to, then the functions that take most.
perf sees C alone, so a compiled kvraft shows its own functions and a pure one the interpreter's loop.
What comes before the load, filling in keys, is in it; shares are nearly the same on a busy machine.
"""

import argparse
import pathlib
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Final

from bench.rows import BUILD, OnCluster
from bench.table import WORKLOADS
from kvraft.testing.cluster import Cluster, Program

PER_S: Final = 997
"""Samples a second on each core; a prime, so that nothing periodic is met again and again."""
LOOK_S: Final = 0.1
FUNCTIONS: Final = 14
LEAST: Final = 0.01
"""Of all members' CPU; less is not shown."""
_LINE: Final = re.compile(r"^ *([\d.]+)% *; *(\d+):[^;\n]*;(?:\[[.k]\] )?([^;\n]*)", re.MULTILINE)
_OWNERS: Final = (
    (r"kernel|vmlinux|\[guest", "kernel"),
    (r"libpython|/python3|^python3", "interpreter"),
    (r"__mypyc", "kvraft, compiled"),
    (r"uvloop|/loop\.cpython|^loop\.cpython", "uvloop"),
    (r"lmdb|cpython\.cpython", "LMDB"),
    (r"upb|_message", "protobuf"),
    (r"^libc\.|^libc-|ld-linux|\[vdso\]", "C library"),
    (r"ssl|crypto", "TLS"),
)
"""By the name of what is mapped; the rest keeps its own."""


@contextmanager
def followed(cluster: Cluster) -> Iterator[set[int]]:
    """The processes that the members of a cluster have been, while others start and kill them."""
    found: set[int] = set()
    over = Event()

    def look() -> None:
        while not over.wait(LOOK_S):
            found.update(member.pid for member in cluster.running)

    looking = Thread(target=look)
    looking.start()
    try:
        yield found
    finally:
        over.set()
        looking.join()


def sampled(name: str, program: Program, seconds: int) -> None:
    """Run the load of a row on three new members and print where their CPU went.

    Raises:
        SystemExit: no such row, one that brings its own members, or perf does not run.
    """
    workload = next((each for each in WORKLOADS if any(row.name == name for row in each.rows)), None)
    if workload is None or not isinstance(workload.measure, OnCluster):
        sys.exit(f"bench.profile: {name}: no row that is measured on three plain members; see bench/table.py")
    directory = BUILD / "profile"
    shutil.rmtree(directory, ignore_errors=True)
    samples = directory / "perf.data"
    with Cluster(directory, program=program) as cluster, followed(cluster) as pids:
        command = ["perf", "record", "-q", "-a", "-F", str(PER_S), "-o", str(samples)]
        with subprocess.Popen(command, stderr=subprocess.PIPE) as perf:
            try:
                workload.measure.run(cluster, seconds)
            finally:
                perf.send_signal(signal.SIGINT)
                said = perf.communicate()[1].decode()
        if not samples.exists():
            sys.exit(f"bench.profile: perf: {said}")
    mapped = _shares(samples, pids, "dso")
    owners: dict[str, float] = {}
    for what, share in mapped.items():
        owners[_owner(what)] = owners.get(_owner(what), 0.0) + share
    print(f"{name}, {program.kind}: " + _shown(owners, len(owners)))
    print("    " + _shown(_shares(samples, pids, "symbol"), FUNCTIONS), flush=True)
    shutil.rmtree(directory, ignore_errors=True)


def _shares(samples: pathlib.Path, pids: set[int], by: str) -> dict[str, float]:
    """Shares of what these processes took, by what perf tells apart."""
    # Its own choice of processes loses what others have as well: it joins lines first.
    command = ["perf", "report", "-i", str(samples), "--stdio", "-g", "none", "--sort", f"pid,{by}", "-t", ";"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, float] = {}
    for share, pid, what in _LINE.findall(shown):
        if int(pid) in pids:
            found[what.strip()] = found.get(what.strip(), 0.0) + float(share)
    total = sum(found.values()) or 1.0
    return {what: share / total for what, share in found.items()}


def _owner(mapped: str) -> str:
    return next((owner for pattern, owner in _OWNERS if re.search(pattern, mapped)), mapped)


def _shown(shares: dict[str, float], most: int) -> str:
    largest = sorted(shares.items(), key=lambda each: -each[1])[:most]
    return ", ".join(f"{what} {100 * share:.0f} %" for what, share in largest if share >= LEAST)


def main() -> None:
    """Etcd and kvraft in turn."""
    parser = argparse.ArgumentParser(prog="python -m bench.profile", description=__doc__)
    parser.add_argument("rows", nargs="+", metavar="ROW", help="names of rows, as `python -m bench` prints them")
    parser.add_argument("--seconds", type=int, default=6, help="for each load")
    given = parser.parse_args()
    for name in given.rows:
        for program in (Program("etcd"), Program()):
            sampled(name, program, given.seconds)


if __name__ == "__main__":
    main()
