"""From exec to serving: a member of a running cluster is started again, and asked until it answers."""

import asyncio
import statistics
from typing import Final

from bench.measured import Measured
from kvraft import clock
from kvraft.testing.cluster import Cluster
from kvraft.testing.raw_http import Connection

STARTS: Final = 7
PAUSE_S: Final = 0.005
"""Between two askings: what is measured is the member's start, not the crowd at its door."""
WITHIN_S: Final = 30


def start(cluster: Cluster, _seconds: int) -> list[Measured]:
    """Milliseconds until a killed follower with a small state answers a linearizable read; the median of some."""
    leader = cluster.leader()
    for number in range(100):
        leader.http("PUT", f"/v2/keys/bench/{number}", form={"value": "v" * 256})
    follower = cluster.followers()[0]
    found_ms = []
    for _ in range(STARTS):
        follower.kill()
        started_ns = clock.monotonic_ns()
        follower.start()
        asyncio.run(served(follower.client_url))
        found_ms.append((clock.monotonic_ns() - started_ns) / 1e6)
    return [Measured(statistics.median(found_ms), f"{min(found_ms):.0f} to {max(found_ms):.0f} of {STARTS}")]


async def served(url: str) -> None:
    """Ask until a linearizable read is answered."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            try:
                async with await Connection.open(url) as connection:
                    answer = await connection.request("GET", "/v2/keys/bench/1?quorum=true")
            except (OSError, asyncio.IncompleteReadError):
                await asyncio.sleep(PAUSE_S)
                continue
            if answer.status == 200:
                return
            await asyncio.sleep(PAUSE_S)
