"""What of the log stays for followers that take long over a snapshot (raft paper, section 7)."""

import pathlib
from typing import Final

import pytest

from kvraft.keyspace.commands import Set
from kvraft.member.settings import MemberSettings
from kvraft.raft.effects import HardState, Persist, SendSnapshot
from kvraft.raft.entries import Entry
from kvraft.raft.progress import Progress
from tests.member import virtual_time
from tests.member.fakes import log_of, payload_of
from tests.member.test_durable_state import State

FOLLOWER: Final = 2
USUAL: Final = 20
"""Entries: four times `snapshot_count`."""
SETTINGS: Final = MemberSettings(snapshot_count=5, catch_up_entries=2)


class Leader:
    """A leader with one follower that lacks everything, and a log that grows meanwhile."""

    def __init__(self, directory: pathlib.Path, settings: MemberSettings = SETTINGS, value_bytes: int = 1) -> None:
        self.value = b"v" * value_bytes
        self.batch_id = 1
        first = log_of(payload_of(Set(path=b"/k", value=self.value)))
        self.last: Entry = first[-1]
        self.state = State(directory, first, settings)
        self.state.apply(first)
        self.progress = Progress(1, 1 << 40, 0, recent_active=True)
        self.state.inbox.raft.progress[FOLLOWER] = self.progress

    async def write(self, count: int) -> None:
        """So many entries are committed, applied, flushed and, as far as it goes, compacted."""
        entries = log_of(*[payload_of(Set(path=b"/k", value=self.value))] * count, after=self.last)
        self.last = entries[-1]
        self.batch_id += 1
        hard_state = HardState(1, 0, self.last.index)
        assert self.state.storage.log.persist_now(Persist(self.batch_id, hard_state, 0, entries, must_sync=True))
        self.state.apply(entries)
        self.state.durable.look_around(1 << 50)
        await virtual_time.turns(100 + 10 * count)
        self.state.inbox.raft.first_log_index = self.state.disk.base.index + 1
        assert self.state.storage.state.position.index == self.last.index

    async def snapshot(self, meanwhile: int, *, while_installing: int = 0) -> bool:
        """Send one, which takes so many entries; True if the follower finds those behind it in the log."""
        self.state.durable.send_snapshot(SendSnapshot(FOLLOWER, 1))
        await virtual_time.turns(200)
        _, snapshot, sent = self.state.transport.snapshots[-1]
        await self.write(meanwhile)
        sent(True)
        await virtual_time.turns()
        if while_installing:
            await self.write(while_installing)
        self.progress.match_index = snapshot.position.index
        return self.state.disk.base.index <= snapshot.position.index


def test_entries_behind_a_snapshot_stay_until_it_is_in_place(tmp_path: pathlib.Path) -> None:
    """Not only until it is sent: the follower loads it, and says only then what it holds."""

    async def story() -> None:
        leader = Leader(tmp_path / "a")
        await leader.write(30)
        assert await leader.snapshot(8, while_installing=8)

    virtual_time.run(story())


@pytest.mark.parametrize(("entries", "tries"), [(USUAL + 5, 2), (3 * USUAL, 3), (7 * USUAL, 4)])
def test_snapshot_that_outlasts_the_log_is_followed_by_a_newer_one_with_more_room(
    tmp_path: pathlib.Path, entries: int, tries: int
) -> None:
    """Or it would be sent for ever. Once the follower has caught up, the log is cut as usual again."""

    async def story() -> None:
        leader = Leader(tmp_path / "a")
        await leader.write(30)
        outcomes = [await leader.snapshot(entries) for _ in range(tries)]
        assert outcomes == [*[False] * (tries - 1), True]
        leader.progress.match_index = leader.last.index + 10
        await leader.write(10)
        leader.progress.match_index = leader.last.index - 10
        await leader.write(USUAL)
        assert leader.state.disk.base.index > leader.last.index - USUAL

    virtual_time.run(story())


def test_room_grows_by_bytes_as_well(tmp_path: pathlib.Path) -> None:
    """A few large values fill the log as many small ones do."""

    async def story() -> None:
        settings = MemberSettings(snapshot_count=1000, catch_up_entries=1000, log_bytes_max=41_000)
        leader = Leader(tmp_path / "a", settings, value_bytes=10_000)
        await leader.write(8)
        assert [await leader.snapshot(20) for _ in range(2)] == [False, True]

    virtual_time.run(story())


def test_no_room_is_taken_that_the_disk_does_not_have(tmp_path: pathlib.Path) -> None:
    """A full disk would stop the leader, too."""

    async def story() -> None:
        leader = Leader(tmp_path / "a")
        await leader.write(30)
        assert not await leader.snapshot(USUAL + 5)
        leader.state.free_bytes = leader.state.state_bytes + SETTINGS.log_bytes_max // 2
        assert not await leader.snapshot(USUAL + 5)

    virtual_time.run(story())


def test_follower_that_has_gone_holds_nothing_back(tmp_path: pathlib.Path) -> None:
    """Its snapshot will never be put in place."""

    async def story() -> None:
        leader = Leader(tmp_path / "a")
        await leader.write(30)
        leader.progress.last_contact_ms = -(1 << 40)
        leader.progress.recent_active = False
        assert not await leader.snapshot(10)

    virtual_time.run(story())
