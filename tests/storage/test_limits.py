"""Where space ends: a full map, and snapshots that take long to send."""

from pathlib import Path

import pytest

from kvraft.raft.restored import LogPosition
from kvraft.storage.codec import position_of
from kvraft.storage.opening import Storage, open_storage
from tests.storage.support import CONFIGURATION, IDENTITY, ORIGIN, LmdbHarness, batch, changes, entries_after

pytestmark = pytest.mark.slow

TINY_MAP_BYTES = 1 << 20


class TinyHarness(LmdbHarness):
    """Its state has room for a mebibyte, its log for as much more as a test says."""

    log_map_bytes = 1 << 30
    state_map_bytes = 1 << 30

    def _open(self) -> Storage:
        return open_storage(
            self.path,
            IDENTITY,
            CONFIGURATION,
            log_map_bytes=self.log_map_bytes,
            state_map_bytes=self.state_map_bytes,
        )


class TinyState(TinyHarness):
    state_map_bytes = TINY_MAP_BYTES


class TinyLog(TinyHarness):
    log_map_bytes = TINY_MAP_BYTES


async def test_full_map_of_the_state_stops_the_member_and_leaves_the_last_flush(data_path: Path) -> None:
    """No flush in part, no acknowledgement after it; with a larger map the next start goes on from the log."""
    harness = TinyState(data_path)
    harness.start()
    entries = entries_after(ORIGIN, 100)
    await harness.persist(batch(1, entries))
    flushed: list[LogPosition] = []
    for number, entry in enumerate(entries):
        nodes = {number * 100 + node: b"%d" % number * 200 for node in range(1, 100)}
        harness.state.flush(position_of(entry), b"", changes(nodes, meta=b"%d" % number), flushed.append)
    await harness.until(lambda: bool(harness.failures))
    harness.log.persist(batch(2, entries_after(position_of(entries[-1]), 1)))
    harness.storage.close()
    assert "MapFullError" in str(harness.failures[0])
    assert len(harness.failures) == 1
    assert harness.persisted == [1]
    assert 0 < len(flushed) < 50
    whole = LmdbHarness(data_path)
    try:
        meta, nodes, _ = whole.stored()
        count = int(meta) + 1
        assert count >= len(flushed)  # what was durable in the moment of the failure was not told
        assert whole.state.position == position_of(entries[count - 1])
        assert len(nodes) == 99 * count
        assert whole.all_entries() == entries
    finally:
        whole.crash()


async def test_full_map_of_the_log_stops_the_member_and_leaves_whole_batches(data_path: Path) -> None:
    """As a full disk does: what was acknowledged is there, and nothing was acknowledged after the failure."""
    harness = TinyLog(data_path)
    harness.start()
    entries = entries_after(ORIGIN, 200, payload=b"p" * 10_000)
    for number, entry in enumerate(entries, 1):
        if not harness.log.persist_now(batch(number, [entry])):
            break
        harness.persisted.append(number)
    await harness.until(lambda: bool(harness.failures))
    assert not harness.log.persist_now(batch(300))
    harness.storage.close()
    assert "MapFullError" in str(harness.failures[0])
    assert 10 < len(harness.persisted) < 150
    whole = LmdbHarness(data_path)
    try:
        assert whole.all_entries() == entries[: len(harness.persisted)]
    finally:
        whole.crash()


async def _grown_bytes(harness: LmdbHarness, first: LogPosition, count: int) -> tuple[int, LogPosition]:
    """How much the state's file grows by so many flushes of the same keys."""
    file = harness.path / "state-1" / "data.mdb"
    before = file.stat().st_size
    for _ in range(count):
        (entry,) = entries_after(first, 1)
        await harness.persist(batch(entry.index, [entry]))
        first = position_of(entry)
        await harness.flush(first, changes(dict.fromkeys(range(1, 50), b"%d" % entry.index * 50)))
    return file.stat().st_size - before, first


async def test_snapshot_that_is_being_sent_holds_no_reader(lmdb_harness: LmdbHarness) -> None:
    """Its file is a copy, so the environment does not grow meanwhile; the control is a reader that stays open."""
    lmdb_harness.start()
    _, position = await _grown_bytes(lmdb_harness, ORIGIN, 10)
    snapshot = await lmdb_harness.snapshot()
    with Path(snapshot.path).open("rb") as sending:  # noqa: ASYNC230 -- a small file, opened once
        sending.read(10)
        copied, position = await _grown_bytes(lmdb_harness, position, 40)
    reader = iter(lmdb_harness.state.load().nodes)
    next(reader)  # a transaction that stays open as long as the iterator
    held, _ = await _grown_bytes(lmdb_harness, position, 40)
    assert copied <= 1 << 17
    assert next(reader)
    assert held > 4 * max(copied, 1 << 15)
