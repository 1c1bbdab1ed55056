"""`--force-new-cluster` on disk: one transaction makes a cluster of one of everything that a directory holds."""

import asyncio
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import pytest

from kvraft.founding import Founder, Identity
from kvraft.raft.configuration import Configuration
from kvraft.raft.effects import HardState
from kvraft.raft.entries import Entry, EntryKind, make_entry
from kvraft.raft.messages import InstallSnapshot
from kvraft.raft.restored import LogPosition
from kvraft.storage import failpoints
from kvraft.storage.codec import position_of
from kvraft.storage.environment import stored_identity
from kvraft.storage.errors import StorageError, WrongDirectoryError
from kvraft.storage.going_alone import Survivor, WentAlone
from kvraft.storage.opening import Storage, open_storage
from tests.storage.child import open_small
from tests.storage.support import (
    CONFIGURATION,
    IDENTITY,
    ORIGIN,
    SMALL_MAP_BYTES,
    LmdbHarness,
    batch,
    changes,
    entries_after,
    read,
)

OWN = 0xA1
FOUNDING = b"the new founding"


def _forget(others: Collection[int]) -> bytes:
    return b"forget " + ",".join(f"{other:x}" for other in sorted(others)).encode()


SURVIVOR = Survivor(FOUNDING, _forget)
FORCED = replace(IDENTITY, forced=True)
ENTRIES = entries_after(ORIGIN, 9)


def _open(path: Path, *, identity: Identity = FORCED, survivor: Survivor | None = SURVIVOR) -> Storage:
    return open_storage(
        path,
        identity,
        CONFIGURATION,
        survivor=survivor,
        log_map_bytes=SMALL_MAP_BYTES,
        state_map_bytes=SMALL_MAP_BYTES,
    )


async def _filled(path: Path, entries: list[Entry], hard_state: HardState, applied: int) -> None:
    """A member that was killed with this log, and a state that stands at `applied`."""
    harness = LmdbHarness(path)
    harness.start()
    await harness.persist(batch(1, entries, hard_state=hard_state))
    if applied:
        await harness.flush(position_of(entries[applied - 1]), changes({1: b"node"}))
    harness.crash()


def _added(storage: Storage, behind: LogPosition) -> list[Entry]:
    restored = storage.log.restored()
    return storage.log.slice(behind.index + 1, restored.last.index, 1 << 20)


async def test_everything_that_is_held_is_kept_and_committed(data_path: Path) -> None:
    """Applied, committed and neither: a tail is only known to be lost where others decide, and they are gone."""
    await _filled(data_path, ENTRIES, HardState(3, 0xA2, 6), applied=4)
    storage = _open(data_path)
    last = position_of(ENTRIES[-1])
    assert storage.went_alone == WentAlone(last, 3, (0xA2, 0xA3))
    restored = storage.log.restored()
    assert restored.hard_state == HardState(4, OWN, 11)
    assert storage.log.slice(1, 9, 1 << 20) == ENTRIES
    alone, forgets = _added(storage, last)
    assert (alone.term, alone.kind, alone.clock_ms) == (4, EntryKind.CONFIGURATION, last.clock_ms)
    configuration = Configuration.of([OWN], removed=[0xA2, 0xA3], founding=FOUNDING)
    assert Configuration.decode(alone.payload) == configuration
    assert restored.configurations == ((0, CONFIGURATION), (10, configuration))
    assert (forgets.term, forgets.kind, forgets.payload) == (4, EntryKind.COMMAND, b"forget a2,a3")
    assert storage.state.position.index == 4
    storage.close()
    assert stored_identity(data_path) == FORCED


async def test_state_that_came_as_a_snapshot_is_enough(data_path: Path) -> None:
    """The log behind it is empty."""
    sender = LmdbHarness(data_path.with_name("sender"))
    sender.start()
    await sender.persist(batch(1, ENTRIES, hard_state=HardState(3, 0, 9)))
    await sender.flush(position_of(ENTRIES[-1]), changes({1: b"node"}))
    snapshot = await sender.snapshot()
    receiver = LmdbHarness(data_path)
    receiver.start()
    incoming = receiver.spool.receive(snapshot.snapshot_id, snapshot.size_bytes)
    incoming.write(0, read(snapshot))
    installation: InstallSnapshot = incoming.finish().installation(3)
    await receiver.install(installation)
    await receiver.persist(batch(1, hard_state=HardState(3, 0, 9)))
    receiver.storage.close()
    sender.storage.close()
    storage = _open(data_path)
    assert storage.went_alone == WentAlone(position_of(ENTRIES[-1]), 0, (0xA2, 0xA3))
    assert [entry.index for entry in _added(storage, position_of(ENTRIES[-1]))] == [10, 11]
    assert storage.state.position == position_of(ENTRIES[-1])
    storage.close()


async def test_second_time_changes_nothing(data_path: Path) -> None:
    """Nor does a crash between the log and the identity."""
    await _filled(data_path, ENTRIES, HardState(3, 0xA2, 6), applied=4)

    def fail() -> None:
        raise OSError(5, "killed here")

    failpoints.register("alone.before_identity", fail)
    with pytest.raises(OSError, match="killed here"):
        _open(data_path)
    failpoints.clear()
    assert stored_identity(data_path) == IDENTITY
    for _ in range(2):
        storage = _open(data_path)
        assert storage.went_alone is None
        assert storage.log.restored().last.index == 11
        storage.close()
        assert stored_identity(data_path) == FORCED


async def test_that_it_was_done_is_known_until_a_start_without_the_flag(data_path: Path) -> None:
    """So a flag that stays in a unit file destroys nothing, and one that is given anew means it."""
    await _filled(data_path, ENTRIES, HardState(3, 0xA2, 6), applied=4)
    _open(data_path).close()
    _open(data_path, survivor=None).close()
    assert stored_identity(data_path) == FORCED
    _open(data_path, identity=IDENTITY, survivor=None).close()
    assert stored_identity(data_path) == IDENTITY


async def test_cluster_that_has_grown_again_is_parted_from_again(data_path: Path) -> None:
    """Who was removed before stays so, and the keyspace is told of the new ones."""
    await _filled(data_path, ENTRIES, HardState(3, 0xA2, 6), applied=4)
    _open(data_path).close()
    storage = _open(data_path, identity=IDENTITY, survivor=None)
    storage.start(asyncio.get_running_loop(), lambda _: None, _raise)
    last = storage.log.restored().last
    grown = Configuration.of([OWN, 0xB2], [0xB3], [0xA2, 0xA3], FOUNDING)
    change = make_entry(last.chain_hash, 12, 5, EntryKind.CONFIGURATION, last.clock_ms, grown.encode())
    assert storage.log.persist_now(batch(1, [change], hard_state=HardState(5, OWN, 11)))
    storage.close()
    members = (Founder(OWN, "n1", ("http://a:1",)), Founder(0xB4, "", ("http://b:1",)))
    storage = _open(data_path, identity=replace(FORCED, members=members), survivor=Survivor(FOUNDING[::-1], _forget))
    assert storage.went_alone == WentAlone(position_of(change), 1, (0xA2, 0xA3, 0xB2, 0xB3))
    alone, forgets = _added(storage, position_of(change))
    assert Configuration.decode(alone.payload) == Configuration.of(
        [OWN], removed=[0xA2, 0xA3, 0xB2, 0xB3, 0xB4], founding=FOUNDING[::-1]
    )
    assert forgets.payload == b"forget b2,b3,b4"
    storage.close()


def _raise(error: StorageError) -> None:
    raise error


def test_directory_that_holds_nothing_yet_is_no_survivor(data_path: Path) -> None:
    """Of a member that waits for its first entry, or for everybody's answer; it is left as it is."""
    open_small(data_path).close()
    with pytest.raises(WrongDirectoryError, match="holds nothing of the cluster yet: go on with a member that has"):
        _open(data_path)
    open_small(data_path).close()
    assert stored_identity(data_path) == IDENTITY
