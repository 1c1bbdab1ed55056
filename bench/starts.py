"""From exec to serving: a member of a running cluster is started again, and asked until it answers."""

import asyncio
import statistics
from typing import Final

from bench.measured import Measured
from bench.scale import SCALE
from kvraft import clock
from kvraft.testing.cluster import Cluster
from kvraft.testing.member import Member
from kvraft.testing.raw_http import Connection

STARTS: Final = 7
PAUSE_S: Final = 0.005
"""Between two askings: what is measured is the member's start, not the crowd at its door."""
WITHIN_S: Final = 120


def start(cluster: Cluster, _seconds: int) -> list[Measured]:
    """Milliseconds until a killed follower with an empty state answers a linearizable read; the median of some."""
    follower = cluster.followers()[0]
    found_ms = [restarted_ms(follower) for _ in range(SCALE.count(STARTS))]
    return [Measured(statistics.median(found_ms), f"{min(found_ms):.0f} to {max(found_ms):.0f} of {len(found_ms)}")]


def restarted_ms(member: Member) -> float:
    """Kill -9, and the time from the next exec until it serves."""
    member.kill()
    started_ns = clock.monotonic_ns()
    member.start()
    asyncio.run(served(member.client_url))
    return (clock.monotonic_ns() - started_ns) / 1e6


async def served(url: str) -> None:
    """Ask until a linearizable read of the root, not of what is in it, is answered."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            try:
                async with await Connection.open(url) as connection:
                    answer = await connection.request("GET", "/v2/keys/?quorum=true")
            except (OSError, asyncio.IncompleteReadError):
                await asyncio.sleep(PAUSE_S)
                continue
            if answer.status == 200:
                return
            await asyncio.sleep(PAUSE_S)
