"""What the member may rely on in a state store, on LMDB and in memory alike."""

import asyncio
from pathlib import Path

from kvraft.raft.effects import HardState
from kvraft.storage.codec import position_of
from tests.storage.support import CONFIGURATION, ORIGIN, Harness, batch, changes, entries_after, read


async def test_new_state_is_empty_at_index_0(harness: Harness) -> None:
    """A first start has nothing to load."""
    assert harness.state.position == ORIGIN
    assert harness.state.configuration == b""
    assert harness.stored() == (b"", {}, {})


async def test_flush_is_whole_and_survives_a_crash(harness: Harness) -> None:
    """Nodes, removals, history, meta, position and configuration belong together."""
    harness.start()
    entries = entries_after(ORIGIN, 4)
    await harness.persist(batch(1, entries))
    await harness.flush(position_of(entries[1]), changes({1: b"a", 2: b"b", 3: b""}, {10: b"h10", 11: b"h11"}))
    await harness.flush(position_of(entries[3]), changes({2: b"B", 9: b"i"}, {12: b"h12"}, removed=[1], meta=b"m2"))
    assert harness.state.position == position_of(entries[3])
    harness.crash()
    harness.reopen()
    assert harness.state.position == position_of(entries[3])
    assert harness.state.configuration == CONFIGURATION.encode()
    assert harness.log.restored().applied_index == 4
    assert harness.stored() == (b"m2", {2: b"B", 3: b"", 9: b"i"}, {10: b"h10", 11: b"h11", 12: b"h12"})


async def test_flush_writes_and_removes_accounts(harness: Harness) -> None:
    """As nodes; to remove what was never written is nothing."""
    harness.start()
    entries = entries_after(ORIGIN, 2)
    await harness.persist(batch(1, entries))
    await harness.flush(position_of(entries[0]), changes({1: b"a"}, accounts={1: b"root", 2: b"guest", 3: b"u"}))
    await harness.flush(position_of(entries[1]), changes({}, accounts={3: b"U"}, removed_accounts=[2, 9]))
    harness.crash()
    harness.reopen()
    assert harness.stored_accounts() == {1: b"root", 3: b"U"}
    assert harness.stored()[1] == {1: b"a"}


async def test_flush_waits_until_its_position_is_durable_in_the_log(harness: Harness) -> None:
    """The state on disk never gets ahead of the member's own log, whatever order the two were asked in."""
    harness.start()
    entries = entries_after(ORIGIN, 3)
    terms_when_done: list[int] = []
    position = position_of(entries[2])
    harness.state.flush(position, b"", changes({1: b"a"}), lambda _: terms_when_done.append(harness.log.term_at(3)))
    for _ in range(10):
        await asyncio.sleep(0)
    assert harness.state.position == ORIGIN
    await harness.persist(batch(1, entries))
    await harness.snapshot()  # behind the flush on the same thread
    assert terms_when_done == [1]
    assert harness.state.position == position


async def test_flush_waits_for_its_entry_and_not_for_its_number(harness: Harness) -> None:
    """While a truncation is queued the disk holds that index in a term that lost, and a power cut would find both."""
    harness.start()
    common = entries_after(ORIGIN, 7)
    lost = entries_after(position_of(common[-1]), 3)
    won = entries_after(position_of(common[-1]), 2, term=2)
    await harness.persist(batch(1, [*common, *lost]))
    applied = position_of(won[-1])
    held_when_done: list[int] = []
    harness.state.flush(applied, b"", changes({1: b"a"}), lambda _: held_when_done.append(harness.log.term_at(9)))
    for _ in range(10):
        await asyncio.sleep(0)
    assert harness.state.position == ORIGIN
    await harness.persist(batch(2, won, truncate_from=8))
    await harness.snapshot()  # behind the flush on the same thread
    assert held_when_done == [2]
    harness.crash()
    harness.reopen()
    assert harness.log.restored().last == applied


async def test_history_is_cut_at_its_floor_and_read_in_slices(harness: Harness) -> None:
    """A watcher that is far behind reads the durable history in pieces, and never below the floor."""
    harness.start()
    entries = entries_after(ORIGIN, 3)
    await harness.persist(batch(1, entries))
    events = {index: b"event %d" % index for index in range(1, 1001)}
    await harness.flush(position_of(entries[0]), changes({}, {i: events[i] for i in range(1, 601)}))
    await harness.flush(position_of(entries[1]), changes({}, {i: events[i] for i in range(601, 1001)}, floor=300))
    read: dict[int, bytes] = {}
    following = 1
    while part := harness.state.history_slice(following, 200):
        assert sum(len(record) for _, record in part) <= 200
        read |= dict(part)
        following = part[-1][0] + 1
    assert read == {index: events[index] for index in range(300, 1001)}
    assert harness.state.history_slice(997, 0) == [(997, events[997])]
    assert harness.state.history_slice(1001, 100) == []
    harness.crash()
    harness.reopen()
    assert harness.stored()[2] == {index: events[index] for index in range(300, 1001)}


async def test_floor_beyond_all_history_leaves_none(harness: Harness) -> None:
    """What a reader gets depends on the floor alone, not on how records are grouped on disk."""
    harness.start()
    entries = entries_after(ORIGIN, 2)
    await harness.persist(batch(1, entries))
    await harness.flush(position_of(entries[0]), changes({}, {1: b"a", 2: b"b"}))
    await harness.flush(position_of(entries[1]), changes({}, floor=3))
    assert harness.state.history_slice(1, 100) == []
    await harness.snapshot()
    assert harness.stored()[2] == {}


async def test_snapshot_of_one_store_becomes_the_state_of_another(harness: Harness, tmp_path: Path) -> None:
    """State, history and configuration arrive as they were; the log continues behind the snapshot."""
    harness.start()
    entries = entries_after(ORIGIN, 9)
    await harness.persist(batch(1, entries))
    nodes = {number: b"record %d" % number * 50 for number in range(1, 3000)}
    history = {index: b"event %d" % index for index in range(5, 900)}
    position = position_of(entries[6])
    accounts = {key: b"user %d" % key for key in (1, 2, 7)}
    await harness.flush(position, changes(nodes, history, floor=5, meta=b"keyspace", accounts=accounts))
    snapshot = await harness.snapshot()
    assert snapshot.position == position
    assert snapshot.configuration == CONFIGURATION.encode()
    content = read(snapshot)
    assert len(content) == snapshot.size_bytes

    receiver = type(harness)(tmp_path / "receiver")
    receiver.start()
    stale = entries_after(ORIGIN, 12, term=1, payload=b"stale")
    await receiver.persist(batch(1, stale, hard_state=HardState(2, 0xA3, 1)))
    await receiver.flush(position_of(stale[0]), changes({7: b"old"}, accounts={3: b"old"}))
    incoming = receiver.spool.receive(snapshot.snapshot_id, snapshot.size_bytes)
    incoming.write(0, content)
    arrived = incoming.finish()
    assert arrived.position == position
    await receiver.install(arrived.installation(5))
    for _ in range(2):
        assert receiver.state.position == position
        assert receiver.state.configuration == CONFIGURATION.encode()
        assert receiver.stored() == (b"keyspace", nodes, history)
        assert receiver.stored_accounts() == accounts
        assert receiver.log.slice(1, 20, 1 << 20) == []
        assert [receiver.log.term_at(index) for index in (7, 8, 12)] == [0, 0, 0]
        receiver.crash()
        receiver.reopen()
    restored = receiver.log.restored()
    assert restored.base == restored.last == position
    assert restored.hard_state == HardState(2, 0xA3, 7)
    assert restored.configurations == ((7, CONFIGURATION),)
    receiver.start()
    await receiver.persist(batch(21, entries[7:]))
    assert receiver.log.slice(8, 9, 1 << 20) == entries[7:]
    await receiver.flush(position_of(entries[8]), changes({1: b"new"}))
    assert receiver.stored()[1] == nodes | {1: b"new"}
    receiver.crash()


async def test_flush_that_is_queued_behind_an_install_goes_to_the_new_state(harness: Harness) -> None:
    """Both are jobs of one thread; the flush must not write into what was just replaced."""
    harness.start()
    entries = entries_after(ORIGIN, 3)
    await harness.persist(batch(1, entries))
    await harness.flush(position_of(entries[1]), changes({1: b"a"}))
    snapshot = await harness.snapshot()
    incoming = harness.spool.receive(snapshot.snapshot_id, snapshot.size_bytes)
    incoming.write(0, read(snapshot))
    harness.state.install_snapshot(incoming.finish().installation(2), lambda: None)
    harness.state.flush(position_of(entries[1]), b"", changes({2: b"b"}), lambda _: None)
    await harness.snapshot()
    assert harness.stored()[1] == {1: b"a", 2: b"b"}
