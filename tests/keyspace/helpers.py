"""Short forms for tests of the keyspace: write, read as JSON, watch, store and load again."""

import json
from dataclasses import dataclass, field

from kvraft.keyspace.answers import Acknowledged
from kvraft.keyspace.commands import Command
from kvraft.keyspace.errors import ErrorCode, EtcdError
from kvraft.keyspace.events import Event
from kvraft.keyspace.keyspace import Keyspace
from kvraft.keyspace.state_records import StateChanges, StateImage
from kvraft.keyspace.watchers import CloseReason, Watcher, WatcherHub

CLOCK_MS = 1_000_000


def done(keyspace: Keyspace, command: Command, clock_ms: int = CLOCK_MS) -> Event:
    """Apply a command that must succeed with an event."""
    answer = keyspace.apply(command, clock_ms)
    assert isinstance(answer, Event), answer
    return answer


def refused(keyspace: Keyspace, command: Command, clock_ms: int = CLOCK_MS) -> tuple[ErrorCode, bytes, int]:
    """Apply a command that must fail; its code, cause and index. Checks that nothing but the hash has changed."""
    before = (keyspace.etcd_index, list(keyspace.nodes()), keyspace.history.last_index)
    answer = keyspace.apply(command, clock_ms)
    assert isinstance(answer, EtcdError), answer
    assert (keyspace.etcd_index, list(keyspace.nodes()), keyspace.history.last_index) == before
    return answer.code, answer.cause, answer.index


def acknowledged(keyspace: Keyspace, command: Command, clock_ms: int = CLOCK_MS) -> int:
    """Apply a command without an event; how many changes it made."""
    answer = keyspace.apply(command, clock_ms)
    assert isinstance(answer, Acknowledged), answer
    assert answer.etcd_index == keyspace.etcd_index
    return answer.changes


def read_bytes(
    keyspace: Keyspace, path: bytes, *, recursive: bool = False, in_order: bool = True, clock_ms: int = CLOCK_MS
) -> bytes:
    """The JSON of a GET, joined."""
    found = keyspace.get(path, recursive=recursive, in_order=in_order, clock_ms=clock_ms)
    assert not isinstance(found, EtcdError), found
    return found if isinstance(found, bytes) else b"".join(found)


def read(keyspace: Keyspace, path: bytes, *, recursive: bool = False, clock_ms: int = CLOCK_MS) -> dict[str, object]:
    """A GET, decoded."""
    node = json.loads(read_bytes(keyspace, path, recursive=recursive, clock_ms=clock_ms))
    assert isinstance(node, dict)
    return node


def not_found(keyspace: Keyspace, path: bytes) -> tuple[ErrorCode, bytes, int]:
    """A GET that must fail."""
    found = keyspace.get(path, recursive=False, in_order=False, clock_ms=CLOCK_MS)
    assert isinstance(found, EtcdError)
    return found.code, found.cause, found.index


@dataclass
class Seen:
    """A watch and what it was told."""

    events: list[Event] = field(default_factory=list)
    closed: list[CloseReason] = field(default_factory=list)
    watcher: Watcher | None = None
    consuming: bool = True

    @property
    def indices(self) -> list[int]:
        """The etcd_indices of the events, in the order of their arrival."""
        return [event.etcd_index for event in self.events]

    def on_event(self, event: Event) -> None:
        """Called by the hub."""
        assert self.watcher is not None, "nothing may be delivered before watch() has returned"
        self.events.append(event)
        if self.consuming:
            self.watcher.consumed()

    def catch_up(self, events_max: int = 7) -> None:
        """All slices of catching up."""
        assert self.watcher is not None
        while self.watcher.catch_up(events_max):
            pass

    def cancel(self) -> None:
        """The client goes away."""
        assert self.watcher is not None
        self.watcher.cancel()


def watch(hub: WatcherHub, path: bytes, since_index: int = 0, *, recursive: bool = False, stream: bool = True) -> Seen:
    """Open a watch that must not be refused, and let it catch up."""
    seen = Seen()
    watcher = hub.watch(
        path,
        recursive=recursive,
        stream=stream,
        since_index=since_index,
        on_event=seen.on_event,
        on_close=seen.closed.append,
    )
    assert isinstance(watcher, Watcher), watcher
    seen.watcher = watcher
    seen.catch_up()
    return seen


class Disk:
    """What a storage would hold: applies flushes, gives images and reads history back."""

    def __init__(self) -> None:
        self.nodes: dict[bytes, bytes] = {}
        self.history: dict[bytes, bytes] = {}
        self.meta = b""
        self.accounts: dict[bytes, bytes] = {}

    def store(self, changes: StateChanges) -> None:
        """One flush."""
        assert len({key for key, _ in changes.nodes}) == len(changes.nodes), "each record once"
        for key in changes.removed_nodes:
            assert key in self.nodes, "only records that exist are removed"
            del self.nodes[key]
        self.nodes.update(changes.nodes)
        keys = [key for key, _ in changes.history]
        assert keys == sorted(keys)
        self.history.update(changes.history)
        floor = changes.history_floor.to_bytes(8, "big")
        self.history = {key: record for key, record in self.history.items() if key >= floor}
        self.meta = changes.meta
        self.accounts.update(changes.accounts)
        for key in changes.removed_accounts:
            self.accounts.pop(key, None)

    def image(self) -> StateImage:
        """The whole state, as a restart reads it."""
        nodes, history, accounts = (iter(sorted(table.items())) for table in (self.nodes, self.history, self.accounts))
        return StateImage(self.meta, nodes, history, accounts)

    def history_slice(self, first_etcd_index: int, bytes_max: int) -> list[tuple[int, bytes]]:
        """`HistoryReader`."""
        records: list[tuple[int, bytes]] = []
        size = 0
        for key, record in sorted(self.history.items()):
            index = int.from_bytes(key, "big")
            if index >= first_etcd_index and (not records or size < bytes_max):
                records.append((index, record))
                size += len(record)
        return records


def assert_same(one: Keyspace, other: Keyspace) -> None:
    """Two keyspaces are in the same state, in every respect that the log decides."""
    assert list(one.nodes()) == list(other.nodes())
    assert one.state_hash == other.state_hash
    assert one.etcd_index == other.etcd_index
    assert one.cluster == other.cluster
    assert one.next_deadline_ms() == other.next_deadline_ms()
    mine, others = one.history, other.history
    assert (mine.floor, mine.last_index, mine.events_max) == (others.floor, others.last_index, others.events_max)
    assert mine.block_bytes == others.block_bytes
    if mine.floor:
        assert _all_events(one) == _all_events(other)


def _all_events(keyspace: Keyspace) -> list[Event]:
    events: list[Event] = []
    index = keyspace.history.floor
    while index <= keyspace.history.last_index:
        read_events = keyspace.history.read(index, 100)
        events.extend(read_events)
        index += len(read_events)
    return events
