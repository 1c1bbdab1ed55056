"""The disk is looked after before it fails."""

import asyncio
import pathlib
from typing import final

import pytest

from kvraft.keyspace.commands import AddMember, Authorized, Command, Delete, RemoveMember, Set
from kvraft.keyspace.errors import EtcdError
from kvraft.member import outcomes
from kvraft.member.disk_watch import LOOK_BYTES, MARGIN_BYTES, SCRUB_ENTRIES, DiskWatch
from kvraft.raft.entries import ZERO_HASH, Entry, EntryKind
from kvraft.raft.restored import LogPosition
from tests.member.test_member import Follower, tell

UNCOMMITTED = 64 << 20
MANY_BYTES = 1 << 40


@final
class ScrubbedLog:
    """A log of a hundred entries that remembers how it was scrubbed."""

    def __init__(self) -> None:
        self.verified: list[int] = []

    def scrub(self, after: LogPosition | None, entries_max: int) -> LogPosition | None:
        first = 1 if after is None else after.index + 1
        last = min(100, first + entries_max - 1)
        self.verified.extend(range(first, last + 1))
        return None if last == 100 else LogPosition(last)


@final
class Disk:
    """What a watch sees of a disk."""

    def __init__(self, free: int) -> None:
        self.free, self.owed = free, 0
        self.log = ScrubbedLog()
        self.watch = DiskWatch(
            self.log,  # type: ignore[arg-type] # only one of its methods is asked for
            lambda: self.free,
            lambda: self.owed,
            UNCOMMITTED,
        )

    def at(self, free: int, owed: int = 0) -> tuple[bool, bool]:
        """Whether it is full, and exhausted, with so many bytes."""
        self.free, self.owed = free, owed
        self.watch.look()
        return self.watch.is_full, self.watch.is_exhausted

    def after_writing(self, size: int) -> bool:
        """Whether it is seen to be full by the step that brings so many bytes of entries."""
        self.watch.wrote([Entry(1, 1, EntryKind.COMMAND, 0, ZERO_HASH, bytes(size))])
        return self.watch.is_full


def test_writes_are_refused_while_all_that_is_accepted_still_fits() -> None:
    """Full: beside the margin the uncommitted bytes have room. The alarm ends a margin above, and does not flicker."""
    full = MARGIN_BYTES + UNCOMMITTED
    disk = Disk(MANY_BYTES)
    assert [disk.at(free)[0] for free in (full, full - 1, 0)] == [False, True, True]
    assert [disk.at(full + above)[0] for above in (0, MARGIN_BYTES - 1, MARGIN_BYTES, 0)] == [True, True, False, False]


def test_what_is_applied_and_not_flushed_counts_as_used() -> None:
    """The flush will need it, at a moment when nobody asks any more whether there is room."""
    owed = 300 << 20
    full = MARGIN_BYTES + UNCOMMITTED + owed
    disk = Disk(MANY_BYTES)
    assert disk.at(full, owed) == (False, False)
    assert disk.at(full - 1, owed) == (True, False)
    assert disk.at(MARGIN_BYTES + owed - 1, owed) == (True, True)


@pytest.mark.parametrize("helpful", [Delete(path=b"/key"), AddMember(2, ("http://h:1",)), RemoveMember(2)])
def test_what_helps_is_taken_until_only_the_debt_fits(helpful: Command) -> None:
    """A delete is an event as well, and its previous value is stored with it; another member may have a larger disk."""
    disk = Disk(MANY_BYTES)
    put = Set(path=b"/key")
    answers = []
    for free in (MANY_BYTES, MARGIN_BYTES, MARGIN_BYTES - 1):
        disk.at(free)
        answers.append((disk.watch.refuses(put), disk.watch.refuses(helpful)))
        judged = disk.watch.refuses(Authorized(1, put)), disk.watch.refuses(Authorized(1, helpful))
        assert judged == answers[-1], "who asked does not matter"
    assert answers == [(False, False), (True, False), (True, True)]


def test_a_burst_of_entries_is_followed_by_a_look_at_once() -> None:
    """Between two looks of the housekeeping a fast disk takes more than the margin."""
    disk = Disk(MANY_BYTES)
    disk.free = 0
    assert [disk.after_writing(size) for size in (LOOK_BYTES - 1, 0, 1)] == [False, False, True]
    disk.at(MANY_BYTES)
    disk.free = 0
    assert [disk.after_writing(size) for size in (1, LOOK_BYTES - 2, 1)] == [False, False, True]


def test_every_old_entry_is_verified_again_and_again() -> None:
    """Slice by slice from the base to the end, then anew."""
    disk = Disk(MANY_BYTES)
    for _ in range(2 * (100 // SCRUB_ENTRIES)):
        disk.watch.scrub()
    assert disk.log.verified == [*range(1, 101), *range(1, 101)]


def test_member_with_an_exhausted_disk_hears_no_entries_and_is_fed_again_later(tmp_path: pathlib.Path) -> None:
    """Its own clients are told at once; nothing is written that a leader sends; with room it goes on where it was."""

    async def story(follower: Follower) -> None:
        await follower.lead(2, 1, None)
        follower.free_bytes = MARGIN_BYTES - 1
        follower.member._housekeeping.look_around(int(asyncio.get_running_loop().time() * 1000))
        last = follower.last
        await follower.lead(2, 1, None, None)
        assert follower.disk.last.index == follower.member.clients.raft_index == 1
        await follower.post()
        [answer] = follower.outcomes
        assert isinstance(answer, EtcdError) and answer.cause == outcomes.NO_SPACE
        follower.free_bytes = MANY_BYTES
        follower.member._housekeeping.look_around(int(asyncio.get_running_loop().time() * 1000) + 100)
        follower.last = last
        await follower.lead(2, 1, None, None)
        assert follower.disk.last.index == follower.member.clients.raft_index == 3

    tell(tmp_path, story)
