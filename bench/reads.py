"""Reads of single keys and of whole directories."""

import pathlib
import subprocess
import sys
from typing import Final

from bench.measured import Measured
from bench.puts import wrk
from kvraft import clock
from kvraft.testing.cluster import Cluster
from kvraft.testing.member import Member

FILL: Final = pathlib.Path(__file__).parent / "fill.py"
KEYS: Final = 10_000
FILLERS: Final = 64


def get(cluster: Cluster, seconds: int, connections: int, query: str = "") -> list[Measured]:
    """Reads of single keys of 256 bytes at the leader, a second."""
    leader = cluster.leader()
    fill(leader, KEYS, 256)
    return [wrk(leader, "get.lua", connections, seconds, query)[1]]


def list_all(cluster: Cluster, seconds: int) -> list[Measured]:
    """Recursive sorted listings of 10,000 keys of 1 KiB, a second."""
    leader = cluster.leader()
    fill(leader, KEYS, 1024)
    started_ns, count, size = clock.monotonic_ns(), 0, 0
    while count < 3 or clock.monotonic_ns() - started_ns < seconds * 1e9:
        answer = leader.http("GET", "/v2/keys/bench?recursive=true&sorted=true")
        assert len(answer.json()["node"]["nodes"]) == KEYS
        count, size = count + 1, len(answer.body)
    return [Measured(count / ((clock.monotonic_ns() - started_ns) / 1e9), f"{size / 1e6:.1f} MB each")]


def fill(member: Member, count: int, size_bytes: int) -> None:
    """Write keys /bench/1 and on.

    Raises:
        SystemExit: a write failed.
    """
    command = [sys.executable, str(FILL), member.client_url, str(count), str(size_bytes), str(FILLERS)]
    if member.program.client_tls is not None:
        command.append(str(member.data_dir.parent / "ca" / "ca.pem"))
    if subprocess.run(command, check=False).returncode:
        sys.exit(f"bench: {member} could not be filled")
