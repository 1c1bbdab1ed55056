"""The log: its tail in memory, its durable part, and what a late disk may not prove."""

import pytest

from kvraft.raft.effects import Persist
from kvraft.raft.entries import Entry
from kvraft.raft.log import Log
from kvraft.raft.restored import LogPosition
from tests.raft.cluster import Disk, founded
from tests.raft.made import made_log


def log_of(terms: list[int], *, tail_bytes_max: int = 1 << 20) -> tuple[Log, Disk, list[Entry]]:
    """A log with these terms, all durable, over a disk that holds it."""
    entries = made_log(terms)
    disk = Disk(founded([1]))
    log = Log(disk, LogPosition(), LogPosition(), tail_bytes_max)
    log.extend(entries)
    store(log, disk, 1)
    return log, disk, entries


def issued(log: Log, batch_id: int) -> tuple[int, list[Entry]]:
    """Issue what the disk lacks."""
    truncate_from, entries = log.issue()
    end = entries[-1] if entries else None
    assert log.durability.issue(log.last_index, end, must_sync=True, promises=False) == batch_id
    return truncate_from, entries


def store(log: Log, disk: Disk, batch_id: int) -> None:
    """Issue what the disk lacks and make it durable at once."""
    truncate_from, entries = issued(log, batch_id)
    disk.write(Persist(batch_id, None, truncate_from, entries, must_sync=True))
    log.durability.persisted(batch_id)
    log.check()


def test_terms_and_positions_at_both_ends() -> None:
    """Index 0 has term 0; beyond the end there is nothing."""
    log, _, entries = log_of([1, 1, 2])
    assert [log.term_at(index) for index in range(5)] == [0, 1, 1, 2, 0]
    last = log.position(3)
    assert last is not None
    assert last.chain_hash == entries[-1].chain_hash
    assert log.position(4) is None


def test_slice_is_cut_by_bytes_but_never_before_the_first_entry() -> None:
    """A message carries at most its limit, and always at least one entry."""
    log, _, entries = log_of([1] * 10)
    size = len(entries[0].record)
    assert [entry.index for entry in log.slice(3, 9, 3 * size)] == [3, 4, 5]
    assert [entry.index for entry in log.slice(3, 9, 3 * size - 1)] == [3, 4]
    assert [entry.index for entry in log.slice(3, 9, 0)] == [3]
    assert [entry.index for entry in log.slice(8, 99, 1 << 20)] == [8, 9, 10]
    assert log.slice(11, 12, 1 << 20) == []


def test_oldest_entries_leave_memory_and_are_read_from_disk() -> None:
    """The tail is bounded in bytes; what left it is still part of the log."""
    log, disk, entries = log_of([1] * 100, tail_bytes_max=1000)
    log.bound_tail(committed_index=100)
    log.check()
    assert log._tail_first > 50
    assert sum(len(entry.record) for entry in log.slice(log._tail_first, 100, 1 << 20)) <= 1000
    before = disk.reads
    assert log.slice(5, 8, 1 << 20) == entries[4:8]
    assert log.term_at(7) == 1
    assert disk.reads == before + 2


def test_entries_that_are_not_durable_or_not_committed_stay_in_memory() -> None:
    """The reader cannot see the first, and the second are about to be read."""
    log, _, _ = log_of([1] * 100, tail_bytes_max=100)
    log.bound_tail(committed_index=20)
    assert log._tail_first == 21


def test_truncation_removes_the_tail_in_memory_and_on_disk() -> None:
    """Conflicting entries go at once; the disk hears of it with the next batch."""
    log, disk, entries = log_of([1] * 5)
    log.truncate(3)
    assert (log.last_index, log.last_hash, log.durable_index) == (2, entries[1].chain_hash, 2)
    store(log, disk, 2)
    assert disk.last_index == 2


def test_truncation_below_the_tail_in_memory() -> None:
    """The conflict may lie in the part that only the disk holds."""
    log, disk, entries = log_of([1] * 100, tail_bytes_max=1000)
    log.bound_tail(committed_index=100)
    log.truncate(10)
    log.extend(made_log([1] * 9 + [2] * 3)[9:])
    log.check()
    assert (log.last_index, log.last_term, log.term_at(9)) == (12, 2, 1)
    store(log, disk, 2)
    assert disk.entries[:9] == entries[:9]
    assert disk.last_index == 12


def test_late_acknowledgement_of_overwritten_entries_proves_nothing() -> None:
    """The ABA race: batch 2 wrote index 3 to 5 of term 1, which term 2 has replaced before it was durable."""
    log, _, _ = log_of([1, 1])
    log.extend(made_log([1] * 5)[2:])
    issued(log, 2)
    log.truncate(3)
    log.extend(made_log([1, 1, 2, 2, 2])[2:])
    truncate_from, entries = issued(log, 3)
    assert truncate_from == 3
    assert [entry.term for entry in entries] == [2, 2, 2]
    log.durability.persisted(2)
    assert log.durable_index == 2
    log.durability.persisted(3)
    assert log.durable_index == 5


def test_entries_cut_before_they_were_issued_never_reach_the_disk() -> None:
    """Append and truncation in one step: the batch holds only what is left, and cuts nothing."""
    log, disk, _ = log_of([1, 1])
    log.extend(made_log([1] * 5)[2:])
    log.truncate(4)
    truncate_from, entries = issued(log, 2)
    assert (truncate_from, [entry.index for entry in entries]) == (0, [3])
    assert disk.last_index == 2


def test_late_acknowledgement_after_a_snapshot_proves_nothing() -> None:
    """Batches from before a snapshot was installed do not speak for the new, empty log."""
    log, _, _ = log_of([1, 1])
    log.extend(made_log([1] * 60)[2:])
    issued(log, 2)
    log.reset(LogPosition(40, 2, bytes(16), 0))
    log.durability.persisted(2)
    assert (log.durable_index, log.last_index, log.last_term) == (40, 40, 2)
    log.check()


def test_compaction_keeps_the_position_before_the_first_entry() -> None:
    """The first entry still held is sent with its predecessor's term and hash."""
    log, disk, entries = log_of([1] * 50 + [2] * 50, tail_bytes_max=1000)
    log.bound_tail(committed_index=100)
    disk.compact(50)
    log.compact(disk.base)
    log.check()
    assert (log.first_index, log.term_at(50), log.term_at(49)) == (51, 1, 0)
    base = log.position(50)
    assert base is not None
    assert base.chain_hash == entries[49].chain_hash
    assert log.slice(50, 60, 1 << 20) == []
    assert log.slice(51, 52, 1 << 20) == entries[50:52]


def test_compaction_into_the_part_in_memory() -> None:
    """Compacted entries leave memory as well."""
    log, disk, _ = log_of([1] * 10)
    disk.compact(10)
    log.compact(disk.base)
    log.check()
    assert (log.first_index, log._tail_first, log.last_index) == (11, 11, 10)
    log.append(made_log([1] * 11)[10])
    log.check()


def test_compacted_entries_are_freed_a_thousand_a_step() -> None:
    """A hundred thousand at once would hold the step up for 25 ms; a snapshot's are freed in the same way."""
    log, disk, entries = log_of([1] * 3_500)
    entries.clear()
    disk.compact(3_000)
    log.compact(disk.base)
    held = [len(log._leaving)]
    while held[-1]:
        log.bound_tail(committed_index=3_500)
        held.append(len(log._leaving))
    assert held == [3_500, 2_500, 1_500, 500, 0]
    log.check()
    log.reset(LogPosition(4_000, 1))
    assert len(log._leaving) == 500
    log.bound_tail(committed_index=4_000)
    assert not log._leaving
    log.check()


def test_compaction_whose_position_nobody_knows() -> None:
    """A store that dropped entries first and gave only the index: the log goes on, but not from that very place."""
    log, disk, _ = log_of([1] * 100, tail_bytes_max=1000)
    log.bound_tail(committed_index=100)
    disk.compact(50)
    log.compact(LogPosition(50))
    log.check()
    assert log.position(50) is None
    assert log.position(51) is not None
    assert log.slice(51, 51, 0) != []


@pytest.mark.parametrize(
    ("index", "term", "agree"), [(9, 5, 9), (9, 4, 6), (9, 3, 5), (9, 2, 5), (9, 1, 3), (4, 9, 4), (9, 0, 0)]
)
def test_last_index_with_a_term_at_most(index: int, term: int, agree: int) -> None:
    """Whole terms are skipped at once, found by bisection."""
    log, _, _ = log_of([1, 1, 1, 2, 2, 4, 5, 5, 5])
    assert log.last_index_with_term_at_most(index, term) == agree


def test_bytes_beyond_an_index() -> None:
    """What back-pressure counts."""
    log, _, entries = log_of([1] * 10)
    size = len(entries[0].record)
    assert [log.bytes_beyond(index) for index in (0, 7, 10)] == [10 * size, 3 * size, 0]
