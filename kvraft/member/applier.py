"""Gives every committed entry to the keyspace, in log order, and answers the requests that waited for them.

Long runs are cut into slices, so that heartbeats and reads go on while a backlog is applied.
"""

from collections import deque
from collections.abc import Callable
from typing import Final, final

from kvraft.keyspace.command_codec import decode_command
from kvraft.keyspace.keyspace import Keyspace
from kvraft.member import outcomes
from kvraft.member.settings import STATE_HASH_INTERVAL
from kvraft.member.waiters import REQUEST_ID_BYTES, Waiters
from kvraft.raft.configuration import Configuration
from kvraft.raft.entries import HEADER_BYTES, Entry, EntryKind
from kvraft.raft.restored import LogPosition
from kvraft.records import Written

_COMMAND_OFFSET = HEADER_BYTES + REQUEST_ID_BYTES
_PAGE_BYTES: Final = 4096
"""LMDB's page: the memory page of every machine that this runs on, or a part of it."""
_CLOCK_CHECK_ENTRIES = 32
"""How many entries are applied between two looks at the clock: about 0.3 ms of work."""


@final
class Applier:
    """The one caller of `Keyspace.apply`."""

    def __init__(
        self,
        keyspace: Keyspace,
        position: LogPosition,
        configuration: Configuration,
        waiters: Waiters,
        monotonic_ms: Callable[[], int],
        slice_ms: int,
    ) -> None:
        self.keyspace = keyspace
        self.position = position
        """The last applied entry's place in the log."""
        self.configuration = configuration
        """The configuration in force at `position`: it goes with the state to disk."""
        self.applied_commands = 0
        """How many commands were applied since the start."""
        self.flushed_commands = 0
        """How many of them are in the state on disk, as the flusher says."""
        self.on_applied: Callable[[int], None]
        """Everything up to this index is in the keyspace; called once a slice."""
        self.on_later_term: Callable[[int], None]
        """The first entry of this term is about to be applied: commands given to earlier terms' leaders are lost."""
        self.on_state_hash: Callable[[int, bytes], None]
        """What the keyspace says of itself at a compared index."""
        self._waiters = waiters
        self._monotonic_ms = monotonic_ms
        self._slice_ms = slice_ms
        self._queue: deque[Entry] = deque()

    def owed_bytes(self) -> int:
        """About what the flush of all that is applied will take of the disk.

        Each event is written as an event, and its value once more as a node; each command changes a page of nodes,
        which LMDB copies. What it replaces is used again by later flushes, but not by this one.
        """
        return 2 * self.keyspace.unflushed_bytes + _PAGE_BYTES * self.unflushed_commands

    @property
    def unflushed_commands(self) -> int:
        """How many commands are applied and not in the state on disk."""
        return self.applied_commands - self.flushed_commands

    def enqueue(self, entries: list[Entry]) -> None:
        """Committed entries, consecutive with what came before."""
        self._queue.extend(entries)

    def replace(self, keyspace: Keyspace, position: LogPosition) -> None:
        """Go on from an installed snapshot. What was queued is covered by it."""
        assert position.index >= self.position.index, "a snapshot never takes the applied state back"
        self._queue.clear()
        self.keyspace = keyspace
        self.position = position

    def apply_slice(self) -> bool:
        """Apply what is queued for at most `slice_ms`; True if something is left."""
        queue = self._queue
        if not queue:
            return False
        until_ms = self._monotonic_ms() + self._slice_ms
        count = 0
        last = queue[0]
        term = self.position.term
        assert last.index == self.position.index + 1, "committed entries are applied in order, never twice"
        while queue:
            last = queue.popleft()
            if last.term != term:
                term = last.term
                self.on_later_term(term)
            if last.kind is EntryKind.COMMAND:
                self._apply_command(last)
            elif last.kind is EntryKind.CONFIGURATION:
                self.configuration = Configuration.decode(last.payload)
            if last.index % STATE_HASH_INTERVAL == 0:
                self.on_state_hash(last.index, self.keyspace.compared_hash())
            count += 1
            if count % _CLOCK_CHECK_ENTRIES == 0 and self._monotonic_ms() >= until_ms:
                break
        self.position = LogPosition(last.index, last.term, last.chain_hash, last.clock_ms)
        self.on_applied(last.index)
        return bool(queue)

    def _apply_command(self, entry: Entry) -> None:
        record = entry.record
        result = self.keyspace.apply(decode_command(record[_COMMAND_OFFSET:]), entry.clock_ms)
        self.applied_commands += 1
        waiter = self._waiters.take(record[HEADER_BYTES:_COMMAND_OFFSET])
        if waiter is not None:
            outcomes.tell(waiter.done, Written(result, self.keyspace.etcd_index, entry.index, entry.term))
