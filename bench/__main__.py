"""`python -m bench [--only put_c64,get_c64] [--rounds 2] [--seconds 4]`: kvraft against etcd, with the goals.

Three members each on loopback, fresh data on a real disk for each measurement, etcd and kvraft in turn, clients on the
leader. The machine should be quiet: three members, the client and whatever else runs share its cores.
"""

import argparse
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from typing import Final, NamedTuple

from kvraft import clock
from kvraft.testing.cluster import Cluster, Kind
from kvraft.testing.member import Member

HERE: Final = pathlib.Path(__file__).parent
ROOT: Final = HERE.parent
KINDS: Final[tuple[Kind, ...]] = ("etcd", "kvraft")
KEYS: Final = 10_000
FOOTPRINT_KEYS: Final = 100_000
FILLERS: Final = 64


class Measured(NamedTuple):
    """One measurement."""

    value: float
    detail: str


class Workload(NamedTuple):
    """What is measured, and how far from etcd kvraft may be."""

    unit: str
    more_is_better: bool
    goal: float
    """kvraft's figure as a multiple of etcd's in the good direction; a later version raises it."""
    run: Callable[[Cluster, int], Measured]


def wrk(member: Member, script: str, connections: int, seconds: int, *arguments: str) -> Measured:
    """Requests a second that wrk gets answered.

    Raises:
        SystemExit: an answer was no success, so the figure would mean nothing.
    """
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(HERE / script)]
    shown = subprocess.run(
        [*command, member.client_url, *(["--", *arguments] if arguments else [])],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    if trouble := re.search(r"Non-2xx or 3xx responses: \d+|Socket errors: .*", shown):
        sys.exit(f"bench: {member}: {trouble[0]}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", shown)
    shares = dict(re.findall(r"(50|99)%\s+(\S+)", shown))
    assert rate is not None, shown
    return Measured(float(rate[1]), f"p50 {shares['50']}, p99 {shares['99']}")


def put(connections: int) -> Callable[[Cluster, int], Measured]:
    """Writes of 256 bytes."""
    return lambda cluster, seconds: wrk(cluster.leader(), "put.lua", connections, seconds)


def get(connections: int, query: str = "") -> Callable[[Cluster, int], Measured]:
    """Reads of single keys."""

    def run(cluster: Cluster, seconds: int) -> Measured:
        leader = cluster.leader()
        fill(leader, KEYS, 256)
        return wrk(leader, "get.lua", connections, seconds, query)

    return run


def fill(member: Member, count: int, size_bytes: int) -> None:
    """Write keys /bench/1 and on.

    Raises:
        SystemExit: a write failed.
    """
    script = ROOT / "bench" / "fill.py"
    command = [sys.executable, str(script), member.client_url, str(count), str(size_bytes), str(FILLERS)]
    if subprocess.run(command, check=False).returncode:
        sys.exit(f"bench: {member} could not be filled")


def list_all(cluster: Cluster, seconds: int) -> Measured:
    """Recursive sorted listings of 10,000 keys of 1 KiB."""
    leader = cluster.leader()
    fill(leader, KEYS, 1024)
    started_ns, count, size = clock.monotonic_ns(), 0, 0
    while count < 3 or clock.monotonic_ns() - started_ns < seconds * 1e9:
        answer = leader.http("GET", "/v2/keys/bench?recursive=true&sorted=true")
        assert len(answer.json()["node"]["nodes"]) == KEYS
        count, size = count + 1, len(answer.body)
    return Measured(count / ((clock.monotonic_ns() - started_ns) / 1e9), f"{size / 1e6:.1f} MB each")


def footprint(cluster: Cluster, _seconds: int) -> Measured:
    """Anonymous memory of the largest member with 100,000 keys of 1 KiB, and the restart of a follower."""
    started_ns = clock.monotonic_ns()
    fill(cluster.leader(), FOOTPRINT_KEYS, 1024)
    filled_s = (clock.monotonic_ns() - started_ns) / 1e9
    memory = max(anonymous_mb(member) for member in cluster.members)
    follower = cluster.followers()[0]
    follower.kill()
    started_ns = clock.monotonic_ns()
    follower.start()
    follower.wait_ready()
    restart_s = (clock.monotonic_ns() - started_ns) / 1e9
    disk = subprocess.run(["du", "-sm", str(follower.data_dir)], capture_output=True, text=True, check=True).stdout
    return Measured(memory, f"filled in {filled_s:.0f} s, restart {restart_s:.1f} s, disk {disk.split()[0]} MB")


def anonymous_mb(member: Member) -> float:
    """What a member holds that no file backs."""
    status = pathlib.Path(f"/proc/{member.pid}/status").read_text()
    found = re.search(r"RssAnon:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024


WORKLOADS: Final = {
    "put_c1": Workload("per s", True, 0.5, put(1)),
    "put_c64": Workload("per s", True, 0.5, put(64)),
    "put_c256": Workload("per s", True, 0.5, put(256)),
    "get_c64": Workload("per s", True, 1.0, get(64)),
    "quorum_get_c64": Workload("per s", True, 1.0, get(64, "?quorum=true")),
    "list10k": Workload("per s", True, 0.5, list_all),
    "footprint": Workload("MB", False, 1.0, footprint),
}


def measure(workload: Workload, kind: Kind, seconds: int) -> Measured:
    """One measurement on a new cluster."""
    directory = ROOT / "build" / "bench" / kind
    shutil.rmtree(directory, ignore_errors=True)
    with Cluster(directory, kind=kind) as cluster:
        return workload.run(cluster, seconds)


def main() -> int:
    """Print a line a workload. Always 0: a figure below its goal is news, not an error."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", default=",".join(WORKLOADS), help="names of workloads, by commas")
    parser.add_argument("--rounds", type=int, default=1, help="the median of so many is shown")
    parser.add_argument("--seconds", type=int, default=4, help="for each measurement")
    given = parser.parse_args()
    print(f"{'workload':<16}{'etcd':>10}{'kvraft':>10}{'ratio':>8}{'goal':>7}")
    for name in given.only.split(","):
        workload = WORKLOADS[name]
        found: dict[Kind, list[Measured]] = {kind: [] for kind in KINDS}
        for _round in range(given.rounds):
            for kind in KINDS:
                found[kind].append(measure(workload, kind, given.seconds))
        etcd, kvraft = (statistics.median(one.value for one in found[kind]) for kind in KINDS)
        ratio = kvraft / etcd if workload.more_is_better else etcd / kvraft
        below = "  below its goal" if ratio < workload.goal else ""
        print(f"{name:<16}{etcd:>10.0f}{kvraft:>10.0f}{ratio:>8.2f}{workload.goal:>7.2f}{below}  ({workload.unit})")
        for kind in KINDS:
            print(f"    {kind}: {found[kind][-1].detail}", flush=True)
    shutil.rmtree(ROOT / "build" / "bench", ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
