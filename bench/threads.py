"""`python -m bench.threads [--seconds 10]`: what each thread of each member takes of its CPU, under several loads.

What more cores bring follows from it: threads run beside each other, and what is on the loop's own thread does not.
Shares, not rates: they are nearly the same on a busy machine.
"""

import argparse
import pathlib
import shutil
from collections import Counter
from collections.abc import Callable
from typing import Final

from bench.fill import fill
from bench.load import KEYS, TICK_US, load, settle
from bench.measured import Measured
from bench.rows import BUILD
from bench.secure import secured
from kvraft.testing.cluster import Cluster, Program
from kvraft.testing.member import Member

NAMED: Final = pathlib.Path(__file__).parent / "named"
LEAST: Final = 0.005
"""Of a member's CPU; less is not shown."""


def used_us(member: Member) -> Counter[str]:
    """User and system time by thread; the loop's is the one of the process, those without a name are libraries'."""
    used: Counter[str] = Counter()
    for task in pathlib.Path(f"/proc/{member.pid}/task").iterdir():
        try:
            name = (task / "comm").read_text().strip()
            fields = (task / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended
        used["loop" if task.name == str(member.pid) else name] += round((int(fields[11]) + int(fields[12])) * TICK_US)
    return used


def show(what: str, cluster: Cluster, run: Callable[[Member], int]) -> None:
    """One load: for the leader and a follower, microseconds of each thread for an operation, and their shares."""
    leader, follower = cluster.leader(), cluster.followers()[0]
    settle(cluster.members)
    before = [used_us(member) for member in (leader, follower)]
    count = run(leader)
    for name, member, earlier in zip(("leader", "follower"), (leader, follower), before, strict=True):
        spent = used_us(member)
        spent.subtract(earlier)
        total = sum(spent.values()) or 1
        shares = ", ".join(
            f"{thread} {used / count:.1f} us ({100 * used / total:.0f} %)"
            for thread, used in spent.most_common()
            if used > LEAST * total
        )
        print(f"{what:<12}{name:<9}{total / count:>8.1f} us: {shares}", flush=True)


def main() -> None:
    """Writes, reads and listings, then writes and reads over TLS."""
    parser = argparse.ArgumentParser(prog="python -m bench.threads", description=__doc__)
    parser.add_argument("--seconds", type=int, default=10, help="for each load")
    seconds = parser.parse_args().seconds
    program = Program(environment={"PYTHONPATH": str(NAMED)})
    target = "/v2/keys/bench?recursive=true&sorted=true"

    def plain(cluster: Cluster) -> None:
        fill(cluster.leader(), KEYS, 256)
        show("PUT 256", cluster, lambda leader: load(leader, "put.lua", 256, seconds).answered)
        show("PUT 64", cluster, lambda leader: load(leader, "put.lua", 64, seconds).answered)
        show("PUT 1", cluster, lambda leader: load(leader, "put.lua", 1, seconds).answered)
        show("GET 64", cluster, lambda leader: load(leader, "get.lua", 64, seconds).answered)
        show("listing", cluster, lambda leader: load(leader, "list.lua", 1, seconds, target).answered)

    def encrypted(cluster: Cluster, seconds: int) -> list[Measured]:
        fill(cluster.leader(), KEYS, 256)
        show("PUT 64, TLS", cluster, lambda leader: load(leader, "put.lua", 64, seconds).answered)
        show("GET 64, TLS", cluster, lambda leader: load(leader, "get.lua", 64, seconds).answered)
        return []

    directory = BUILD / "threads"
    shutil.rmtree(directory, ignore_errors=True)
    with Cluster(directory, program=program) as cluster:
        plain(cluster)
    secured(BUILD, encrypted, tls=True, auth=False)("threads", program, seconds)
    shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
