"""A disk that refuses: said once, and nothing acknowledged after it."""

import asyncio

import pytest

from kvraft.raft.effects import HardState
from kvraft.raft.restored import LogPosition
from kvraft.storage import failpoints
from kvraft.storage.codec import position_of
from kvraft.storage.errors import StorageError, StorageFailedError
from kvraft.storage.writer import FailureLatch
from tests.storage.support import ORIGIN, Harness, LmdbHarness, MemoryHarness, batch, changes, entries_after


def break_disk(harness: Harness, failpoint: str) -> None:
    """From now on every write fails."""
    error = OSError(5, "Input/output error")
    if isinstance(harness, MemoryHarness):
        harness.disk.error = error
        return

    def fail() -> None:
        raise error

    failpoints.register(failpoint, fail)


def repair_disk(harness: Harness) -> None:
    """Writes would succeed again."""
    failpoints.clear()
    if isinstance(harness, MemoryHarness):
        harness.disk.error = None


async def test_failed_batch_and_all_later_ones_are_never_answered(harness: Harness) -> None:
    """Even if the disk has recovered: LMDB and the kernel would both take the next write."""
    harness.start()
    entries = entries_after(ORIGIN, 5)
    await harness.persist(batch(1, entries[:1]))
    break_disk(harness, "log.before_commit")
    harness.log.persist(batch(2, entries[1:2]))
    await harness.until(lambda: bool(harness.failures))
    repair_disk(harness)
    harness.log.persist(batch(3, entries[1:3]))
    assert not harness.log.persist_now(batch(4, entries[3:4]))
    harness.storage.close()
    assert harness.persisted == [1]
    assert [type(failure) for failure in harness.failures] == [StorageFailedError]
    assert str(harness.failures[0]) == "writing the log failed: OSError: [Errno 5] Input/output error; stopping"
    harness.reopen()
    assert harness.all_entries() == entries[:1]


async def test_failed_immediate_commit_is_not_answered(harness: Harness) -> None:
    """`persist_now` says False, and the failure is reported as from the thread."""
    harness.start()
    break_disk(harness, "log.before_commit")
    assert not harness.log.persist_now(batch(1, entries_after(ORIGIN, 1)))
    await harness.until(lambda: bool(harness.failures))
    assert harness.persisted == []


async def test_failed_commit_after_the_sync_is_not_answered_either(lmdb_harness: LmdbHarness) -> None:
    """It may be durable, it may not: nobody was told, so both are right."""
    lmdb_harness.start()
    break_disk(lmdb_harness, "commit.before_watermark")
    entries = entries_after(ORIGIN, 1)
    lmdb_harness.log.persist(batch(1, entries))
    await lmdb_harness.until(lambda: bool(lmdb_harness.failures))
    failpoints.clear()
    lmdb_harness.storage.close()
    assert lmdb_harness.persisted == []
    lmdb_harness.reopen()
    assert lmdb_harness.all_entries() in ([], entries)


async def test_batch_that_was_queued_before_the_failure_is_not_written(lmdb_harness: LmdbHarness) -> None:
    """Not even attempted: the next commit of LMDB would succeed, on top of one that is lost."""
    lmdb_harness.start()
    entries = entries_after(ORIGIN, 2)
    await lmdb_harness.persist(batch(1, entries))
    await lmdb_harness.flush(position_of(entries[0]), changes({}))
    errors = [OSError(5, "Input/output error")]

    def fail_once() -> None:
        if errors:
            raise errors.pop()

    failpoints.register("log.before_commit", fail_once)
    with lmdb_harness.storage.log._writing:
        lmdb_harness.log.persist(batch(2, hard_state=HardState(2, 0, 0)))
        lmdb_harness.log.compact(position_of(entries[0]))  # what comes behind it is another transaction
        lmdb_harness.log.persist(batch(3, hard_state=HardState(3, 0, 0)))
    await lmdb_harness.until(lambda: bool(lmdb_harness.failures))
    lmdb_harness.storage.close()
    lmdb_harness.reopen()
    assert lmdb_harness.log.restored().hard_state.current_term == 0


async def test_only_the_first_of_several_failures_is_told() -> None:
    """Both threads may fail at once; the member is stopped by the first, which says most about the cause."""
    told: list[StorageError] = []
    latch = FailureLatch()
    latch.bind(asyncio.get_running_loop(), told.append)
    latch.report("writing the log", OSError(5, "first"))
    latch.report("writing the state", OSError(5, "second"))
    for _ in range(3):
        await asyncio.sleep(0)
    assert [str(failure) for failure in told] == ["writing the log failed: OSError: [Errno 5] first; stopping"]
    assert latch.failure is told[0]


async def test_success_that_was_on_its_way_when_something_failed_is_not_told() -> None:
    """What one thread has finished is not acknowledged once the other has failed."""
    told: list[int] = []
    failures: list[StorageError] = []
    latch = FailureLatch()
    latch.bind(asyncio.get_running_loop(), failures.append)
    latch.tell(told.append, 1)
    await asyncio.sleep(0)
    latch.tell(told.append, 2)
    latch.report("writing the state", OSError(5, "broken"))
    latch.tell(told.append, 3)
    for _ in range(3):
        await asyncio.sleep(0)
    assert told == [1]
    assert len(failures) == 1


async def test_flush_does_not_commit_before_the_log_has(lmdb_harness: LmdbHarness) -> None:
    """However long the log takes, the state waits: its index must be there after a crash."""
    lmdb_harness.start()
    entries = entries_after(ORIGIN, 2)
    loop, committing = asyncio.get_running_loop(), asyncio.Event()

    def tell() -> None:
        loop.call_soon_threadsafe(committing.set)

    failpoints.register("state.before_commit", tell)
    with lmdb_harness.storage.log._writing:
        lmdb_harness.log.persist(batch(1, entries))
        lmdb_harness.state.flush(position_of(entries[1]), b"", changes({1: b"a"}), lambda _: None)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await committing.wait()
    async with asyncio.timeout(20):
        await committing.wait()


async def test_failed_flush_stops_the_log_as_well(harness: Harness) -> None:
    """One disk: after an error on either environment the member must not go on."""
    harness.start()
    entries = entries_after(ORIGIN, 2)
    await harness.persist(batch(1, entries[:1]))
    break_disk(harness, "state.before_commit")
    flushed: list[LogPosition] = []
    harness.state.flush(position_of(entries[0]), b"", changes({1: b"a"}), flushed.append)
    await harness.until(lambda: bool(harness.failures))
    repair_disk(harness)
    harness.log.persist(batch(2, entries[1:]))
    harness.storage.close()
    assert harness.persisted == [1]
    assert flushed == []
    assert str(harness.failures[0]).startswith("writing the state failed: OSError")
    harness.reopen()
    assert harness.state.position == ORIGIN
    assert harness.stored() == (b"", {}, {})


async def test_entries_that_do_not_follow_the_log_stop_the_member(harness: Harness) -> None:
    """A gap would be a bug of ours; it must not reach the disk."""
    harness.start()
    entries = entries_after(ORIGIN, 5)
    harness.log.persist(batch(1, entries[2:]))
    await harness.until(lambda: bool(harness.failures))
    assert "entry 3 does not follow 0" in str(harness.failures[0])
    assert harness.persisted == []


async def test_flush_that_waits_for_a_broken_log_gives_up(lmdb_harness: LmdbHarness) -> None:
    """The state thread does not hang on entries that will never be durable."""
    lmdb_harness.start()
    entries = entries_after(ORIGIN, 2)
    flushed: list[LogPosition] = []
    lmdb_harness.state.flush(position_of(entries[1]), b"", changes({1: b"a"}), flushed.append)
    break_disk(lmdb_harness, "log.before_commit")
    lmdb_harness.log.persist(batch(1, entries))
    await lmdb_harness.until(lambda: bool(lmdb_harness.failures))
    lmdb_harness.storage.close()
    assert flushed == []


async def test_interrupted_compaction_is_finished_by_the_next_start(lmdb_harness: LmdbHarness) -> None:
    """What lies before the base is unreachable at once, and removed sooner or later."""
    lmdb_harness.start()
    entries = entries_after(ORIGIN, 600)
    for number in range(1, 601):
        lmdb_harness.log.persist_now(batch(number, entries[number - 1 : number]))
    position = position_of(entries[499])
    await lmdb_harness.flush(position, changes({}))
    break_disk(lmdb_harness, "log.compaction_slice")
    lmdb_harness.log.compact(position)
    await lmdb_harness.until(lambda: bool(lmdb_harness.failures))
    failpoints.clear()
    lmdb_harness.crash()
    lmdb_harness.reopen()
    assert lmdb_harness.all_entries() == entries[500:]
    assert _records(lmdb_harness) > 600
    lmdb_harness.start()
    last = position_of(entries[-1])
    for number in range(1, 20):
        (entry,) = entries_after(last, 1)
        await lmdb_harness.persist(batch(number, [entry]))
        last = position_of(entry)
    assert _records(lmdb_harness) < 150


def _records(harness: LmdbHarness) -> int:
    with harness.storage.log._file.reading() as transaction:
        return transaction.stat()["entries"]
