"""How long nobody's write is acknowledged after kill -9 of the leader: kvraft beside etcd in one run.

    python -m tests.jepsen_like.failover [--kills 20] [--load light|idle|busy] [--kind kvraft]
                                         [--election-timeout 1000] [--heartbeat-interval 100]

The two clusters take turns, so that both see the same machine. Around each kill four writers, two on each survivor,
write with a short timeout: one writer with a long timeout would measure its own timeout. The figure of a kill is the
longest time between two acknowledgements, to whichever writer, of which the later came after the kill. With an idle
load nobody writes before the kill, which is the beginning then; with a busy one 64 more write without pause.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import itertools
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Final, final

from kvraft.testing.cluster import Cluster, Kind, Member
from kvraft.testing.raw_http import Connection
from tests import tried

WRITERS_PER_SURVIVOR: Final = 2
TIMEOUT_S: Final = 0.2
PAUSE_S: Final = 0.005
"""Between two writes of a writer, and after a refused connection: the machine is for the election, not for the load."""
BEFORE_S: Final = 0.5
AFTER_S: Final = 1.0
"""How long acknowledgements must go on before and after."""
RECOVERS_WITHIN_S: Final = 30.0
MEDIAN_ELECTION_TIMEOUTS: Final = 1.3
MAXIMUM_ELECTION_TIMEOUTS: Final = 0.5
"""Survivors notice the death and agree within moments: one who waits for a timeout got into another's way."""
KINDS: Final[tuple[Kind, ...]] = ("etcd", "kvraft")
LOADS: Final = ("light", "idle", "busy")
BUSY_WRITERS_PER_SURVIVOR: Final = 32


@final
@dataclasses.dataclass(slots=True)
class Acknowledgements:
    """When writes were acknowledged, by the monotonic clock, in seconds."""

    times: list[float] = dataclasses.field(default_factory=list)
    more: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)

    def note(self) -> None:
        """One more, now."""
        self.times.append(time.monotonic())
        self.more.set()

    async def after(self, moment: float) -> float:
        """The time of the first one after a moment; waits for it."""
        while not self.times or self.times[-1] <= moment:
            self.more.clear()
            await self.more.wait()
        return next(at for at in self.times if at > moment)


async def write(
    member: Member, key: str, acknowledgements: Acknowledgements, stop: asyncio.Event, pause_s: float = PAUSE_S
) -> None:
    """Write to one member until told to stop."""
    connection: Connection | None = None
    while not stop.is_set():
        try:
            async with asyncio.timeout(TIMEOUT_S):
                connection = connection or await Connection.open(member.client_url)
                answer = await connection.request("PUT", f"/v2/keys/failover/{key}", form={"value": "v" * 64})
            if answer.status in {200, 201}:
                acknowledgements.note()
        except (OSError, asyncio.IncompleteReadError):
            if connection is not None:
                connection.writer.transport.abort()
            connection = None
            await asyncio.sleep(PAUSE_S)
        await asyncio.sleep(pause_s)
    if connection is not None:
        connection.writer.transport.abort()


async def measure(cluster: Cluster, load: str, tell_above_s: float) -> float:
    """Kill the leader once. Returns the longest time without an acknowledged write in seconds, all members back.

    What the survivors say of a gap above `tell_above_s` is printed.
    """
    leader = await asyncio.to_thread(cluster.leader)
    survivors = [member for member in cluster.members if member is not leader]
    acknowledgements = Acknowledgements()
    stop = asyncio.Event()
    writers: list[asyncio.Task[None]] = []

    def begin(each: int, pause_s: float = PAUSE_S) -> None:
        for member in survivors:
            for number in range(each):
                key = f"{member.name}-{pause_s:g}-{number}"
                writers.append(asyncio.create_task(write(member, key, acknowledgements, stop, pause_s)))

    try:
        async with asyncio.timeout(RECOVERS_WITHIN_S):
            if load == "busy":
                begin(BUSY_WRITERS_PER_SURVIVOR, 0)
            if load != "idle":
                begin(WRITERS_PER_SURVIVOR)
                first = await acknowledgements.after(0.0)
                await acknowledgements.after(first + BEFORE_S)
            killed = time.monotonic()
            leader.kill()
            if load == "idle":
                acknowledgements.times.append(killed)
                begin(WRITERS_PER_SURVIVOR)
            served = await acknowledgements.after(killed)
            # That one may have been on its way at the kill, before the gap: see that writes go on.
            await acknowledgements.after(served + AFTER_S)
        times = acknowledgements.times
        gap, since = max((b - a, a - killed) for a, b in itertools.pairwise(times) if b > killed)
        if gap > tell_above_s:
            tails = "\n".join(member.log_tail() for member in survivors)
            print(f"{gap:.2f} s without an acknowledgement, from {since:.2f} s after the kill\n{tails}", flush=True)
    finally:
        stop.set()
        await asyncio.gather(*writers)
        leader.start()
    await asyncio.to_thread(leader.wait_ready)
    return gap


def run(
    directory: Path,
    kills: int,
    *,
    election_timeout_ms: int,
    heartbeat_interval_ms: int,
    load: str = "light",
    kinds: tuple[Kind, ...] = KINDS,
) -> dict[Kind, list[float]]:
    """Kill each cluster's leader so many times, in turn. Returns the gaps in seconds."""
    flags = {"election-timeout": str(election_timeout_ms), "heartbeat-interval": str(heartbeat_interval_ms)}
    gaps: dict[Kind, list[float]] = {kind: [] for kind in kinds}
    tell_above_s = MAXIMUM_ELECTION_TIMEOUTS * election_timeout_ms / 1000
    with contextlib.ExitStack() as stack:
        clusters = [stack.enter_context(Cluster(directory / kind, kind=kind, flags=flags)) for kind in kinds]
        for number in range(1, kills + 1):
            for cluster in clusters:
                gaps[cluster.kind].append(asyncio.run(measure(cluster, load, tell_above_s)))
            latest = ", ".join(f"{kind} {times[-1]:.2f} s" for kind, times in gaps.items())
            print(f"kill {number}: {latest}", flush=True)
    return gaps


def failures(gaps: dict[Kind, list[float]], election_timeout_s: float) -> list[str]:
    """What is not as good as it must be."""
    median, longest = statistics.median(gaps["kvraft"]), max(gaps["kvraft"])
    found = []
    if "etcd" in gaps and median > (theirs := statistics.median(gaps["etcd"])):
        found.append(f"the median {median:.2f} s is above etcd's {theirs:.2f} s")
    if median > MEDIAN_ELECTION_TIMEOUTS * election_timeout_s:
        found.append(f"the median {median:.2f} s is above {MEDIAN_ELECTION_TIMEOUTS} election timeouts")
    if longest > MAXIMUM_ELECTION_TIMEOUTS * election_timeout_s:
        found.append(f"the longest {longest:.2f} s is above {MAXIMUM_ELECTION_TIMEOUTS:g} of an election timeout")
    return found


def main() -> int:
    """Exit code 0 if kvraft is as good as asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.jepsen_like.failover", description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--load", choices=LOADS, default="light", help="before the kill")
    parser.add_argument("--kind", choices=("kvraft",), help="this one alone")
    parser.add_argument("--election-timeout", type=int, default=1000, help="ms, of both")
    parser.add_argument("--heartbeat-interval", type=int, default=100, help="ms, of both")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="failover-", dir=Path.cwd()) as directory:
        gaps = run(
            Path(directory),
            given.kills,
            election_timeout_ms=given.election_timeout,
            heartbeat_interval_ms=given.heartbeat_interval,
            load=given.load,
            kinds=("kvraft",) if given.kind else KINDS,
        )
    for kind, times in gaps.items():
        print(f"{kind}: median {statistics.median(times):.2f} s, {min(times):.2f} to {max(times):.2f} s")
    print(tried.line({"kills of a leader": len(gaps["kvraft"])}))
    found = failures(gaps, given.election_timeout / 1000)
    for failure in found:
        print(f"FAILED {failure}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
