"""Members come, are replaced, move and go while 64 clients write and 50 watch, with kill -9 in the middle of changes.

python -m tests.jepsen_like.come_and_go DIRECTORY [--seed 1]

Every member is in a network namespace of its own; check.py judges what the clients and the watchers have seen.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import random
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Final, final

from kvraft.testing.cluster import Cluster, Member
from tests import tried
from tests.jepsen_like import check
from tests.jepsen_like.clients import Client, Tally
from tests.jepsen_like.kill_rounds import dump_members, until_acknowledged, until_watched
from tests.jepsen_like.network import CLIENT_PORT, PEER_PORT, Network
from tests.jepsen_like.roster import Roster
from tests.jepsen_like.watch_logs import WatchLog

CLIENTS: Final = 64
WATCHERS: Final = 50
KEPT_WATCHES: Final = 4
"""Whose events the judge reads; of the others the order of the indices is enough."""
WRITES_BETWEEN: Final = 200
"""So many are acknowledged before the next change: each is in the middle of writes."""
ELECTION_TIMEOUT_S: Final = 1.0


@final
@dataclasses.dataclass(slots=True)
class Outcome:
    """What a run did."""

    tally: Tally = dataclasses.field(default_factory=Tally)
    changes: int = 0
    leaders_removed: int = 0
    kills: int = 0
    watch_problems: list[str] = dataclasses.field(default_factory=list)

    @property
    def longest_gap_s(self) -> float:
        """Without an acknowledged write."""
        return self.tally.longest_gap_ns / 1e9

    def lines(self) -> list[str]:
        """The run in words."""
        tally = self.tally
        return [
            f"{tally.acknowledged} writes acknowledged, {tally.unknown} of unknown outcome, {tally.failed} failed",
            f"{self.changes} changes of the membership, {self.leaders_removed} of them removed the leader, "
            f"{self.kills} with a kill -9 in the middle",
            f"longest time without an acknowledged write: {self.longest_gap_s:.2f} s",
        ]


@final
class Changes:
    """What is done to the members, one change after another."""

    def __init__(self, roster: Roster, network: Network, outcome: Outcome, seed: int) -> None:
        self._roster = roster
        self._network = network
        self._outcome = outcome
        self._random = random.Random(f"{seed}/changes")

    async def short(self) -> None:
        """Grow to three, put another in the place of the leader, lose a disk, shrink to two."""
        _, second, third, fourth, *_ = self._roster.places
        await self.grow(second)
        await self.grow(third, kill=third)
        await self.replace(None, fourth, kill=fourth)
        await self.replace_wiped(self._roster.joined[0])
        await self.shrink(None)

    async def full(self) -> None:
        """Grow 1 to 3 to 5, replace every member once, move one, shrink to 3."""
        places = iter(self._roster.places[1:])
        await self.grow(second := next(places))
        await self.grow(next(places), kill=second)
        newcomer = next(places)
        await self.grow(newcomer, kill=newcomer)
        await self.grow(next(places), kill=await self.leader())
        first_five = [*self._roster.joined]
        await self.replace_wiped(second)
        await self.replace(None, next(places), kill_other=True)
        for old in first_five:
            if old is second or old not in self._roster.joined:
                continue
            newcomer = next(places)
            await self.replace(old, newcomer, kill=self._random.choice((newcomer, old)))
        await self.move(self._roster.joined[0])
        await self.shrink(None, kill_other=True)
        await self.shrink(None, kill_other=True)

    # -- the changes -----------------------------------------------------------------------------------------------

    async def grow(self, member: Member, kill: Member | None = None) -> None:
        """One more, added as etcdctl does it."""
        async with self._change(kill):
            await asyncio.to_thread(self._roster.add, member)
        await self._settled(member)

    async def replace(
        self, old: Member | None, new: Member, *, kill: Member | None = None, kill_other: bool = False
    ) -> None:
        """Add the new one, then remove the old one, None for who leads then; a kill may come in the midst of it."""
        async with self._change(kill):
            await asyncio.to_thread(self._roster.add, new)
        await self._settled(new)
        await self._remove(old, kill_other=kill_other)

    async def replace_wiped(self, member: Member) -> None:
        """A machine that lost its disk comes back under its name with --replace; killed while it does."""
        await asyncio.to_thread(self._roster.wipe, member)
        async with self._change(member):
            await asyncio.to_thread(self._roster.join, member, member.name)
        await self._settled(member)

    async def move(self, member: Member) -> None:
        """The others find it at another address, and the old one leads nowhere any more."""
        network = self._network
        network.have_address(member.name, 1)
        async with self._change():
            await asyncio.to_thread(self._roster.move, member, f"http://{network.address(member.name, 1)}:{PEER_PORT}")
        with network.rules([network.refuse(member.name, network.address(member.name, 0), PEER_PORT)]):
            await self._settled(member)

    async def shrink(self, member: Member | None, *, kill_other: bool = False) -> None:
        """One less, None for the leader; the leader, or another if it goes itself, may be killed in the middle."""
        await self._remove(member, kill_other=kill_other)

    async def _remove(self, member: Member | None, *, kill_other: bool) -> None:
        leader = await self.leader()
        member = member or leader
        self._outcome.leaders_removed += member is leader
        staying = [other for other in self._roster.joined if other is not member]
        victim = leader if member is not leader else self._random.choice(staying)
        async with self._change(victim if kill_other else None):
            await asyncio.to_thread(self._roster.remove, member)

    # -- around them -----------------------------------------------------------------------------------------------

    async def leader(self) -> Member:
        """Whoever leads now."""
        return await asyncio.to_thread(self._roster.leader)

    @contextlib.asynccontextmanager
    async def _change(self, kill: Member | None = None) -> AsyncIterator[None]:
        """A change in the middle of writes, with a kill -9 a moment after it began."""
        tally = self._outcome.tally
        await until_acknowledged(tally, tally.acknowledged + WRITES_BETWEEN, [])
        killing = None if kill is None else asyncio.create_task(self._kill(kill))
        yield
        if killing is not None:
            await killing
        self._outcome.changes += 1

    async def _kill(self, member: Member) -> None:
        await asyncio.to_thread(self._roster.wait_for, f"process of {member.name}", lambda: member.is_running)
        await asyncio.sleep(self._random.uniform(0.0, 0.4))
        if member.exit_code is not None:
            return  # removed before the kill came
        await asyncio.to_thread(member.kill)
        self._outcome.kills += 1
        member.start()

    async def _settled(self, member: Member) -> None:
        await asyncio.to_thread(self._roster.wait_voter, member)


Script = Callable[[Changes], Awaitable[None]]


async def run(roster: Roster, network: Network, directory: Path, script: Script, seed: int) -> Outcome:
    """Clients and watchers beside the changes; then every member that is left is dumped."""
    outcome = Outcome()
    stop = asyncio.Event()
    first_index = roster.joined[0].http("GET", "/v2/keys/").etcd_index + 1
    urls = [member.client_url for member in roster.places]
    turned = [urls[number % len(urls) :] + urls[: number % len(urls)] for number in range(WATCHERS)]
    kept = [directory / f"watch-{number}.jsonl" for number in range(KEPT_WATCHES)]
    passing = [Path("/dev/null")] * (WATCHERS - KEPT_WATCHES)
    watch_logs = [WatchLog(turned[number], path, first_index) for number, path in enumerate([*kept, *passing])]
    watching = [asyncio.create_task(watch_log.run()) for watch_log in watch_logs]
    clients = [
        Client(number, urls, seed, outcome.tally, directory / f"history-{number}.jsonl") for number in range(CLIENTS)
    ]
    writing = [asyncio.create_task(client.run(stop)) for client in clients]
    try:
        await script(Changes(roster, network, outcome, seed))
        await until_acknowledged(outcome.tally, outcome.tally.acknowledged + WRITES_BETWEEN, writing)
    finally:
        stop.set()
        await asyncio.gather(*writing)
    etcd_index = await dump_members(roster.joined, directory)
    await until_watched(watch_logs, etcd_index)
    for task in watching:
        task.cancel()
    await asyncio.gather(*watching, return_exceptions=True)
    outcome.watch_problems += [problem for watch_log in watch_logs for problem in watch_log.problems]
    return outcome


def run_and_check(directory: Path, script: Script, seed: int, places: int) -> tuple[Outcome, check.Verdict]:
    """A whole run in namespaces of its own; prints what happened."""
    directory.mkdir(parents=True, exist_ok=True)
    with Network([f"n{number}" for number in range(1, places + 1)]) as network, _laid_out(directory, network) as roster:
        roster.found(roster.places[0])
        outcome = asyncio.run(run(roster, network, directory, script, seed))
    for line in outcome.lines():
        print(line)
    return outcome, check.check_directory(directory)


@contextlib.contextmanager
def _laid_out(directory: Path, network: Network) -> Iterator[Roster]:
    """A place for a member in each namespace."""
    size = len(network.members)
    cluster = Cluster(
        directory / "cluster",
        size=size,
        client_ports=[CLIENT_PORT] * size,
        peer_ports=[PEER_PORT] * size,
        hosts=list(network.addresses.values()),
    )
    cluster.directory.mkdir()
    for member in cluster.members:
        member.program = dataclasses.replace(member.program, wrapper=network.wrapper(member.name))
        member.cluster_flags |= {"listen-peer-urls": f"http://0.0.0.0:{PEER_PORT}"}
    try:
        yield Roster(cluster.members)
    finally:
        cluster.stop()


FULL_PLACES: Final = 9


def main() -> int:
    """Exit code 0 if nothing is wrong."""
    parser = argparse.ArgumentParser(description="Change the membership while clients write, and judge the outcome.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    outcome, verdict = run_and_check(given.directory, Changes.full, given.seed, FULL_PLACES)
    problems = [*verdict.problems, *outcome.watch_problems]
    for problem in problems[: check.PROBLEMS_SHOWN]:
        print(f"PROBLEM {problem}")
    print(tried.line({"changes": outcome.changes, "acknowledged writes": verdict.counts["writes ok"]}))
    print(f"seed {given.seed}: {len(problems)} problems; all records are in {given.directory}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
