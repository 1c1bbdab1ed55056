"""What this server's disk holds of what it was given, batch by batch: the one object that knows.

The core issues batches and tags each message with the one that it must not precede. The caller makes them durable, in
order, and says so at once (`Raft.persisted`): that is no input of a step, because seldom does anybody wait for one.

A batch is remembered with the last index that it makes durable. Truncation lowers that index in every batch still under
way, so a late answer for overwritten entries proves nothing about the entries that took their place (etcd-io/raft calls
this the ABA race: testdata/async_storage_writes_append_aba_race.txt).
"""

from collections import deque
from typing import final

from kvraft.raft.entries import Entry
from kvraft.raft.restored import LogPosition


@final
class Durability:
    """Batches are numbered from 1; 0 stands for none."""

    __slots__ = ("_batches", "_end", "_promise_id", "_sync_id", "durable_id", "index", "issued_id")

    def __init__(self, last: LogPosition) -> None:
        """What a start found on the disk is durable."""
        self.issued_id = 0
        """The last batch that was issued."""
        self.durable_id = 0
        """Batches up to this one are on disk."""
        self.index = last.index
        """The last entry of the log, in its present version, that the disk holds for certain."""
        self._sync_id = 0
        self._promise_id = 0
        self._end: LogPosition | Entry = last
        self._batches: deque[tuple[int, int, Entry | None]] = deque()
        """(batch id, last index it makes durable, the entry that the log on disk ends with), oldest first."""

    @property
    def position(self) -> LogPosition:
        """Where the log on disk ends; while a truncation is under way that may be in a history that lost."""
        end = self._end
        return LogPosition(end.index, end.term, end.chain_hash, end.clock_ms)

    @property
    def promises_under_way(self) -> int:
        """The last batch with a term or a vote, if it is not durable yet, or else 0: nothing may leave before it."""
        return self._promise_id if self._promise_id > self.durable_id else 0

    @property
    def under_way(self) -> int:
        """The last batch that must be synced, if it is not durable yet, or else 0: no answer may leave before it."""
        return self._sync_id if self._sync_id > self.durable_id else 0

    def issue(self, last_index: int, end: Entry | None, *, must_sync: bool, promises: bool) -> int:
        """Number the next batch: it makes the log durable up to `last_index`, where the disk's then ends with `end`."""
        self.issued_id += 1
        if must_sync:
            self._sync_id = self.issued_id
            self._batches.append((self.issued_id, last_index, end))
        if promises:
            self._promise_id = self.issued_id
        return self.issued_id

    def persisted(self, batch_id: int) -> bool:
        """Batches up to `batch_id` are durable. True if that moved `index`."""
        before = self.index
        self.durable_id = max(self.durable_id, batch_id)
        while self._batches and self._batches[0][0] <= batch_id:
            _, last_index, end = self._batches.popleft()
            self.index = max(self.index, last_index)
            if end is not None:
                self._end = end
        return self.index != before

    def lower(self, index: int) -> None:
        """Entries behind `index` were replaced: whatever the disk holds there, or will hold, proves nothing."""
        self.index = min(self.index, index)
        self._batches = deque((batch_id, min(last, index), end) for batch_id, last, end in self._batches)

    def reset(self, base: LogPosition) -> None:
        """A snapshot took the place of the log, durably: what was on its way before is void."""
        self._batches.clear()
        self._end = base
        self.index = base.index
