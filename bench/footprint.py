"""What a large state costs: memory, disk, and the time of a restart."""

import subprocess
from typing import Final

from bench.fill import fill
from bench.load import anonymous_mb
from bench.measured import Measured
from bench.scale import SCALE
from bench.starts import restarted_ms
from kvraft import clock
from kvraft.testing.cluster import Cluster
from kvraft.testing.member import Member

KEYS: Final = 100_000


def footprint(cluster: Cluster, _seconds: int) -> list[Measured]:
    """Anonymous memory in MB of the largest member with 100,000 keys of 1 KiB, and a follower's restart in seconds.

    The history of events is full with them: etcd's holds 1,000, kvraft's 100,000.
    """
    started_ns = clock.monotonic_ns()
    fill(cluster.leader(), SCALE.count(KEYS), 1024)
    filled_s = (clock.monotonic_ns() - started_ns) / 1e9
    memory = max(anonymous_mb(member) for member in cluster.members)
    follower = cluster.followers()[0]
    restart_s = restarted_ms(follower) / 1000
    return [
        Measured(memory, f"filled in {filled_s:.0f} s, disk {disk_mb(follower):.0f} MB"),
        Measured(restart_s, "a follower, killed"),
    ]


def disk_mb(member: Member) -> float:
    """What its directory takes on the disk."""
    shown = subprocess.run(["du", "-sk", str(member.data_dir)], capture_output=True, text=True, check=True).stdout
    return int(shown.split()[0]) / 1024
