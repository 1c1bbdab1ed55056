"""Copies for backups: what is in them, and that none of what can happen to them ends the member."""

import asyncio
import dataclasses
import threading
import tracemalloc
from pathlib import Path
from typing import final

import pytest

from kvraft.records import BackupCopy, BackupFacts, BackupRefused
from kvraft.storage import codec, failpoints, state_store
from kvraft.storage.backup_file import open_backup
from kvraft.storage.codec import position_of
from kvraft.storage.spool import HISTORY, NODE
from tests.storage.support import ORIGIN, WAIT_S, LmdbHarness, batch, changes, entries_after

ENTRIES = entries_after(ORIGIN, 9)
NODES = {number: b"record %d" % number * 50 for number in range(1, 2000)}
HISTORY_RECORDS = {index: b"event %d" % index for index in range(1, 1500)}
FACTS = BackupFacts(0xA1, "n1", 1, 2, with_history=False)


async def fill(harness: LmdbHarness) -> None:
    """The state at index 7."""
    harness.start()
    await harness.persist(batch(1, ENTRIES))
    await harness.flush(position_of(ENTRIES[6]), changes(NODES, HISTORY_RECORDS, floor=3))


async def copy(harness: LmdbHarness, facts: BackupFacts = FACTS) -> BackupCopy | BackupRefused:
    """Ask for one, and wait."""
    future: asyncio.Future[BackupCopy | BackupRefused] = asyncio.get_running_loop().create_future()
    harness.state.spool_backup(facts, lambda: True, future.set_result)
    async with asyncio.timeout(WAIT_S):
        return await future


@pytest.fixture(autouse=True)
def no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of a test has no time."""
    monkeypatch.setattr(state_store, "BACKUP_REST", 0)


@pytest.mark.parametrize("with_history", [False, True])
async def test_copy_holds_the_durable_state(lmdb_harness: LmdbHarness, with_history: bool) -> None:
    """All nodes; of the history all that is kept, or its newest chunk, and then it says where that begins."""
    await fill(lmdb_harness)
    made = await copy(lmdb_harness, dataclasses.replace(FACTS, with_history=with_history))
    assert isinstance(made, BackupCopy)
    with open_backup(Path(made.path)) as (decoder, records):
        held = list(records)
        assert (decoder.finish(), decoder.taken_bytes) == (made.copy_id, made.size_bytes)
        header = decoder.header
    assert header.position == position_of(ENTRIES[6])
    nodes = {codec.number_of_key(key): codec.unseal(key, stored, "") for table, key, stored in held if table == NODE}
    assert nodes == NODES
    chunks = [(key, stored) for table, key, stored in held if table == HISTORY]
    events = [each for key, stored in chunks for each in codec.decode_history(key, stored, "")]
    first = 3 if with_history else codec.number_of_key(chunks[0][0])
    assert header.history_floor == first
    assert [index for index, _ in events if index >= first] == list(range(first, 1500))
    assert with_history == (len(chunks) > 1)
    assert lmdb_harness.state.backups() == [made]


async def test_memory_of_a_copy_does_not_grow_with_the_state(lmdb_harness: LmdbHarness) -> None:
    """It goes from the database to the file by frames."""
    lmdb_harness.start()
    await lmdb_harness.persist(batch(1, ENTRIES))
    large = {number: bytes(16 << 10) for number in range(1, 1000)}
    await lmdb_harness.flush(position_of(ENTRIES[6]), changes(large, HISTORY_RECORDS, floor=3))
    tracemalloc.start()
    try:
        made = await copy(lmdb_harness)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(made, BackupCopy)
    assert made.size_bytes > sum(map(len, large.values())) > 4 * peak_bytes


async def test_full_disk_refuses_a_copy_and_nothing_else(lmdb_harness: LmdbHarness) -> None:
    """Unlike a failed write of the member's own data, after which it stops."""
    await fill(lmdb_harness)

    def full() -> None:
        raise OSError(28, "No space left on device")

    failpoints.register("backup.before_close", full)
    refused = await copy(lmdb_harness)
    failpoints.clear()
    assert refused == BackupRefused("this member's disk could not hold a copy: No space left on device", is_room=True)
    assert list(lmdb_harness.spool.directory.glob("backups/*")) == []
    assert isinstance(await copy(lmdb_harness), BackupCopy)
    assert lmdb_harness.failures == []


async def test_copy_that_nobody_wants_is_given_up(lmdb_harness: LmdbHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Soon, and without a trace: a stop does not wait for it."""
    await fill(lmdb_harness)
    monkeypatch.setattr(state_store, "BACKUP_WORK_NS", -1)
    future: asyncio.Future[BackupCopy | BackupRefused] = asyncio.get_running_loop().create_future()
    lmdb_harness.state.spool_backup(FACTS, lambda: False, future.set_result)
    async with asyncio.timeout(WAIT_S):
        assert await future == BackupRefused("nobody waits for it any more")
    assert list(lmdb_harness.spool.directory.glob("backups/*")) == []


@final
class Rest(threading.Event):
    """Writes down for how long it was waited for."""

    def __init__(self, rests: list[float]) -> None:
        super().__init__()
        self._rests = rests

    def wait(self, timeout: float | None = None) -> bool:
        self._rests.append(timeout or 0)
        return super().wait(0)


async def test_copying_rests_for_longer_than_it_works(
    lmdb_harness: LmdbHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that those who write hardly notice."""
    await fill(lmdb_harness)
    rests: list[float] = []
    monkeypatch.setattr(state_store, "BACKUP_REST", 3)
    monkeypatch.setattr(state_store, "BACKUP_WORK_NS", 10_000)
    monkeypatch.setattr(lmdb_harness.state, "_closing", Rest(rests))
    assert isinstance(await copy(lmdb_harness), BackupCopy)
    assert len(rests) > 10
    assert min(rests) >= 3 * 10_000 / 1e9


async def test_unfinished_copy_of_an_earlier_process_is_removed(lmdb_harness: LmdbHarness) -> None:
    """And a finished one is there for whoever has begun to fetch it."""
    await fill(lmdb_harness)
    made = await copy(lmdb_harness)
    directory = lmdb_harness.spool.directory / "backups"
    (directory / "copy.part").write_bytes(b"half")
    (directory / "note").write_bytes(b"somebody's")
    assert lmdb_harness.state.backups() == [made]
    assert not (directory / "copy.part").exists()
