"""Flushes, compaction and snapshots both ways, and a stop in the middle of each."""

import asyncio
import pathlib
import shutil
from collections.abc import Iterator
from typing import cast, final

import pytest

from kvraft import clock
from kvraft.keyspace.changes import PendingChanges
from kvraft.keyspace.commands import Set
from kvraft.keyspace.keyspace import Keyspace
from kvraft.member.durable_state import DurableState
from kvraft.member.flush_turns import FlushTurns
from kvraft.member.raft_loop import RaftLoop
from kvraft.member.settings import MemberSettings
from kvraft.member.waiters import Waiters
from kvraft.raft.effects import HardState, Persist, SendSnapshot
from kvraft.raft.entries import Entry
from kvraft.raft.inputs import Input, LogCompacted, SnapshotSent
from kvraft.raft.progress import Progress
from kvraft.raft.restored import LogPosition
from tests.member import virtual_time
from tests.member.fakes import RecordingTransport, ScriptedRaft, Silence, applier_of, log_of, payload_of
from tests.member.host import CONFIGURATION, DiskLoop
from tests.storage.memory import MemoryDisk, open_memory


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One record a slice, so that a flush has many."""
    encode_some = PendingChanges.encode_some
    monkeypatch.setattr(PendingChanges, "encode_some", lambda pending: encode_some(pending, 1))
    return iter([None])


@final
class Inbox:
    """The loop, as far as snapshots and compaction go through it."""

    def __init__(self) -> None:
        self.raft = ScriptedRaft()
        self.put_in: list[Input] = []

    def put(self, *inputs: Input) -> None:
        self.put_in += inputs

    def add(self, item: Input) -> None:
        self.put_in.append(item)


@final
class State:
    """A `DurableState` over a memory disk whose log holds `entries`."""

    def __init__(self, directory: pathlib.Path, entries: list[Entry], settings: MemberSettings | None = None) -> None:
        directory.mkdir(exist_ok=True)
        self.disk = MemoryDisk.empty(CONFIGURATION)
        self.disk_loop = DiskLoop(asyncio.get_running_loop())
        self.storage = open_memory(self.disk, directory)
        self.heard = Silence()
        self.free_bytes, self.state_bytes = 1 << 40, 1 << 20
        self.inbox = Inbox()
        self.transport = RecordingTransport()
        self.storage.start(
            cast("asyncio.AbstractEventLoop", self.disk_loop),
            lambda _batch: None,
            lambda error: self.heard.failure.tell(str(error)),
        )
        assert self.storage.log.persist_now(Persist(1, HardState(1, 0, len(entries)), 0, entries, must_sync=True))
        waiters = Waiters(1, 1, 7000)
        self.applier = applier_of(Keyspace(), waiters, self.heard)
        self.durable = DurableState(
            self.applier,
            self.storage.log,
            self.storage.state,
            self.transport,
            cast("RaftLoop", self.inbox),
            settings or MemberSettings(),
            self.heard.on_installed,
            self.heard.failure,
            self.load,
            lambda size_bytes: self.state_bytes + size_bytes < self.free_bytes,
            FlushTurns(1, settings or MemberSettings(), clock.monotonic_ms()),
        )

    async def load(self) -> Keyspace:
        """What the disk holds now."""
        keyspace = Keyspace()
        keyspace.load(self.storage.state.load())
        return keyspace

    def apply(self, entries: list[Entry]) -> None:
        """Apply committed entries at once."""
        self.applier.enqueue(entries)
        while self.applier.apply_slice():
            pass


def keys(first: int, last: int) -> list[bytes | None]:
    return [payload_of(Set(path=b"/key%d" % number, value=b"v")) for number in range(first, last + 1)]


def paths(keyspace: Keyspace) -> set[bytes]:
    return {node.path for node in keyspace.nodes()} - {b"/"}


ALL = {b"/key%d" % number for number in range(1, 9)}


@pytest.mark.parametrize("slices", range(14))
def test_stop_at_any_slice_of_a_flush_leaves_the_whole_state_on_disk(tmp_path: pathlib.Path, slices: int) -> None:
    """The flush under way is waited for; what it took out of memory reaches the disk."""

    async def story() -> None:
        state = State(tmp_path / "a", entries := log_of(*keys(1, 8)))
        state.apply(entries[:6])
        state.durable.look_around(10_000_000)
        await virtual_time.turns(slices)
        state.apply(entries[6:])
        await asyncio.wait_for(state.durable.final_flush(), 60)
        assert state.storage.state.position.index == 8
        assert paths(await state.load()) == ALL
        assert state.heard.failures == []

    virtual_time.run(story())


@pytest.mark.parametrize("slices", range(14))
def test_stop_at_any_slice_of_a_snapshot_being_sent_leaves_the_whole_state_on_disk(
    tmp_path: pathlib.Path, slices: int
) -> None:
    """A transfer is given up, but not the flush that it has begun."""

    async def story() -> None:
        state = State(tmp_path / "a", entries := log_of(*keys(1, 8)))
        state.apply(entries[:6])
        state.durable.send_snapshot(SendSnapshot(2, 1))
        await virtual_time.turns(slices)
        state.apply(entries[6:])
        await asyncio.wait_for(state.durable.final_flush(), 60)
        assert state.storage.state.position.index == 8
        assert paths(await state.load()) == ALL
        assert state.heard.failures == []

    virtual_time.run(story())


def test_install_that_is_cancelled_by_a_stray_hand_stops_the_member(tmp_path: pathlib.Path) -> None:
    """The core would wait for its end for ever, and take nothing from any leader."""

    async def story() -> None:
        entries = log_of(*keys(1, 8))
        leader = State(tmp_path / "leader", entries)
        leader.apply(entries)
        leader.durable.send_snapshot(SendSnapshot(2, 1))
        await virtual_time.turns(100)
        _, snapshot, _ = leader.transport.snapshots[0]
        follower = State(tmp_path / "follower", [])
        shutil.copyfile(snapshot.path, follower.storage.state.spool.path_of(snapshot.snapshot_id))
        follower.disk_loop.latency_s = 0.05
        follower.durable.install(snapshot.installation(1))
        await virtual_time.turns()
        (installing,) = follower.durable._tasks
        installing.cancel()
        await virtual_time.turns()
        assert len(follower.heard.failures) == 1
        await asyncio.sleep(1)

    virtual_time.run(story())


@pytest.mark.parametrize("milliseconds", [0, 1, 20, 45, 55])
def test_stop_during_an_install_keeps_the_snapshot(tmp_path: pathlib.Path, milliseconds: int) -> None:
    """The old state is never flushed over the new one; the next start goes on from the snapshot."""

    async def story() -> None:
        entries = log_of(*keys(1, 8))
        leader = State(tmp_path / "leader", entries)
        leader.apply(entries)
        leader.durable.send_snapshot(SendSnapshot(2, 1))
        await virtual_time.turns(100)
        _, snapshot, _ = leader.transport.snapshots[0]
        follower = State(tmp_path / "follower", entries[:2])
        follower.apply(entries[:2])
        shutil.copyfile(snapshot.path, follower.storage.state.spool.path_of(snapshot.snapshot_id))
        follower.disk_loop.latency_s = 0.05
        follower.durable.install(snapshot.installation(1))
        await virtual_time.turns()
        in_progress = [follower.durable.is_installing]
        await asyncio.sleep(milliseconds / 1000)
        stopping = asyncio.ensure_future(follower.durable.final_flush())
        await asyncio.sleep(0.3)
        assert [*in_progress, follower.durable.is_installing] == [True, False]
        assert [position.index for _, position in follower.heard.installed] == [8]
        assert paths(follower.heard.installed[0][0]) == ALL
        follower.applier.replace(*follower.heard.installed[0])
        await asyncio.wait_for(stopping, 60)
        follower.storage.close()
        assert follower.heard.failures == []
        assert (follower.disk.position.index, follower.disk.last.index) == (8, 8)
        assert paths(await follower.load()) == ALL

    virtual_time.run(story())


def test_flush_waits_for_the_entries_behind_it(tmp_path: pathlib.Path) -> None:
    """The state on disk never gets ahead of this member's own durable log."""

    async def story() -> None:
        entries = log_of(*keys(1, 8))
        state = State(tmp_path / "a", entries[:5])
        state.apply(entries)
        state.durable.look_around(10_000_000)
        state.disk_loop.latency_s = 0.01
        await asyncio.sleep(1.0)
        assert state.storage.state.position.index == 0
        state.storage.log.persist(Persist(2, None, 0, entries[5:], must_sync=True))
        await asyncio.sleep(1.0)
        assert state.storage.state.position.index == 8

    virtual_time.run(story())


def test_look_around_flushes_after_the_interval_or_enough_commands_only(tmp_path: pathlib.Path) -> None:
    """A hot key is written once an interval, and a restart replays at most so many commands."""

    async def story() -> None:
        entries = log_of(*keys(1, 8))
        settings = MemberSettings(flush_interval_ms=1000, flush_commands_max=5)
        state = State(tmp_path / "a", entries, settings)
        now_ms = int(asyncio.get_running_loop().time() * 1000)
        state.apply(entries[:2])
        state.durable.look_around(now_ms + 1499)
        await virtual_time.turns(100)
        assert state.storage.state.position.index == 0
        state.durable.look_around(now_ms + 1500)
        await virtual_time.turns(100)
        assert state.storage.state.position.index == 2
        state.apply(entries[2:7])
        state.durable.look_around(now_ms)
        await virtual_time.turns(100)
        assert state.storage.state.position.index == 7

    virtual_time.run(story())


def test_large_values_are_flushed_sooner_and_counted_until_they_are_durable(tmp_path: pathlib.Path) -> None:
    """What the disk is owed stays bounded, and is known: each value twice, and a page a command."""

    async def story() -> None:
        value = b"v" * 100_000
        entries = log_of(*(payload_of(Set(path=b"/key%d" % number, value=value)) for number in range(4)))
        state = State(tmp_path / "a", entries, MemberSettings(flush_bytes_max=350_000))
        state.apply(entries[:3])
        state.durable.look_around(0)
        await virtual_time.turns(100)
        assert state.storage.state.position.index == 0
        assert 600_000 + 3 * 4096 <= state.applier.owed_bytes() < 610_000 + 3 * 4096
        state.apply(entries[3:])
        state.durable.look_around(0)
        await virtual_time.turns(100)
        assert (state.storage.state.position.index, state.applier.owed_bytes()) == (4, 0)

    virtual_time.run(story())


def test_no_snapshot_is_made_on_a_disk_without_room_for_it(tmp_path: pathlib.Path) -> None:
    """It would stop this member as well; the follower asks again."""

    async def story() -> None:
        state = State(tmp_path / "a", entries := log_of(*keys(1, 3)))
        state.apply(entries)
        state.free_bytes = state.state_bytes
        state.durable.send_snapshot(SendSnapshot(2, 1))
        await virtual_time.turns(100)
        assert (state.transport.snapshots, state.inbox.put_in) == ([], [SnapshotSent(2, 0)])
        state.free_bytes += 1
        state.durable.send_snapshot(SendSnapshot(2, 1))
        await virtual_time.turns(100)
        assert len(state.transport.snapshots) == 1
        assert state.heard.failures == []

    virtual_time.run(story())


def test_compaction_keeps_the_margin_and_tells_the_core_where_the_log_begins(tmp_path: pathlib.Path) -> None:
    """Entries that the flushed state covers go, all but `catch_up_entries`."""

    async def story() -> None:
        entries = log_of(*keys(1, 8))
        state = State(tmp_path / "a", entries, MemberSettings(snapshot_count=5, catch_up_entries=2))
        state.apply(entries)
        state.durable.look_around(10_000_000)
        await virtual_time.turns(100)
        last = entries[5]
        assert state.disk.base == LogPosition(6, last.term, last.chain_hash, last.clock_ms)
        assert state.inbox.put_in == [LogCompacted(6, last.term, last.chain_hash, last.clock_ms)]

    virtual_time.run(story())


@pytest.mark.parametrize(("match_index", "base_index"), [(3, 3), (5, 5), (8, 7), (None, 7)])
def test_log_of_large_values_is_cut_behind_what_followers_need(
    tmp_path: pathlib.Path, match_index: int | None, base_index: int
) -> None:
    """By bytes, to half of the limit; who is being fed keeps what it lacks, up to four times the limit.

    And what is kept for it makes no flush after the other: the next waits for as much more as it could drop.
    """

    async def story() -> None:
        payloads = [payload_of(Set(path=b"/key", value=b"v" * 10_000)) for _ in range(9)]
        entries = log_of(*payloads)
        settings = MemberSettings(log_bytes_max=41_000, snapshot_count=1000, catch_up_entries=1000)
        state = State(tmp_path / "a", entries, settings)
        if match_index is not None:
            state.inbox.raft.progress[2] = Progress(match_index + 1, 0, match_index, recent_active=True)
        state.apply(entries[:8])
        state.durable.look_around(0)
        await virtual_time.turns(100)
        assert state.disk.base.index == base_index
        state.apply(entries[8:])
        state.durable.look_around(0)
        await virtual_time.turns(100)
        assert state.storage.state.position.index == 8, "flushed again for nothing"

    virtual_time.run(story())


def test_snapshot_is_used_again_while_the_log_goes_on_from_it(tmp_path: pathlib.Path) -> None:
    """A second follower gets the same file; once the log begins behind it, a new one is made."""

    async def story() -> None:
        entries = log_of(*keys(1, 8))
        state = State(tmp_path / "a", entries)
        state.apply(entries[:4])
        for to_server, first_log_index, applied in ((2, 1, 6), (3, 5, 8), (2, 6, 8)):
            state.inbox.raft.first_log_index = first_log_index
            state.durable.send_snapshot(SendSnapshot(to_server, 1))
            await virtual_time.turns(100)
            state.transport.snapshots[-1][2](True)
            await virtual_time.turns()
            state.apply(entries[state.applier.position.index : applied])
        sent = [snapshot.position.index for _, snapshot, _ in state.transport.snapshots]
        assert sent == [4, 4, 8]
        assert state.inbox.put_in == [SnapshotSent(2, 4), SnapshotSent(3, 4), SnapshotSent(2, 8)]

    virtual_time.run(story())


def test_failed_transfer_is_told_as_index_zero(tmp_path: pathlib.Path) -> None:
    """The core asks again; while one transfer to a server runs, no second one begins."""

    async def story() -> None:
        state = State(tmp_path / "a", entries := log_of(*keys(1, 3)))
        state.apply(entries)
        state.durable.send_snapshot(SendSnapshot(2, 1))
        state.durable.send_snapshot(SendSnapshot(2, 1))
        await virtual_time.turns(100)
        assert len(state.transport.snapshots) == 1
        state.transport.snapshots[0][2](False)
        await virtual_time.turns()
        assert state.inbox.put_in == [SnapshotSent(2, 0)]

    virtual_time.run(story())


def test_stop_after_a_failure_does_not_wait_for_the_disk(tmp_path: pathlib.Path) -> None:
    """Storage that has failed never answers; the process must still end."""

    async def story() -> None:
        state = State(tmp_path / "a", entries := log_of(*keys(1, 3)))
        state.apply(entries)
        state.disk.error = OSError("no such disk")
        state.durable.look_around(10_000_000)
        await virtual_time.turns(100)
        assert state.heard.failures != []
        await asyncio.wait_for(state.durable.final_flush(), 60)
        assert state.storage.state.position.index == 0

    virtual_time.run(story())
