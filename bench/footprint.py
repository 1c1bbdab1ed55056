"""What a large state costs: memory, disk, and the time of a restart."""

import pathlib
import re
import subprocess
from typing import Final

from bench.measured import Measured
from bench.reads import fill
from kvraft import clock
from kvraft.testing.cluster import Cluster
from kvraft.testing.member import Member

KEYS: Final = 100_000


def footprint(cluster: Cluster, _seconds: int) -> list[Measured]:
    """Anonymous memory of the largest member with 100,000 keys of 1 KiB, and the restart of a follower."""
    started_ns = clock.monotonic_ns()
    fill(cluster.leader(), KEYS, 1024)
    filled_s = (clock.monotonic_ns() - started_ns) / 1e9
    memory = max(anonymous_mb(member) for member in cluster.members)
    follower = cluster.followers()[0]
    follower.kill()
    started_ns = clock.monotonic_ns()
    follower.start()
    follower.wait_ready()
    restart_s = (clock.monotonic_ns() - started_ns) / 1e9
    disk = subprocess.run(["du", "-sm", str(follower.data_dir)], capture_output=True, text=True, check=True).stdout
    return [Measured(memory, f"filled in {filled_s:.0f} s, restart {restart_s:.1f} s, disk {disk.split()[0]} MB")]


def anonymous_mb(member: Member) -> float:
    """What a member holds that no file backs."""
    status = pathlib.Path(f"/proc/{member.pid}/status").read_text()
    found = re.search(r"RssAnon:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024
