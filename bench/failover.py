"""The death of a leader, as writers at the other members feel it."""

import asyncio
import itertools
import statistics
from typing import Final

from bench.measured import Measured
from bench.scale import SCALE
from kvraft import clock
from kvraft.testing.cluster import Cluster
from kvraft.testing.member import Member
from kvraft.testing.raw_http import Connection

DEATHS: Final = 5
WRITERS: Final = 2
"""At each member that lives on."""
TRY_WITHIN_S: Final = 0.15
"""A write that waits for the dead one is given up and tried anew."""
BEFORE_S: Final = 1.0
AFTER_S: Final = 0.5
WITHIN_S: Final = 20


def failover(cluster: Cluster, _seconds: int) -> list[Measured]:
    """The longest time in seconds without an acknowledged write around a kill -9 of the leader; the median of some."""
    found_s = []
    for _ in range(SCALE.count(DEATHS)):
        leader, followers = cluster.leader(), cluster.followers()
        found_s.append(asyncio.run(_gap_s(leader, followers)))
        leader.start()
        leader.wait_ready()
    return [Measured(statistics.median(found_s), f"{min(found_s):.3f} to {max(found_s):.3f} s of {len(found_s)}")]


async def _gap_s(leader: Member, followers: list[Member]) -> float:
    """Of one death."""
    acknowledged_ns: list[int] = []
    killed_ns = 0
    over, alive = asyncio.Event(), asyncio.Event()

    async def write(member: Member, lane: int) -> None:
        while not over.is_set():
            try:
                async with await Connection.open(member.client_url) as connection:
                    while not over.is_set():
                        answer = await connection.request(
                            "PUT", f"/v2/keys/bench/{lane}", form={"value": "v"}, timeout_s=TRY_WITHIN_S
                        )
                        if answer.status in {200, 201}:
                            acknowledged_ns.append(clock.monotonic_ns())
                            # Some were acknowledged before its end and are told of after it.
                            if killed_ns and acknowledged_ns[-1] > killed_ns + AFTER_S * 1e9:
                                alive.set()
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                continue

    async with asyncio.TaskGroup() as writers:
        for lane in range(WRITERS * len(followers)):
            writers.create_task(write(followers[lane % len(followers)], lane))
        try:
            await asyncio.sleep(BEFORE_S)
            killed_ns = clock.monotonic_ns()
            await asyncio.to_thread(leader.kill)
            async with asyncio.timeout(WITHIN_S):
                await alive.wait()
        finally:
            over.set()
    spans = itertools.pairwise(acknowledged_ns)
    return max(later - earlier for earlier, later in spans if later > killed_ns) / 1e9
