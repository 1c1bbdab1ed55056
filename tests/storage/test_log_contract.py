"""What the member may rely on in a log store, on LMDB and in memory alike."""

import pytest

from kvraft.raft.configuration import Configuration
from kvraft.raft.effects import HardState
from kvraft.raft.entries import EntryKind
from kvraft.raft.restored import LogPosition
from kvraft.storage.codec import position_of
from tests.storage.support import CONFIGURATION, ORIGIN, Harness, batch, changes, entries_after


async def test_new_store_restores_an_empty_log_with_the_initial_configuration(harness: Harness) -> None:
    """A first start knows index 0, term 0, no vote, and the configuration it was told."""
    restored = harness.log.restored()
    assert harness.storage.fresh
    assert restored.hard_state == HardState(0, 0, 0)
    assert restored.base == restored.last == ORIGIN
    assert restored.configurations == ((0, CONFIGURATION),)
    assert restored.applied_index == 0


async def test_persisted_batches_are_answered_in_order_and_survive_a_crash(harness: Harness) -> None:
    """Every answered batch is there after a crash, entries and hard state."""
    harness.start()
    entries = entries_after(ORIGIN, 10)
    for number, entry in enumerate(entries, start=1):
        harness.log.persist(batch(number, [entry], hard_state=HardState(1, 0xA1, number - 1)))
    await harness.until(lambda: len(harness.persisted) == 10)
    assert harness.persisted == list(range(1, 11))
    harness.crash()
    harness.reopen()
    restored = harness.log.restored()
    assert restored.hard_state == HardState(1, 0xA1, 9)
    assert restored.last == position_of(entries[-1])
    assert harness.all_entries() == entries
    assert not harness.storage.fresh


async def test_persist_now_is_durable_when_it_returns_true(harness: Harness) -> None:
    """An idle store commits on the caller's thread and reports nothing later."""
    harness.start()
    entries = entries_after(ORIGIN, 3)
    assert harness.log.persist_now(batch(1, entries))
    assert harness.log.term_at(3) == 1
    harness.crash()
    assert harness.persisted == []
    harness.reopen()
    assert harness.all_entries() == entries


async def test_persist_now_queues_behind_a_waiting_batch(harness: Harness) -> None:
    """Order is kept: with something queued it returns False and answers later."""
    harness.start()
    entries = entries_after(ORIGIN, 2)
    harness.log.persist(batch(1, entries[:1]))
    assert not harness.log.persist_now(batch(2, entries[1:]))
    await harness.until(lambda: 2 in harness.persisted)
    assert harness.persisted == [1, 2]
    assert harness.log.slice(1, 2, 1 << 20) == entries


async def test_truncation_and_new_entries_replace_a_conflicting_tail(harness: Harness) -> None:
    """Section 5.3: a conflicting entry and all that follow it are removed, in the transaction that appends the new."""
    harness.start()
    old = entries_after(ORIGIN, 10)
    await harness.persist(batch(1, old))
    new = entries_after(position_of(old[5]), 2, term=3)
    await harness.persist(batch(2, new, truncate_from=7, hard_state=HardState(3, 0, 4)))
    assert harness.log.slice(1, 99, 1 << 20) == old[:6] + new
    assert [harness.log.term_at(index) for index in (6, 7, 8, 9)] == [1, 3, 3, 0]
    harness.crash()
    harness.reopen()
    assert harness.log.restored().last == position_of(new[-1])
    assert harness.all_entries() == old[:6] + new


async def test_truncation_without_new_entries_moves_the_end(harness: Harness) -> None:
    """The next batch continues from the entry before the truncation."""
    harness.start()
    old = entries_after(ORIGIN, 10)
    await harness.persist(batch(1, old), batch(2, truncate_from=4))
    new = entries_after(position_of(old[2]), 1, term=2)
    await harness.persist(batch(3, new))
    harness.crash()
    harness.reopen()
    assert harness.all_entries() == old[:3] + new


async def test_merged_batches_with_truncations_equal_the_same_batches_one_by_one(harness: Harness) -> None:
    """Batches that wait become one transaction; a later truncation removes entries of an earlier batch in it."""
    harness.start()
    first = entries_after(ORIGIN, 6)
    second = entries_after(position_of(first[3]), 4, term=2)
    third = entries_after(position_of(second[1]), 1, term=3)
    await harness.persist(
        batch(1, first), batch(2, second, truncate_from=5), batch(3, third, truncate_from=7), batch(4)
    )
    assert harness.log.slice(1, 99, 1 << 20) == first[:4] + second[:2] + third


async def test_slice_is_cut_by_bytes_but_never_before_its_first_entry(harness: Harness) -> None:
    """A reader always gets on, however small its budget."""
    harness.start()
    entries = entries_after(ORIGIN, 20, payload=b"y" * 100)
    await harness.persist(batch(1, entries[:7]), batch(2, entries[7:]))
    size = len(entries[2].record)
    assert harness.log.slice(3, 20, 0) == entries[2:3]
    assert harness.log.slice(3, 20, 3 * size) == entries[2:5]
    assert harness.log.slice(3, 4, 1 << 20) == entries[2:4]
    assert harness.log.slice(21, 30, 1 << 20) == []
    assert harness.log.slice(0, 5, 1 << 20) == []
    assert harness.log.term_at(0) == 0


async def test_entry_of_ten_mebibytes_is_stored(harness: Harness) -> None:
    """The largest request body fits, and its neighbours do not suffer."""
    harness.start()
    entries = entries_after(ORIGIN, 2)
    entries += entries_after(position_of(entries[-1]), 1, payload=bytes(10 << 20))
    entries += entries_after(position_of(entries[-1]), 2)
    await harness.persist(batch(1, entries))
    harness.crash()
    harness.reopen()
    assert harness.all_entries() == entries


async def test_commit_index_alone_rides_on_the_next_batch(harness: Harness) -> None:
    """A change of the commit index forces no sync, and has no answer; it becomes durable with whatever is."""
    harness.start()
    entries = entries_after(ORIGIN, 2)
    await harness.persist(batch(1, entries[:1], hard_state=HardState(1, 0xA1, 0)))
    assert not harness.log.persist_now(batch(2, hard_state=HardState(1, 0xA1, 1), must_sync=False))
    await harness.persist(batch(3, entries[1:]))
    harness.crash()
    harness.reopen()
    assert harness.log.restored().hard_state == HardState(1, 0xA1, 1)


async def test_vote_is_not_overwritten_by_an_older_hard_state_that_was_waiting(harness: Harness) -> None:
    """Section 5.2: a server votes once in a term, so a durable vote stands, whatever was deferred before it."""
    harness.start()
    await harness.persist(batch(1, entries_after(ORIGIN, 1), hard_state=HardState(5, 0, 0)))
    harness.log.persist(batch(2, hard_state=HardState(5, 0, 1), must_sync=False))
    harness.let_lazy_timer_fire()
    if not harness.log.persist_now(batch(3, hard_state=HardState(6, 3, 1))):
        await harness.until(lambda: 3 in harness.persisted)
    await harness.persist(batch(4))  # whatever was queued is written by now
    harness.crash()
    harness.reopen()
    assert harness.log.restored().hard_state == HardState(6, 3, 1)


async def test_answers_keep_their_order_around_what_the_lazy_timer_has_queued(harness: Harness) -> None:
    """An answer speaks for all batches before it, also for one that rode on what the timer has queued."""
    harness.start()
    entries = entries_after(ORIGIN, 3)
    for number in range(3):
        harness.log.remember_peer(0xA2, number)
        harness.let_lazy_timer_fire()
        harness.log.persist(batch(2 * number + 1, hard_state=HardState(1, 0, number), must_sync=False))
        harness.log.persist(batch(2 * number + 2, entries[number : number + 1]))
    await harness.until(lambda: 6 in harness.persisted)
    assert harness.persisted == [1, 2, 3, 4, 5, 6]
    assert harness.log.persist_now(batch(7)), "nothing is left to wait for"


@pytest.mark.parametrize("forgetful", [HardState(5, 4, 0), HardState(5, 0, 1), HardState(4, 3, 1)])
@pytest.mark.parametrize("merged", [False, True])
async def test_batch_that_takes_a_vote_back_stops_the_member(
    harness: Harness, forgetful: HardState, *, merged: bool
) -> None:
    """That would be a bug of ours; it must not reach the disk, nor be acknowledged."""
    harness.start()
    harness.log.persist(batch(1, hard_state=HardState(5, 3, 0)))
    if not merged:
        await harness.until(lambda: harness.persisted == [1])
    harness.log.persist(batch(2, hard_state=forgetful))
    await harness.until(lambda: bool(harness.failures))
    assert "would replace term 5 with a vote for 3" in str(harness.failures[0])
    assert 2 not in harness.persisted
    harness.storage.close()
    harness.reopen()
    assert harness.log.restored().hard_state in {HardState(0, 0, 0), HardState(5, 3, 0)}


async def test_bytes_of_the_log_are_known_and_where_to_cut_it(harness: Harness) -> None:
    """A few large values fill a disk as many small ones do: the member compacts by bytes as well."""
    harness.start()
    assert harness.log.held_bytes() < 1 << 16
    small = entries_after(ORIGIN, 50)
    large = entries_after(position_of(small[-1]), 24, payload=bytes(1 << 20))
    for number, entry in enumerate(small + large, start=1):
        await harness.persist(batch(number, [entry]))
    for _ in range(2):
        assert 24 << 20 <= harness.log.held_bytes() <= 26 << 20
        harness.crash()
        harness.reopen()
    harness.start()
    await harness.persist(batch(1, truncate_from=71), batch(2, entries_after(position_of(large[19]), 1)))
    # After a start only the sum is known, so what a truncation or a compaction took is an estimate.
    assert 20 << 20 <= harness.log.held_bytes() <= 24 << 20
    assert harness.log.index_leaving(1 << 30) == 0
    position = position_of(large[13])
    await harness.flush(position, changes({}))
    harness.log.compact(position)
    assert 1 << 20 <= harness.log.held_bytes() <= 8 << 20
    more = entries_after(position_of(entries_after(position_of(large[19]), 1)[0]), 8, payload=bytes(1 << 20))
    for number, entry in enumerate(more, start=3):
        await harness.persist(batch(number, [entry]))
    cut = harness.log.index_leaving(4 << 20)
    assert more[3].index <= cut <= more[5].index
    assert harness.log.index_leaving(0) == more[-1].index


async def test_close_finishes_what_is_queued(harness: Harness) -> None:
    """An orderly end loses nothing, the commit index and the peers included."""
    harness.start()
    entries = entries_after(ORIGIN, 5)
    harness.log.persist(batch(1, entries))
    harness.log.persist(batch(2, hard_state=HardState(1, 0, 4), must_sync=False))
    harness.log.remember_peer(0xA2, 3)
    harness.storage.close()
    harness.reopen()
    assert harness.all_entries() == entries
    assert harness.log.restored().hard_state.commit_index == 4
    assert harness.log.peer_seen(0xA2) == 3


async def test_peers_are_remembered_with_their_highest_index(harness: Harness) -> None:
    """A lower index does not make a peer forget what it once showed."""
    harness.start()
    assert harness.log.peer_seen(0xA2) is None
    harness.log.remember_peer(0xA2, 7)
    harness.log.remember_peer(0xA2, 5)
    harness.log.remember_peer(0xA3, 0)
    harness.storage.close()
    harness.reopen()
    assert harness.log.peer_seen(0xA2) == 7
    assert harness.log.peer_seen(0xA3) == 0
    assert harness.log.peer_seen(0xA4) is None


async def test_compaction_drops_the_prefix_for_readers_and_after_a_restart(harness: Harness) -> None:
    """Entries up to the position are not held any more; those behind it are."""
    harness.start()
    entries = entries_after(ORIGIN, 30)
    for number in range(10):
        await harness.persist(batch(number + 1, entries[3 * number : 3 * number + 3]))
    base = position_of(entries[13])
    await harness.flush(base, changes({1: b"a"}))
    harness.log.compact(base)
    assert harness.log.slice(14, 20, 1 << 20) == []
    assert harness.log.term_at(14) == 0
    assert harness.log.slice(15, 17, 1 << 20) == entries[14:17]
    await harness.persist(batch(11, entries_after(position_of(entries[-1]), 1)))
    harness.crash()
    harness.reopen()
    restored = harness.log.restored()
    assert restored.base == base
    assert restored.applied_index == 14
    assert harness.all_entries()[:16] == entries[14:]


async def test_compaction_of_the_whole_log_keeps_its_end(harness: Harness) -> None:
    """An empty log still knows index, term and hash of what came before."""
    harness.start()
    entries = entries_after(ORIGIN, 5)
    await harness.persist(batch(1, entries))
    base = position_of(entries[-1])
    await harness.flush(base, changes({}))
    harness.log.compact(base)
    more = entries_after(base, 2)
    await harness.persist(batch(2, more[:1]))
    harness.crash()
    harness.reopen()
    assert harness.log.restored().base == base
    harness.start()
    await harness.persist(batch(1, more[1:]))
    assert harness.log.slice(6, 7, 1 << 20) == more


async def test_configurations_follow_appends_truncations_and_compaction(harness: Harness) -> None:
    """The core restarts with the configuration at the base and each later one that is still in the log."""
    harness.start()
    first, second = Configuration.of([1, 2]), Configuration.of([1, 2, 3], [4], [5, 6])
    entries = entries_after(ORIGIN, 2)
    entries += entries_after(position_of(entries[-1]), 1, payload=first.encode(), kind=EntryKind.CONFIGURATION)
    entries += entries_after(position_of(entries[-1]), 2)
    entries += entries_after(position_of(entries[-1]), 1, payload=second.encode(), kind=EntryKind.CONFIGURATION)
    await harness.persist(batch(1, entries[:4]), batch(2, entries[4:]))
    harness.crash()
    harness.reopen()
    assert harness.log.restored().configurations == ((0, CONFIGURATION), (3, first), (6, second))
    harness.start()
    await harness.flush(position_of(entries[3]), changes({}))
    harness.log.compact(position_of(entries[3]))
    await harness.persist(batch(11, truncate_from=6))
    harness.crash()
    harness.reopen()
    assert harness.log.restored().configurations == ((4, first),)


async def test_commit_index_ahead_of_the_own_disk_is_cut_to_what_is_there(harness: Harness) -> None:
    """A leader may commit by its followers' disks before its own; after a crash it replays only what it has."""
    harness.start()
    await harness.persist(batch(1, entries_after(ORIGIN, 2), hard_state=HardState(1, 0, 9)))
    harness.crash()
    harness.reopen()
    assert harness.log.restored().hard_state.commit_index == 2


@pytest.mark.parametrize("index", [0, 1, 4])
async def test_reader_sees_nothing_before_the_first_commit(harness: Harness, index: int) -> None:
    """An empty log holds no entry."""
    assert harness.log.term_at(index) == 0
    assert harness.log.slice(index, 10, 100) == []
    assert harness.log.restored().last == LogPosition()
