"""The history: exact floors, bounded memory, no gap between disk and memory."""

from collections.abc import Sequence

import pytest

from kvraft.keyspace.commands import Set, SetHistorySize
from kvraft.keyspace.event_history import (
    BLOCK_EVENTS,
    MEMORY_BYTES_MAX,
    MEMORY_EVENTS,
    EventHistory,
    event_bytes,
    internal_event,
)
from kvraft.keyspace.keyspace import Keyspace
from kvraft.keyspace.records import RecordError, encode_event
from kvraft.keyspace.watchers import CloseReason, WatcherHub
from tests.keyspace.flushes import take_changes
from tests.keyspace.helpers import CLOCK_MS, Disk, acknowledged, done, watch


@pytest.mark.parametrize(
    ("events", "floor"), [(0, 0), (1, 1), (999, 1), (1000, 1), (1001, 2), (1224, 225), (5000, 4001)]
)
def test_the_floor_is_etcd_s(events: int, floor: int) -> None:
    """The oldest of the last 1,000 events."""
    history = EventHistory(events_max=1000)
    for index in range(1, events + 1):
        history.add(internal_event(index))
    assert (history.floor, history.last_index) == (floor, events)
    if events:
        assert len(history.read(floor, 10_000)) == events - floor + 1


def test_a_smaller_size_raises_the_floor_at_once_and_a_larger_one_brings_nothing_back() -> None:
    """The command itself is no event."""
    keyspace = Keyspace()
    for _ in range(100):
        done(keyspace, Set(b"/a", b"1"))
    acknowledged(keyspace, SetHistorySize(10))
    assert (keyspace.history.floor, keyspace.etcd_index) == (91, 100)
    acknowledged(keyspace, SetHistorySize(1000))
    assert keyspace.history.floor == 91
    assert [event.etcd_index for event in keyspace.history.read(91, 100)] == list(range(91, 101))


def test_bytes_are_bounded_in_whole_blocks() -> None:
    """Above the limit the oldest block goes; the floor is a function of the events alone."""
    size = event_bytes(internal_event(1))
    history = EventHistory(bytes_max=size * BLOCK_EVENTS * 4)
    for index in range(1, BLOCK_EVENTS * 10 + 6):
        history.add(internal_event(index))
        kept = index - history.floor + 1
        assert kept * size <= history.bytes_max
    assert history.floor % BLOCK_EVENTS == 0
    assert kept > BLOCK_EVENTS * 3
    assert sum(history.block_bytes.values()) == kept * size


def test_the_newest_block_stays_however_large() -> None:
    """One value above the limit is still in the history."""
    history = EventHistory(bytes_max=10)
    history.add(internal_event(1))
    history.add(internal_event(2))
    assert (history.floor, len(history.read(1, 9))) == (1, 2)


def _flush(keyspace: Keyspace, disk: Disk) -> None:
    disk.store(take_changes(keyspace))
    keyspace.mark_durable(keyspace.etcd_index)


def test_only_the_newest_and_what_is_not_durable_are_in_memory() -> None:
    """Older events come from the reader, without a gap and in slices."""
    disk = Disk()
    keyspace = Keyspace(history_reader=disk)
    for _ in range(3 * MEMORY_EVENTS):
        done(keyspace, Set(b"/a", b"1"))
    assert len(keyspace.history._events) == 3 * MEMORY_EVENTS
    _flush(keyspace, disk)
    for _ in range(3 * MEMORY_EVENTS):
        done(keyspace, Set(b"/a", b"1"))
    unflushed = 3 * MEMORY_EVENTS
    assert unflushed <= len(keyspace.history._events) <= unflushed + MEMORY_EVENTS
    _flush(keyspace, disk)
    for _ in range(3 * MEMORY_EVENTS):
        done(keyspace, Set(b"/a", b"1"))
    assert len(keyspace.history._events) <= 4 * MEMORY_EVENTS
    index = 1
    while index <= keyspace.etcd_index:
        events = keyspace.history.read(index, 700)
        assert [event.etcd_index for event in events] == list(range(index, index + len(events)))
        index += len(events)
    assert index == 9 * MEMORY_EVENTS + 1


def test_large_durable_events_leave_memory_early() -> None:
    """A thousand values of a mebibyte are not kept."""
    disk = Disk()
    keyspace = Keyspace(history_reader=disk)
    value = b"x" * (1 << 20)
    for _ in range(40):
        done(keyspace, Set(b"/a", value))
    _flush(keyspace, disk)
    for _ in range(200):
        done(keyspace, Set(b"/b", b""))
    assert sum(map(event_bytes, keyspace.history._events.values())) <= MEMORY_BYTES_MAX


class Faulty:
    """A reader that gives what it should not."""

    def __init__(self, records: list[tuple[int, bytes]]) -> None:
        self.records = records

    def history_slice(self, first_etcd_index: int, bytes_max: int) -> Sequence[tuple[int, bytes]]:
        """`HistoryReader`."""
        return self.records


def _durable(records: list[tuple[int, bytes]]) -> EventHistory:
    history = EventHistory(reader=Faulty(records))
    for index in range(1, 2 * MEMORY_EVENTS):
        history.add(internal_event(index))
        history.mark_durable(index)
    return history


@pytest.mark.parametrize(
    "records",
    [[(1, b"\x01")], [(1, encode_event(internal_event(1))), (3, encode_event(internal_event(3)))], [(0, b"")]],
)
def test_a_reader_that_gives_no_history_is_found_out(records: list[tuple[int, bytes]]) -> None:
    """Bytes that are no record, a hole, another index: never a silent gap for a watcher."""
    with pytest.raises(RecordError):
        _durable(records).read(1, 10)


@pytest.mark.parametrize("records", [[], [(2, b"")]])
def test_a_watcher_whose_history_was_replaced_on_disk_is_closed(records: list[tuple[int, bytes]]) -> None:
    """While an installed snapshot is loading, the reader already begins later than the keyspace believes."""
    hub = WatcherHub(_durable(records))
    seen = watch(hub, b"/a", 1)
    assert seen.closed == [CloseReason.CLEARED]
    assert hub.count == 0


def test_unflushed_begins_behind_the_last_flush_and_above_the_floor() -> None:
    """What fell below the floor need not be written any more."""
    keyspace = Keyspace(history_events_max=20)
    for _ in range(10):
        done(keyspace, Set(b"/a", b"1"))
    assert len(take_changes(keyspace).history) == 10
    for _ in range(30):
        done(keyspace, Set(b"/a", b"1"), CLOCK_MS)
    changes = take_changes(keyspace)
    assert (len(changes.history), changes.history_floor) == (20, 21)


def test_restart_takes_no_more_large_events_into_memory_than_a_run_keeps() -> None:
    """All 256 MiB of them stayed there until as many new ones had come."""
    disk = Disk()
    keyspace = Keyspace(history_reader=disk)
    value = b"x" * (1 << 20)
    for _ in range(36):
        done(keyspace, Set(b"/a", value))
    _flush(keyspace, disk)
    restarted = Keyspace(history_reader=disk)
    loading = restarted.begin_load(disk.image())
    while loading.load_some():
        pass
    kept = restarted.history._events.values()
    assert MEMORY_BYTES_MAX // 2 < sum(map(event_bytes, kept)) <= MEMORY_BYTES_MAX
    [oldest] = restarted.history.read(1, 1)
    assert oldest.etcd_index == 1
    assert restarted.history.read(36, 10)[-1].etcd_index == 36
