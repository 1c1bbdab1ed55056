"""Writes of 256 bytes by wrk: how many a second, and what CPU each costs, all members together."""

import asyncio
import os
import pathlib
import re
import subprocess
import sys
from typing import Final

from bench.measured import Measured
from kvraft import clock
from kvraft.testing.cluster import Cluster
from kvraft.testing.member import Member

HERE: Final = pathlib.Path(__file__).parent
LOOK_S: Final = 0.5
SETTLED_SHARE: Final = 0.1
"""Of a core, all members together; heartbeats and chores of three take less."""
SETTLED_LOOKS: Final = 3
"""So many in a row: on a busy machine, what is loaded late gets no more than that at times."""
SETTLED_WITHIN_LOOKS: Final = 40
HASHED_WITHIN_S: Final = 30
"""For an answer where each request of 64 connections costs a hash of 60 ms and more; wrk itself gives up after 2 s."""
TICK_US: Final = 1e6 / os.sysconf("SC_CLK_TCK")


def wrk(member: Member, script: str, connections: int, seconds: int, *arguments: str) -> tuple[int, Measured]:
    """How many requests wrk got answered, and as a rate.

    Raises:
        SystemExit: an answer was no success, so the figure would mean nothing.
    """
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(HERE / script)]
    if member.program.client_headers:
        command.append(f"--timeout={HASHED_WITHIN_S}s")
    command += [word for name, value in member.program.client_headers for word in ("-H", f"{name}: {value}")]
    shown = subprocess.run(
        [*command, member.client_url, *(["--", *arguments] if arguments else [])],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    if trouble := re.search(r"Non-2xx or 3xx responses: \d+|Socket errors: .*", shown):
        sys.exit(f"bench: {member}: {trouble[0]}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", shown)
    count = re.search(r"(\d+) requests in", shown)
    shares = dict(re.findall(r"(50|99)%\s+(\S+)", shown))
    assert rate is not None, shown
    assert count is not None, shown
    if count[1] == "0":
        sys.exit(
            f"bench: {member} answered nothing in {seconds} s: where each request costs a hash, use more --seconds"
        )
    return int(count[1]), Measured(float(rate[1]), f"p50 {shares['50']}, p99 {shares['99']}")


def put(cluster: Cluster, seconds: int, connections: int) -> list[Measured]:
    """Writes a second to the leader, and the CPU per write in microseconds, the leader's first in the detail."""
    leader = cluster.leader()
    members = [leader, *cluster.followers()]
    asyncio.run(_settled(members))
    before_us = [cpu_us(member) for member in members]
    count, rate = wrk(leader, "put.lua", connections, seconds)
    each_us = [(cpu_us(member) - used) / count for member, used in zip(members, before_us, strict=True)]
    shown = ", ".join(f"{used:.0f}" for used in each_us[1:])
    return [rate, Measured(sum(each_us), f"leader {each_us[0]:.0f}, followers {shown}")]


def idle(cluster: Cluster, seconds: int) -> list[Measured]:
    """The CPU a second, in microseconds, of members that nobody asks for anything."""
    members = [cluster.leader(), *cluster.followers()]
    asyncio.run(_settled(members))
    before_us = [cpu_us(member) for member in members]
    begun_ns = clock.monotonic_ns()
    asyncio.run(asyncio.sleep(seconds))
    passed_s = (clock.monotonic_ns() - begun_ns) / 1e9
    each_us = [(cpu_us(member) - used) / passed_s for member, used in zip(members, before_us, strict=True)]
    shown = ", ".join(f"{used:.0f}" for used in each_us[1:])
    return [Measured(sum(each_us), f"leader {each_us[0]:.0f}, followers {shown}")]


async def _settled(members: list[Member]) -> None:
    """Wait until what members do after they have begun to serve is done: they load what a start did not need."""
    used_us = sum(map(cpu_us, members))
    quiet = 0
    for _ in range(SETTLED_WITHIN_LOOKS):
        await asyncio.sleep(LOOK_S)
        before_us, used_us = used_us, sum(map(cpu_us, members))
        quiet = quiet + 1 if used_us - before_us < SETTLED_SHARE * LOOK_S * 1e6 else 0
        if quiet == SETTLED_LOOKS:
            return


def cpu_us(member: Member) -> float:
    """User and system time that a member has used since its start, all its threads together (proc(5), stat 14, 15)."""
    fields = pathlib.Path(f"/proc/{member.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_US
