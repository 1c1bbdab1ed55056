"""`python -m bench [--only put_c64,get_c64] [--rounds 2] [--seconds 4]`: kvraft against etcd, with the goals.

Three members each on loopback, fresh data on a real disk for each measurement, etcd and kvraft in turn, clients on the
leader. The machine should be quiet: three members, the client and whatever else runs share its cores.
`--before CHECKOUT` has the kvraft of another checkout take its turn too: before and after a change in one run.
"""

import argparse
import functools
import math
import os
import pathlib
import shutil
import statistics
import sys
from collections.abc import Callable
from typing import Final, NamedTuple

from bench.footprint import footprint
from bench.measured import Measured
from bench.messages import messages
from bench.proxied import through_proxy
from bench.puts import idle, put
from bench.reads import get, list_all
from bench.secure import beside_guesses, logins, secured
from bench.staleness import staleness
from bench.starts import start
from kvraft.testing.cluster import Cluster, Program

ROOT: Final = pathlib.Path(__file__).parents[1]
BUILD: Final = ROOT / "build" / "bench"


class Row(NamedTuple):
    """One line of the table."""

    name: str
    unit: str
    more_is_better: bool
    goal: float
    """kvraft's figure as a multiple of etcd's in the good direction; a later version raises it."""

    def ratio(self, ours: float, theirs: float) -> float:
        """How much better ours is."""
        good, bad = (ours, theirs) if self.more_is_better else (theirs, ours)
        return good / bad if bad else math.inf


class Workload(NamedTuple):
    """What is measured in one go."""

    rows: tuple[Row, ...]
    """One for each figure that `measure` gives."""
    measure: Callable[[str, Program, int], list[Measured]]
    """From a label that is a directory's name, what is measured, and the seconds that it may take."""


def on_cluster(run: Callable[[Cluster, int], list[Measured]]) -> Callable[[str, Program, int], list[Measured]]:
    """Measured on a new cluster."""

    def measure(label: str, program: Program, seconds: int) -> list[Measured]:
        directory = BUILD / label
        shutil.rmtree(directory, ignore_errors=True)
        with Cluster(directory, program=program) as cluster:
            return run(cluster, seconds)

    return measure


def puts(connections: int, cpu_goal: float) -> Workload:
    """Writes of 256 bytes over so many connections."""
    rate = Row(f"put_c{connections}", "per s", True, 0.5)
    cpu = Row(f"put_cpu_c{connections}", "us of CPU a write, all members", False, cpu_goal)
    return Workload((rate, cpu), on_cluster(functools.partial(put, connections=connections)))


def puts_secured(name: str, *, tls: bool, auth: bool) -> Workload:
    """Writes over 64 connections whose clients speak TLS, have a password, or both."""
    rate = Row(f"put_c64_{name}", "per s", True, 0.5)
    cpu = Row(f"put_cpu_c64_{name}", "us of CPU a write, all members", False, 1.0)
    return Workload((rate, cpu), secured(BUILD, functools.partial(put, connections=64), tls=tls, auth=auth))


def gets_secured(name: str, *, tls: bool, auth: bool) -> Workload:
    """Reads as `get_c64`, in the same way."""
    measure = secured(BUILD, functools.partial(get, connections=64), tls=tls, auth=auth)
    return Workload((Row(f"get_c64_{name}", "per s", True, 1.0),), measure)


READS: Final = {
    "get_c64": functools.partial(get, connections=64),
    "quorum_get_c64": functools.partial(get, connections=64, query="?quorum=true"),
}
WORKLOADS: Final = (
    puts(1, 0.7),
    puts(64, 1.0),
    puts(256, 1.0),
    Workload((Row("idle_cpu", "us of CPU a second, all members", False, 1.0),), on_cluster(idle)),
    Workload(
        (
            Row("stale", "% of reads elsewhere right after a write", False, 1.0),
            Row("stale_for", "ms, the median of the stale ones", False, 1.0),
        ),
        on_cluster(staleness),
    ),
    Workload(
        (
            Row("message", "us a round trip; not etcd but a bare stream", False, 0.5),
            Row("message_cpu", "us of CPU a side; not etcd but a bare stream", False, 0.5),
        ),
        messages,
    ),
    *(Workload((Row(name, "per s", True, 1.0),), on_cluster(run)) for name, run in READS.items()),
    Workload((Row("list10k", "per s", True, 0.5),), on_cluster(list_all)),
    *(
        workload(name, tls=tls, auth=auth)
        for workload in (puts_secured, gets_secured)
        for name, tls, auth in (("tls", True, False), ("auth", False, True), ("both", True, True))
    ),
    Workload(
        (
            Row("first_login", "ms", False, 1.0),
            Row("wrong_logins", "refused per s", True, 1.0),
        ),
        secured(BUILD, logins, tls=False, auth=True),
    ),
    Workload(
        (
            Row("proxy_get_c64", "per s, before one etcd", True, 1.0),
            Row("proxy_get_cpu", "us of CPU a read, the proxy's", False, 1.0),
            Row("proxy_put_c64", "per s, before one etcd", True, 1.0),
            Row("proxy_put_cpu", "us of CPU a write, the proxy's", False, 1.0),
            Row("proxy_memory", "MB at most", False, 1.0),
        ),
        functools.partial(through_proxy, BUILD, connections=64),
    ),
    Workload(
        (Row("beside_guesses", "times the p99 of writes without 200 wrong passwords a second", False, 1.0),),
        secured(BUILD, beside_guesses, tls=False, auth=True),
    ),
    Workload((Row("footprint", "MB", False, 1.0),), on_cluster(footprint)),
    Workload((Row("start", "ms from exec to serving", False, 0.5),), on_cluster(start)),
)


def show(row: Row, found: dict[str, list[Measured]]) -> None:
    """Print both figures, how they compare, and whether that is enough."""
    medians = {label: statistics.median(one.value for one in measured) for label, measured in found.items()}
    ratio = row.ratio(medians["kvraft"], medians["etcd"])
    below = "  below its goal" if ratio < row.goal else ""
    etcd, kvraft = (f"{medians[label]:>10.4g}" for label in ("etcd", "kvraft"))
    print(f"{row.name:<16}{etcd}{kvraft}{ratio:>8.2f}{row.goal:>7.2f}{below}  ({row.unit})")
    if "before" in medians:
        print(f"    before: {medians['before']:.4g}; now {row.ratio(medians['kvraft'], medians['before']):.2f} of that")
    for label, measured in found.items():
        print(f"    {label}: {measured[-1].detail}", flush=True)


def arguments() -> argparse.Namespace:
    """The command line."""
    names = [row.name for workload in WORKLOADS for row in workload.rows]
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", default=",".join(names), help="names of rows, by commas; a row brings its workload")
    parser.add_argument("--rounds", type=int, default=1, help="the median of so many is shown")
    parser.add_argument("--seconds", type=int, default=4, help="for each measurement")
    parser.add_argument("--before", type=pathlib.Path, metavar="CHECKOUT", help="measure the kvraft in there too")
    given = parser.parse_args()
    given.only = given.only.split(",")
    if unknown := [name for name in given.only if name not in names]:
        parser.error(f"no such row: {', '.join(unknown)}; there are {', '.join(names)}")
    if given.before and not (given.before / "kvraft" / "__main__.py").exists():
        parser.error(f"{given.before} is no checkout of kvraft")
    return given


def main() -> int:
    """Print the table. Always 0: a figure below its goal is news, not an error."""
    given = arguments()
    # Started as an installed kvraft is, whose bytecode is there: pip makes it.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(BUILD / "bytecode")
    programs = {"etcd": Program("etcd"), "kvraft": Program()}
    if given.before:
        # `python -m` looks in the working directory first.
        programs["before"] = Program(wrapper=("env", "-C", str(given.before.resolve())))
    print(f"{'row':<16}{'etcd':>10}{'kvraft':>10}{'ratio':>8}{'goal':>7}")
    for workload in WORKLOADS:
        if not any(row.name in given.only for row in workload.rows):
            continue
        found: dict[str, list[list[Measured]]] = {label: [] for label in programs}
        for _round in range(given.rounds):
            for label, program in programs.items():
                found[label].append(workload.measure(label, program, given.seconds))
        for number, row in enumerate(workload.rows):
            show(row, {label: [figures[number] for figures in rounds] for label, rounds in found.items()})
    shutil.rmtree(BUILD, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
