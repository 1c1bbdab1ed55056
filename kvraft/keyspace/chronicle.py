"""What every change comes to: an index, a place in the history, a link of the state hash, a word to whoever watches."""

from typing import Final, final

from kvraft.keyspace import state_hash
from kvraft.keyspace.event_history import EventHistory, internal_event
from kvraft.keyspace.events import Event
from kvraft.keyspace.records import Meta
from kvraft.keyspace.watchers import WatcherHub, WatchPoint

NOTHING_DOOMED: Final[list[WatchPoint]] = []


@final
class Chronicle:
    """Of one member."""

    def __init__(self, watchers: WatcherHub, history: EventHistory) -> None:
        self.etcd_index = 0
        """Counts every change of keys, members and version, and every expiry; a function of the log."""
        self.state_hash = state_hash.NO_STATE
        """A chain over every answer so far: equal on two members that have applied the same log and agree."""
        self.history = history
        self.watchers = watchers
        """Told of every event as it is applied."""
        watchers.history = history
        self._flushed_index = 0
        """The etcd_index at which the last flush began; its history need not be encoded again."""
        self._flushing_bytes = self._durable_bytes = 0
        """`history.added_bytes` when the last flush began, and when the last one began that is durable."""

    def record(self, event: Event, clock_ms: int, doomed: list[WatchPoint] = NOTHING_DOOMED) -> Event:
        """Count, hash, remember and publish an event; `doomed` is what the hub gave before a removal."""
        self.etcd_index = event.node.modified_index
        self.state_hash = state_hash.after_event(self.state_hash, event, clock_ms)
        self.history.add(event)
        if self.watchers.has_live:
            self.watchers.publish(event, doomed)
        return event

    def take_indices(self, changes: int) -> None:
        """For changes that no watcher of keys sees: each is an event of its own in the history, as in etcd."""
        for _ in range(changes):
            self.etcd_index += 1
            self.history.add(internal_event(self.etcd_index))

    # Flushing and restoring

    def begin_flush(self) -> list[Event]:
        """The history that no flush has taken yet."""
        unflushed = self.history.unflushed(self._flushed_index)
        self._flushed_index = self.etcd_index
        self._flushing_bytes = self.history.added_bytes
        return unflushed

    def mark_durable(self, etcd_index: int) -> None:
        """The flush begun at `etcd_index` is stored: history up to there may be read back from disk."""
        self.history.mark_durable(etcd_index)
        self._durable_bytes = self._flushing_bytes

    @property
    def unflushed_bytes(self) -> int:
        """Bytes of the events that are not durable yet, about."""
        return self.history.added_bytes - self._durable_bytes

    def restore(self, meta: Meta, newest: list[Event]) -> None:
        """Go on from a stored state."""
        self.history.events_max = meta.history_events_max
        self.history.restore(meta.history_floor, meta.etcd_index, meta.history_block_bytes, newest)
        self.etcd_index = meta.etcd_index
        self.state_hash = meta.state_hash
        self._flushed_index = meta.etcd_index
