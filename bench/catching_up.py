"""Writes while a follower that was away for too long is sent the state, and the log is cut off behind it."""

import dataclasses
import pathlib
import shutil
from typing import Final

from bench.fill import fill
from bench.load import loaded, loads, settle
from bench.measured import Measured
from bench.scale import SCALE
from kvraft.testing.cluster import Cluster, Program

KEYS: Final = 30_000
KEYS_LEAST: Final = 7_000
"""More than the 5,000 entries that etcd keeps behind a snapshot."""
SNAPSHOT_COUNT: Final = "1000"
COMPACTED: Final = {"kvraft": "log compacted", "etcd": "compacted raft log"}
SENT: Final = {"kvraft": "snapshot sent", "etcd": "database snapshot .* sent out successfully"}


def beside_snapshot(root: pathlib.Path, label: str, program: Program, seconds: int) -> list[Measured]:
    """How many times longer the p99 of writes over 64 connections is than in a quiet cluster of the same state.

    In the quiet one nobody was away, and nothing is compacted by these writes.
    """
    quiet_ms = _p99_ms(root / label / "quiet", program, seconds, away=False)
    flags = {**program.flags, "snapshot-count": SNAPSHOT_COUNT}
    beside_ms = _p99_ms(root / label / "beside", dataclasses.replace(program, flags=flags), seconds, away=True)
    return [Measured(beside_ms / quiet_ms, f"p99 {quiet_ms:.3g} ms, beside a snapshot {beside_ms:.3g} ms")]


def _p99_ms(directory: pathlib.Path, program: Program, seconds: int, *, away: bool) -> float:
    """Of writes to the leader, in which a follower comes back if it was `away`.

    Raises:
        ClusterError: it was sent no snapshot.
    """
    shutil.rmtree(directory, ignore_errors=True)
    with Cluster(directory, program=program) as cluster:
        leader = cluster.leader()
        follower = cluster.followers()[0]
        if away:
            follower.kill()
        fill(leader, max(SCALE.count(KEYS), KEYS_LEAST), 1024)
        if not away:
            (found,), _ = loaded(cluster.members, [(leader, 64)], "put.lua", seconds)
            return found.p99_ms
        leader.wait_for_log(COMPACTED[program.kind])  # or what the follower lacks may still come from the log
        settle(cluster.running)
        follower.start()
        (found,) = loads([(leader, 64)], "put.lua", seconds)
        leader.wait_for_log(SENT[program.kind])
        follower.wait_ready()
        return found.p99_ms
