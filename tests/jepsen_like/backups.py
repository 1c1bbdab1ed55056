"""Backups of every member, again and again, while members are killed; and a cluster that goes on from one of them.

`kvraft backup` runs as an operator runs it, and is killed now and then, too; the next call goes on with what it left.
"""

import asyncio
import contextlib
import dataclasses
import json
import random
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final, final

from kvraft.backup import state
from kvraft.backup.new_cluster import Wanted
from kvraft.backup.restore import plan, restore
from kvraft.keyspace.keyspace import Keyspace
from kvraft.storage.backup_file import open_backup
from kvraft.testing.cluster import Cluster
from kvraft.testing.member import Member
from tests.jepsen_like import check, secure
from tests.jepsen_like.kill_rounds import Nemesis, Outcome

BEFORE_KILL_S: Final = (0.3, 1.5)
"""A client that is killed lives for so long: some of it is the start of its interpreter."""
KILLED_SHARE: Final = 0.3


@final
@dataclasses.dataclass(slots=True)
class Taken:
    """What the clients came to."""

    files: list[Path] = dataclasses.field(default_factory=list)
    refusals: list[str] = dataclasses.field(default_factory=list)
    killed: int = 0
    resumed: int = 0
    """Of the files, those that began with what a killed client or member had left."""


def beside(nemesis: Nemesis, taken: Taken, directory: Path, seed: int) -> Nemesis:
    """The nemesis, with backups of every member until it is over."""

    async def both(cluster: Cluster, outcome: Outcome) -> None:
        async with taking(cluster.members, taken, directory, seed):
            await nemesis(cluster, outcome)

    return both


@contextlib.asynccontextmanager
async def taking(members: Sequence[Member], taken: Taken, directory: Path, seed: int) -> AsyncIterator[None]:
    """Backups of every member for as long as the block takes."""
    await asyncio.to_thread(directory.mkdir)
    tasks = [
        asyncio.create_task(_take_from(member, taken, directory, random.Random(f"{seed}/{member.name}")))
        for member in members
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    failed = [error for error in ended if isinstance(error, Exception)]
    assert not failed, f"taking backups ended by itself: {failed}"


async def _take_from(member: Member, taken: Taken, directory: Path, chance: random.Random) -> None:
    number = 0
    while True:
        number += 1
        path = directory / f"{member.name}-{number}.backup"
        while not path.exists():
            begun = await asyncio.to_thread(_parts, path)
            is_killed = chance.random() < KILLED_SHARE
            ended = await _backup(member, path, chance.uniform(*BEFORE_KILL_S) if is_killed else None)
            if ended is None:
                taken.killed += 1
            elif ended:
                taken.refusals.append(ended)
            else:
                taken.files.append(path)
                taken.resumed += begun


def _parts(path: Path) -> bool:
    return any(path.parent.glob(f"{path.name}.*.part"))


async def _backup(member: Member, path: Path, killed_after_s: float | None) -> str | None:
    """One call: what it said when it failed, empty if it did not; None if it was killed."""
    command = [sys.executable, "-m", "kvraft", "backup", member.client_url, str(path), *secure.options(member)]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(killed_after_s):
            _, said = await process.communicate()
    except TimeoutError:
        return None
    finally:
        with contextlib.suppress(ProcessLookupError):  # it has ended by itself
            process.kill()
        await process.wait()
    return said.decode().strip() if process.returncode else ""


def judge(taken: Taken, directory: Path) -> list[str]:
    """What is wrong with the files: each must be whole, and what all events up to its index add up to.

    Raises:
        StorageError: one is not whole.
    """
    problems = []
    events = events_of(directory)
    expected: dict[str, tuple[str, int, int]] = {}
    replayed = 0
    for path in sorted(taken.files, key=index_of):
        keyspace = keyspace_of(path)
        new = {index: event for index, event in events.items() if replayed < index <= keyspace.etcd_index}
        check.replay(new, check.Verdict(), expected)
        replayed = keyspace.etcd_index
        held = {
            node.path.decode(): (json.loads(node.value_json or b'""'), node.modified_index, node.created_index)
            for node in keyspace.nodes()
            if not node.directory and node.path.startswith(b"/kill/")
        }
        wrong = sorted(key for key in held.keys() | expected.keys() if held.get(key) != expected.get(key))
        if wrong:
            key = wrong[0]
            problems.append(
                f"{path.name} at index {keyspace.etcd_index}: {len(wrong)} keys differ; {key} is {held.get(key)}, "
                f"and the events say {expected.get(key)}"
            )
    return problems


def index_of(path: Path) -> int:
    """The etcd_index of a backup, as its head says."""
    with open_backup(path) as (decoder, _records):
        return state.meta_of(str(path), decoder.header).etcd_index


def keyspace_of(path: Path) -> Keyspace:
    """Everything that a backup holds, verified."""
    where = str(path)
    with open_backup(path) as (decoder, records):
        return state.load(where, state.image_of(where, state.meta_of(where, decoder.header), records))


def events_of(directory: Path) -> dict[int, dict[str, Any]]:
    """All that watchers were sent."""
    events = {}
    for path in directory.glob("watch-*.jsonl"):
        for line in path.read_text().splitlines():
            event = json.loads(line)
            events[event["node"]["modifiedIndex"]] = event
    return events


def restored(backup: Path, cluster: Cluster) -> None:
    """Give the members of a cluster that was never started the directories of a backup."""
    urls = {
        member.name: member.cluster_flags.get("initial-advertise-peer-urls", member.peer_url)
        for member in cluster.members
    }
    planned = plan(backup, Wanted(tuple((name, (url,)) for name, url in urls.items())))
    for member in cluster.members:
        restore(backup, planned, member.name, member.data_dir)


def hand_over(before: Path, after: Path, etcd_index: int) -> None:
    """What had happened up to a backup is part of the story of the cluster that goes on with it.

    Writes that were acknowledged later are not: they are lost with the old cluster, and nobody may see them.
    """
    after.mkdir(exist_ok=True)
    for path in before.glob("history-*.jsonl"):
        records = [json.loads(line) for line in path.read_text().splitlines()]
        kept = [record for record in records if record.get("index", 0) <= etcd_index]
        (after / path.name).write_text("".join(json.dumps(record) + "\n" for record in kept))
    for path in before.glob("watch-*.jsonl"):
        events = [json.loads(line) for line in path.read_text().splitlines()]
        kept = [event for event in events if event["node"]["modifiedIndex"] <= etcd_index]
        (after / path.name).write_text("".join(json.dumps(event) + "\n" for event in kept))
