"""Gives every committed entry to the keyspace, in log order, and answers the requests that waited for them.

Long runs are cut into slices, so that heartbeats and reads go on while a backlog is applied.
"""

from collections import deque
from collections.abc import Callable
from typing import final

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
        on_applied: Callable[[int], None],
        on_later_term: Callable[[int], None],
        on_state_hash: Callable[[int, bytes], None],
        monotonic_ms: Callable[[], int],
        slice_ms: int,
    ) -> None:
        """An applier whose keyspace is at `position`.

        Args:
            keyspace: The state.
            position: Where it stands in the log.
            configuration: In force there.
            waiters: Requests that wait for their entries.
            on_applied: Told the index up to which everything is in the keyspace, once a slice.
            on_later_term: Told the term whose first entry is about to be applied: commands given to leaders of earlier
                terms are lost.
            on_state_hash: Told what the keyspace says of itself at a compared index.
            monotonic_ms: The clock.
            slice_ms: How long a slice may take.
        """
        self.keyspace = keyspace
        self.position = position
        """The last applied entry's place in the log."""
        self.configuration = configuration
        """The configuration in force at `position`: it goes with the state to disk."""
        self.applied_commands = 0
        """How many commands were applied since the start; the flusher counts by it."""
        self._waiters = waiters
        self._on_applied = on_applied
        self._on_later_term = on_later_term
        self._on_state_hash = on_state_hash
        self._monotonic_ms = monotonic_ms
        self._slice_ms = slice_ms
        self._queue: deque[Entry] = deque()

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
                self._on_later_term(term)
            if last.kind is EntryKind.COMMAND:
                self._apply_command(last)
            elif last.kind is EntryKind.CONFIGURATION:
                self.configuration = Configuration.decode(last.payload)
            if last.index % STATE_HASH_INTERVAL == 0:
                self._on_state_hash(last.index, self.keyspace.compared_hash())
            count += 1
            if count % _CLOCK_CHECK_ENTRIES == 0 and self._monotonic_ms() >= until_ms:
                break
        self.position = LogPosition(last.index, last.term, last.chain_hash, last.clock_ms)
        self._on_applied(last.index)
        return bool(queue)

    def _apply_command(self, entry: Entry) -> None:
        record = entry.record
        result = self.keyspace.apply(decode_command(record[_COMMAND_OFFSET:]), entry.clock_ms)
        self.applied_commands += 1
        waiter = self._waiters.take(record[HEADER_BYTES:_COMMAND_OFFSET])
        if waiter is not None:
            outcomes.tell(waiter.done, Written(result, self.keyspace.etcd_index, entry.index, entry.term))
