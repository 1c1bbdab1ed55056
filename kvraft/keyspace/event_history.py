"""The last events over all keys: where a watch begins, and what a member that was away catches up from.

Every etcd_index has exactly one event here, internal ones included, as in etcd; so the floor (the oldest index kept) is
a function of the log.
The newest events and those not yet durable are in memory; the rest is read back through a `HistoryReader`.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, Protocol, final

from kvraft.keyspace.events import Action, Event, NodeView
from kvraft.keyspace.records import RecordError, decode_event

EVENTS_MAX: Final = 100_000
"""Events kept by default: v2's 1,000 were its users' first complaint."""

HISTORY_BYTES_MAX: Final = 256 << 20
"""Bytes of keys and values that the history may hold, by `event_bytes`, dropped in blocks."""

BLOCK_EVENTS: Final = 256
"""Bytes are counted by blocks of this many indices, so that 400 numbers describe 100,000 events."""

MEMORY_EVENTS: Final = 1000
"""Durable events kept in memory too: what watchers nearly always ask for."""

MEMORY_BYTES_MAX: Final = 64 << 20
"""Durable events kept in memory give way beyond this, so that a thousand large values do not fill it."""

MEMORY_MAX: Final = (MEMORY_EVENTS, MEMORY_BYTES_MAX)

SLICE_BYTES: Final = 64 << 10
"""How much is read from disk at a time: some hundred events, about a millisecond."""

_EVENT_OVERHEAD: Final = 128
"""What an event is counted with beside its key and values."""


@final
class HistoryClearedError(Exception):
    """The reader no longer has the events: a snapshot install has replaced them, and its keyspace is still loading."""


class HistoryReader(Protocol):
    """Durable history; `member.interfaces.StateStore` satisfies it."""

    def history_slice(self, first_etcd_index: int, bytes_max: int) -> Sequence[tuple[int, bytes]]:
        """Records from an etcd_index on, ascending, at least one if there is any, cut after `bytes_max`."""
        ...


def event_bytes(event: Event) -> int:
    """About how large an event is, the same on every member and in every version: keys and values, not records."""
    node = event.node
    size = _EVENT_OVERHEAD + len(node.path)
    if node.value_json is not None:
        size += len(node.value_json)
    if event.prev_node is not None and event.prev_node.value_json is not None:
        size += len(event.prev_node.value_json)
    return size


def internal_event(etcd_index: int) -> Event:
    """What a change of members or version leaves in the history: counted there as etcd does, seen by nobody."""
    node = NodeView(
        path=b"",
        directory=False,
        value_json=None,
        ttl_s=0,
        expiration_ns=0,
        modified_index=etcd_index,
        created_index=etcd_index,
    )
    return Event(Action.SET, node, None, refresh=True)


@final
class EventHistory:
    """Events by etcd_index, without a gap from `floor` to `last_index`."""

    def __init__(
        self,
        events_max: int = EVENTS_MAX,
        reader: HistoryReader | None = None,
        bytes_max: int = HISTORY_BYTES_MAX,
    ) -> None:
        self.events_max = events_max
        self.bytes_max = bytes_max
        self.reader = reader
        """None: everything down to the floor stays in memory."""
        self.floor = 0
        """The oldest index kept; 0 while nothing has happened."""
        self.last_index = 0
        """The newest index: the store's etcd_index."""
        self.durable_index = 0
        """Events up to here can be read back through `reader`."""
        self.block_bytes: dict[int, int] = {}
        """Bytes of each block (index // BLOCK_EVENTS) from the floor on, ascending."""
        self.added_bytes = 0
        """Of all events since the start of this object; what was dropped is not taken off."""
        self._total_bytes = 0
        self._events: dict[int, Event] = {}
        self._sizes: deque[int] = deque()
        """`event_bytes` of each of these."""
        self._memory_first = 1
        self._memory_bytes = 0

    def add(self, event: Event) -> None:
        """Append the event of the next index and drop what has become too old."""
        index = event.node.modified_index
        assert index == self.last_index + 1
        self._events[index] = event
        self.last_index = index
        size = event_bytes(event)
        self._sizes.append(size)
        block = index // BLOCK_EVENTS
        self.block_bytes[block] = self.block_bytes.get(block, 0) + size
        self._total_bytes += size
        self.added_bytes += size
        self._memory_bytes += size
        if self._total_bytes > self.bytes_max or index - self.floor >= self.events_max or not self.floor:
            self._raise_floor()
        if self._memory_first <= self.durable_index or self._memory_first < self.floor:
            # Twice, so that what a flush has made durable leaves faster than new events come.
            self._forget_oldest()
            self._forget_oldest()

    def set_events_max(self, events_max: int) -> None:
        """Keep this many events from now on."""
        self.events_max = events_max
        if self.last_index:
            self._raise_floor()

    def mark_durable(self, etcd_index: int) -> None:
        """Events up to `etcd_index` have been flushed."""
        self.durable_index = max(self.durable_index, etcd_index)

    def unflushed(self, flushed_index: int) -> list[Event]:
        """Every event above `flushed_index` that is still kept, ascending."""
        first = max(flushed_index + 1, self.floor)
        return [self._events[index] for index in range(first, self.last_index + 1)]

    def read(self, first: int, count_max: int) -> list[Event]:
        """Some events from index `first` on, ascending and without a gap; empty only behind the last one.

        At most `count_max` from memory, a slice's worth from the reader.

        Raises:
            HistoryClearedError: the reader's history begins later than `first`.
            RecordError: the reader gave something that is no history.
        """
        assert first >= self.floor
        if first >= self._memory_first or self.reader is None:
            last = min(self.last_index, first + count_max - 1)
            return [self._events[index] for index in range(first, last + 1)]
        events: list[Event] = []
        records = self.reader.history_slice(first, SLICE_BYTES)
        if not records or records[0][0] > first:
            raise HistoryClearedError
        for expected, (index, record) in enumerate(records, first):
            if index != expected:
                message = f"durable history has index {index} where {expected} belongs"
                raise RecordError(message)
            events.append(decode_event(index, record))
            if index == self.last_index:
                break
        return events

    def restore(self, floor: int, last_index: int, block_bytes: dict[int, int], newest: Iterable[Event]) -> None:
        """Continue a stored history whose newest events, up to `last_index`, are given.

        Raises:
            RecordError: the events are not the newest ones without a gap.
        """
        self.floor = floor
        self.last_index = last_index
        self.durable_index = last_index
        self.block_bytes = block_bytes
        self._total_bytes = sum(block_bytes.values())
        self._events = {event.node.modified_index: event for event in newest}
        self._memory_first = last_index - len(self._events) + 1
        self._sizes = deque(map(event_bytes, self._events.values()))
        self._memory_bytes = sum(self._sizes)
        needed = max(floor if self.reader is None else last_index, 1)
        if self._memory_first > needed or list(self._events) != list(range(self._memory_first, last_index + 1)):
            message = f"stored history of {len(self._events)} events does not lead up to index {last_index}"
            raise RecordError(message)

    def _raise_floor(self) -> None:
        floor = max(self.floor, self.last_index - self.events_max + 1, 1)
        while self._total_bytes > self.bytes_max and len(self.block_bytes) > 1:
            oldest = next(iter(self.block_bytes))
            self._total_bytes -= self.block_bytes.pop(oldest)
            floor = max(floor, (oldest + 1) * BLOCK_EVENTS)
        while (oldest := next(iter(self.block_bytes))) < floor // BLOCK_EVENTS:
            self._total_bytes -= self.block_bytes.pop(oldest)
        self.floor = floor

    def _forget_oldest(self) -> None:
        """Drop the oldest event in memory if it is below the floor, or durable and not among the newest."""
        first = self._memory_first
        if first >= self.floor:
            if first > self.durable_index or self.reader is None:
                return
            if self.last_index - first < MEMORY_EVENTS and self._memory_bytes <= MEMORY_BYTES_MAX:
                return
        del self._events[first]
        self._memory_bytes -= self._sizes.popleft()
        self._memory_first = first + 1
