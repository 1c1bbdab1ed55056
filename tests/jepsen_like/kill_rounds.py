"""Kill -9 of one member after another while 64 clients write, then everything that check.py needs, in one directory.

python -m tests.jepsen_like.kill_rounds DIRECTORY [--kills 30] [--writes 50000] [--seed 1]
"""

import argparse
import asyncio
import dataclasses
import json
import random
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final, final

from kvraft.testing.cluster import Cluster, Member, Program
from tests import tried
from tests.jepsen_like import check
from tests.jepsen_like.clients import TTL_S, Client, Tally
from tests.jepsen_like.watch_logs import WatchLog

CLIENTS: Final = 64
WRITES_BETWEEN_KILLS_MIN: Final = 200
"""A kill counts only in the middle of writes: so many are acknowledged between two."""
PROBE_PAUSE_S: Final = 0.02
AGREE_WITHIN_S: Final = 60.0


@final
@dataclasses.dataclass(slots=True)
class Outcome:
    """What a run did; what it means is for check.py to say."""

    kills: int = 0
    leader_kills: int = 0
    tally: Tally = dataclasses.field(default_factory=Tally)
    seconds: float = 0.0

    def lines(self) -> list[str]:
        """The run in words."""
        tally = self.tally
        return [
            f"{tally.acknowledged} writes acknowledged, {tally.unknown} of unknown outcome, {tally.failed} failed, "
            f"in {self.seconds:.1f} s",
            f"{self.kills} kills -9, {self.leader_kills} of the leader",
            f"longest time without an acknowledged write: {tally.longest_gap_ns / 1e9:.2f} s",
        ]


Nemesis = Callable[[Cluster, Outcome], Awaitable[None]]
"""What is done to the members while clients write."""


async def run(
    cluster: Cluster,
    directory: Path,
    nemesis: Nemesis,
    *,
    writes: int,
    seed: int,
    first_index: int = 0,
    first_client: int = 0,
) -> Outcome:
    """Run clients and watchers beside the nemesis on a started cluster, until `writes` too, then dump every member.

    On a cluster that goes on with what another one has left behind, watchers begin with its `first_index`, and clients
    are numbered behind those of before, so that no value comes twice.
    """
    outcome = Outcome()
    stop = asyncio.Event()
    began = time.monotonic()
    first_index = first_index or cluster.members[0].http("GET", "/v2/keys/").etcd_index + 1
    watch_logs = [
        WatchLog([member.client_url], directory / f"watch-{member.name}.jsonl", first_index)
        for member in cluster.members
    ]
    watching = [asyncio.create_task(watch_log.run()) for watch_log in watch_logs]
    clients = [
        Client(number, cluster.client_urls, seed, outcome.tally, directory / f"history-{number}.jsonl")
        for number in range(first_client, first_client + CLIENTS)
    ]
    writing = [asyncio.create_task(client.run(stop)) for client in clients]
    try:
        await nemesis(cluster, outcome)
        await until_acknowledged(outcome.tally, writes, writing)
    finally:
        stop.set()
        await asyncio.gather(*writing)
    outcome.seconds = time.monotonic() - began
    etcd_index = await dump_members(cluster.members, directory)
    await until_watched(watch_logs, etcd_index)
    for task in watching:
        task.cancel()
    await asyncio.gather(*watching, return_exceptions=True)
    return outcome


def kill_one_by_one(kills: int, seed: int) -> Nemesis:
    """Kill -9, every second time the leader; the next comes once the victim serves again and writes have gone on."""
    chance = random.Random(f"{seed}/kills")

    async def nemesis(cluster: Cluster, outcome: Outcome) -> None:
        for number in range(kills):
            await until_acknowledged(outcome.tally, outcome.tally.acknowledged + WRITES_BETWEEN_KILLS_MIN, [])
            leader = await asyncio.to_thread(cluster.leader)
            others = [member for member in cluster.members if member is not leader]
            victim = leader if number % 2 == 0 else chance.choice(others)
            await asyncio.sleep(chance.uniform(0.0, 0.2))
            await asyncio.to_thread(victim.kill)
            outcome.kills += 1
            outcome.leader_kills += victim is leader
            await asyncio.sleep(chance.choice((0.0, 0.1, 0.5)))
            victim.start()
            await asyncio.to_thread(victim.wait_ready)

    return nemesis


async def cut_power(cluster: Cluster, outcome: Outcome) -> None:
    """Kill -9 of all members at once, in the middle of writes, and start them again."""
    await until_acknowledged(outcome.tally, WRITES_BETWEEN_KILLS_MIN, [])
    for member in cluster.members:
        member.signal(signal.SIGKILL)
    for member in cluster.members:
        member.kill()
        outcome.kills += 1
    outcome.leader_kills += 1
    for member in cluster.members:
        member.start()
    for member in cluster.members:
        await asyncio.to_thread(member.wait_ready)


async def until_acknowledged(tally: Tally, count: int, writing: list[asyncio.Task[None]]) -> None:
    """Wait until clients have so many writes acknowledged; a client that failed raises its error here."""
    while tally.acknowledged < count:
        for task in writing:
            if task.done():
                task.result()
        await asyncio.sleep(PROBE_PAUSE_S)


async def dump_members(members: Sequence[Member], directory: Path) -> int:
    """Wait until every TTL key is gone and all members stand at the same index; then write down what each holds."""
    await asyncio.sleep(TTL_S)
    async with asyncio.timeout(AGREE_WITHIN_S):
        while True:
            dumps = {member.name: await asyncio.to_thread(_dump, member) for member in members}
            indices = {(dump["etcd_index"], dump["raft_index"]) for dump in dumps.values()}
            ttl_left = any(key for dump in dumps.values() for key in _ttl_keys(dump["node"]))
            if len(indices) == 1 and not ttl_left:
                break
            await asyncio.sleep(PROBE_PAUSE_S)
    for name, dump in dumps.items():
        (directory / f"dump-{name}.json").write_text(json.dumps(dump))
    return int(dumps[members[0].name]["etcd_index"])


def _dump(member: Member) -> dict[str, Any]:
    """One member's tree by a local read, its indices, and its state hash."""
    answer = member.http("GET", "/v2/keys/kill?recursive=true")
    variables = member.http("GET", "/debug/vars").json()
    return {
        "node": answer.json()["node"],
        "etcd_index": answer.etcd_index,
        "raft_index": int(answer.header("X-Raft-Index") or ""),
        "state_hash": variables["kvraft"]["state_hash"],
    }


def _ttl_keys(root: dict[str, Any]) -> list[str]:
    return [child["key"] for node in root["nodes"] if node["key"] == "/kill/ttl" for child in node.get("nodes", [])]


async def until_watched(watch_logs: list[WatchLog], etcd_index: int) -> None:
    """The last events of the workload are on every watcher's disk."""
    async with asyncio.timeout(AGREE_WITHIN_S):
        last = max(watch_log.next_index for watch_log in watch_logs)
        while any(watch_log.next_index < min(last, etcd_index + 1) for watch_log in watch_logs):
            last = max(watch_log.next_index for watch_log in watch_logs)
            await asyncio.sleep(PROBE_PAUSE_S)


def run_and_check(directory: Path, program: Program, nemesis: Nemesis, *, writes: int, seed: int) -> check.Verdict:
    """A whole round on a new cluster; prints what happened."""
    with Cluster(directory / "cluster", program=program) as cluster:
        outcome = asyncio.run(run(cluster, directory, nemesis, writes=writes, seed=seed))
    for line in outcome.lines():
        print(line)
    assert outcome.tally.acknowledged >= writes, "fewer writes than asked for"
    return check.check_directory(directory)


def main() -> int:
    """Exit code 0 if nothing is wrong."""
    parser = argparse.ArgumentParser(description="Kill members while clients write, and judge the outcome.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--writes", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    given.directory.mkdir(parents=True)
    nemesis = kill_one_by_one(given.kills, given.seed)
    verdict = run_and_check(given.directory, Program(), nemesis, writes=given.writes, seed=given.seed)
    for problem in verdict.problems[: check.PROBLEMS_SHOWN]:
        print(f"PROBLEM {problem}")
    print(tried.line({"kills": given.kills, "acknowledged writes": verdict.counts["writes ok"]}))
    print(f"seed {given.seed}: {len(verdict.problems)} problems; all records are in {given.directory}")
    return 1 if verdict.problems else 0


if __name__ == "__main__":
    sys.exit(main())
