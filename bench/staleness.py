"""How often, and for how long, a write that was acknowledged by one member is not seen at another."""

import asyncio
import itertools
import statistics
from typing import Final

from bench.measured import Measured
from kvraft import clock
from kvraft.testing.cluster import Cluster
from kvraft.testing.raw_http import Connection

PAUSE_S: Final = 0.002
"""Between two tries: an idle cluster, whose members have nothing else to tell each other."""


def staleness(cluster: Cluster, seconds: int) -> list[Measured]:
    """The percentage of plain reads at a follower right after a write that miss it, and for how many ms they do.

    The write is answered by the leader; the reads take turns among the followers, on connections that stand.
    """
    leader = cluster.leader()
    lags_ms = asyncio.run(_lags_ms(leader.client_url, [member.client_url for member in cluster.followers()], seconds))
    stale_ms = [lag for lag in lags_ms if lag > 0]
    share = Measured(100 * len(stale_ms) / len(lags_ms), f"{len(lags_ms)} writes")
    sorted_ms = sorted(stale_ms) or [0.0]
    return [share, Measured(statistics.median(sorted_ms), f"of the stale ones; at most {sorted_ms[-1]:.1f}")]


async def _lags_ms(leader_url: str, follower_urls: list[str], seconds: int) -> list[float]:
    """For each write how long until a read that began then has it; 0 for those that the first read has."""
    until_ns = clock.monotonic_ns() + seconds * 10**9
    lags_ms: list[float] = []
    writer = await Connection.open(leader_url)
    readers = [await Connection.open(url) for url in follower_urls]
    for number in itertools.count():
        if clock.monotonic_ns() > until_ns:
            break
        reader = readers[number % len(readers)]
        key, value = f"/v2/keys/bench/{number % 100}", str(number)
        answer = await writer.request("PUT", key, form={"value": value})
        assert answer.status in {200, 201}, answer.body
        acknowledged_ns = clock.monotonic_ns()
        lag_ms = 0.0
        while not await _has(reader, key, value):
            lag_ms = (clock.monotonic_ns() - acknowledged_ns) / 1e6
        lags_ms.append(lag_ms)
        await asyncio.sleep(PAUSE_S)
    for connection in (writer, *readers):
        await connection.close()
    return lags_ms


async def _has(connection: Connection, key: str, value: str) -> bool:
    answer = await connection.request("GET", key)
    return answer.status == 200 and answer.json()["node"]["value"] == value
