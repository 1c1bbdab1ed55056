"""Writes of 256 bytes by wrk: how many a second, and what CPU each costs, all members together."""

import asyncio
from typing import Final

from bench.fill import fill
from bench.load import cpu_us, loaded, settle
from bench.measured import Measured
from bench.scale import SCALE
from kvraft import clock
from kvraft.testing.cluster import Cluster

TTL_KEYS: Final = 10_000
TTL_S: Final = 30


def put(cluster: Cluster, seconds: int, connections: int) -> list[Measured]:
    """Writes a second to the leader, the CPU per write in microseconds, and the p99 in milliseconds."""
    leader = cluster.leader()
    members = [leader, *cluster.followers()]
    (found,), each_us = loaded(members, [(leader, connections)], "put.lua", seconds)
    shown = ", ".join(f"{used:.0f}" for used in each_us[1:])
    cpu = Measured(sum(each_us), f"leader {each_us[0]:.0f}, followers {shown}")
    return [found.rate(each_us), cpu, found.p99()]


def put_to_follower(cluster: Cluster, seconds: int, connections: int) -> list[Measured]:
    """Writes a second through a member that does not lead."""
    members = [cluster.leader(), *cluster.followers()]
    (found,), each_us = loaded(members, [(members[1], connections)], "put.lua", seconds)
    return [found.rate(each_us)]


def refresh(cluster: Cluster, seconds: int, connections: int) -> list[Measured]:
    """Refreshes a second of keys with a TTL, one after another and round again, so that none expires."""
    leader = cluster.leader()
    fill(leader, SCALE.count(TTL_KEYS), 256, ttl_s=TTL_S)
    members = [leader, *cluster.followers()]
    (found,), each_us = loaded(members, [(leader, connections)], "refresh.lua", seconds, str(TTL_S))
    return [found.rate(each_us)]


def idle(cluster: Cluster, seconds: int) -> list[Measured]:
    """The CPU a second, in microseconds, of members that nobody asks for anything."""
    members = [cluster.leader(), *cluster.followers()]
    settle(members)
    before_us = [cpu_us(member) for member in members]
    begun_ns = clock.monotonic_ns()
    asyncio.run(asyncio.sleep(seconds))
    passed_s = (clock.monotonic_ns() - begun_ns) / 1e9
    each_us = [(cpu_us(member) - used) / passed_s for member, used in zip(members, before_us, strict=True)]
    shown = ", ".join(f"{used:.0f}" for used in each_us[1:])
    return [Measured(sum(each_us), f"leader {each_us[0]:.0f}, followers {shown}")]
