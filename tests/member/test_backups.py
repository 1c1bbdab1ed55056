"""Copies that clients fetch: how many, how long, and what a member says that makes none."""

import asyncio
import itertools
import pathlib
from typing import final

from kvraft.keyspace.commands import PublishMember
from kvraft.keyspace.keyspace import Keyspace
from kvraft.member.backups import KEPT_MS, KEPT_READ_MS, Backups
from kvraft.member.cluster import Cluster
from kvraft.records import BackupCopy, BackupRefused
from tests.member import virtual_time
from tests.member.fakes import log_of
from tests.member.test_durable_state import State, keys


@final
class Story:
    """Backups over a memory disk with eight keys."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.state = State(directory, log_of(*keys(1, 8)))
        self.state.apply(log_of(*keys(1, 8)))
        self.clock = itertools.count(5)
        self.outcomes: list[BackupCopy | BackupRefused] = []
        self.backups = self.again()

    def again(self) -> Backups:
        """As after a restart."""
        cluster = Cluster(7, PublishMember(1, "n1", ()), (), 1000, Keyspace())
        return Backups(cluster, self.state.durable, self.state.storage.state, self.clock.__next__)

    async def take(self) -> BackupCopy | BackupRefused:
        told: asyncio.Future[BackupCopy | BackupRefused] = asyncio.get_running_loop().create_future()
        self.backups.take(with_history=True, done=told.set_result)
        return await told

    async def copy(self) -> BackupCopy:
        made = await self.take()
        assert isinstance(made, BackupCopy), made
        return made


def files(directory: pathlib.Path) -> set[str]:
    return {path.stem for path in directory.rglob("*.backup")}


def test_copy_holds_what_is_applied_and_stays_for_a_while(tmp_path: pathlib.Path) -> None:
    """What is applied is flushed first; it is gone some time after the last reader."""

    async def story() -> None:
        member = Story(tmp_path)
        made = await member.copy()
        assert member.state.storage.state.position.index == 8
        assert made.copy_id.startswith("8-1-")
        assert member.backups.find(made.copy_id) == made
        now_ms = int(asyncio.get_running_loop().time() * 1000)
        member.backups.look(now_ms + KEPT_MS - 1000)
        member.backups.opened(made)
        member.backups.look(now_ms + 10 * KEPT_MS)
        assert member.backups.find(made.copy_id) == made
        member.backups.closed(made, to_its_end=True)
        member.backups.look(now_ms + KEPT_READ_MS + 10_000)
        assert member.backups.find(made.copy_id) is None
        await virtual_time.turns()
        assert files(tmp_path) == set()

    virtual_time.run(story())


def test_no_more_than_two_copies_at_once(tmp_path: pathlib.Path) -> None:
    """The one that waits for nobody makes room for a third; two that are read do not."""

    async def story() -> None:
        member = Story(tmp_path)
        first, second = await member.copy(), await member.copy()
        member.backups.opened(first)
        third = await member.copy()
        await virtual_time.turns()
        assert files(tmp_path) == {first.copy_id, third.copy_id}
        assert member.backups.find(second.copy_id) is None
        member.backups.opened(third)
        refused = await member.take()
        assert refused == BackupRefused("2 copies of this member are being read: try again later")

    virtual_time.run(story())


def test_one_is_made_at_a_time(tmp_path: pathlib.Path) -> None:
    """Who comes meanwhile is told to come again."""

    async def story() -> None:
        member = Story(tmp_path)
        member.backups.take(with_history=False, done=member.outcomes.append)
        refused = await member.take()
        assert refused == BackupRefused("this member is making a copy for somebody else: try again later")
        await virtual_time.turns(50)
        assert [type(outcome) for outcome in member.outcomes] == [BackupCopy]

    virtual_time.run(story())


def test_copy_that_is_abandoned_tells_nobody(tmp_path: pathlib.Path) -> None:
    """Its client has gone."""

    async def story() -> None:
        member = Story(tmp_path)
        member.backups.take(with_history=False, done=member.outcomes.append)()
        await virtual_time.turns(50)
        assert (member.outcomes, files(tmp_path)) == ([], set())
        assert isinstance(await member.take(), BackupCopy)

    virtual_time.run(story())


def test_disk_without_room_and_a_member_that_stops_make_none(tmp_path: pathlib.Path) -> None:
    """Each with a line that says what to do."""

    async def story() -> None:
        member = Story(tmp_path)
        member.state.free_bytes = 0
        refused = await member.take()
        assert isinstance(refused, BackupRefused)
        assert refused.is_room
        assert "free some, or ask another member" in refused.reason
        member.backups.stop()
        assert await member.take() == BackupRefused("this member is stopping: ask another one")

    virtual_time.run(story())


def test_member_that_holds_nothing_makes_none(tmp_path: pathlib.Path) -> None:
    """Its cluster has never had a leader."""

    async def story() -> None:
        member = Story(tmp_path)
        member.state = State(tmp_path / "empty", log_of(*keys(1, 1)))
        member.backups = member.again()
        assert await member.take() == BackupRefused("this member holds nothing yet: ask another one")

    virtual_time.run(story())


def test_copy_outlives_the_process(tmp_path: pathlib.Path) -> None:
    """A client whose member was killed goes on with it."""

    async def story() -> None:
        member = Story(tmp_path)
        made = await member.copy()
        assert member.again().find(made.copy_id) == made

    virtual_time.run(story())
