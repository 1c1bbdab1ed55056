"""The log as the core sees it: the newest entries in memory, older ones through the `LogReader`.

Four positions divide it, from old to new: `base` (just before the first entry held), `durable_index` (on this server's
disk for certain, see `durability`), `issued_index` (handed out in a `Persist`), `last_index`. What is not durable is
always in memory, so the reader, which sees the disk, is never asked for an entry that may not be there yet or that may
still be replaced.
"""

from bisect import bisect_left, bisect_right
from typing import Final, final

from kvraft.raft.durability import Durability
from kvraft.raft.entries import Entry
from kvraft.raft.restored import LogPosition, LogReader

_TAIL_SLACK: Final = 8
"""Eviction cuts to 7/8 of the limit, so that the front of the lists is moved rarely and not with every entry."""

_FREED_IN_A_STEP: Final = 1_000
"""Entries. A compaction drops a hundred thousand of them, and to free those at once would hold a step up for 25 ms."""


@final
class Log:
    """Entries `base.index + 1` .. `last_index`, consecutive, terms never decreasing."""

    __slots__ = (
        "_before_tail",
        "_bytes_evicted",
        "_ends",
        "_entries",
        "_leaving",
        "_reader",
        "_tail_bytes_max",
        "_tail_first",
        "base",
        "durability",
        "issued_index",
        "last_clock_ms",
        "last_hash",
        "last_index",
        "last_term",
        "truncate_from",
    )

    def __init__(self, reader: LogReader, base: LogPosition, last: LogPosition, tail_bytes_max: int) -> None:
        self.base = base
        """The position just before the first entry. Term 0 with another index than 0: unknown, see `compact`."""
        self.last_index = last.index
        self.last_term = last.term
        self.last_hash = last.chain_hash
        self.last_clock_ms = last.clock_ms
        self.durability = Durability(last)
        self.issued_index = last.index
        """Last index that has been handed out for persisting, in its present version."""
        self.truncate_from = 0
        """Where the disk must be cut with the next batch; 0 if nowhere."""
        self._reader = reader
        self._tail_bytes_max = tail_bytes_max
        self._tail_first = last.index + 1
        self._before_tail = last
        """The position just before the first entry in memory."""
        self._entries: list[Entry] = []
        self._ends: list[int] = []
        """For each entry in memory, bytes of all records up to its end, so that a slice is cut by bisection."""
        self._bytes_evicted = 0
        """The end of the entry before the first in memory, on the same scale."""
        self._leaving: list[Entry] = []
        """What the last compaction or snapshot took from memory, and no step has freed yet. Nothing reads it."""

    @property
    def first_index(self) -> int:
        """The first entry that can still be read; `last_index + 1` for an empty log."""
        return self.base.index + 1

    @property
    def durable_index(self) -> int:
        """Last index that this server's disk holds for certain, in its present version."""
        return self.durability.index

    # -- reading

    def is_in_memory(self, index: int) -> bool:
        """Whether the entry at `index`, which the log holds, need not be read from disk."""
        return index >= self._tail_first

    def term_at(self, index: int) -> int:
        """The term of the entry at `index`; 0 where the log ends on either side, and at index 0."""
        if index >= self._tail_first:
            return self._entries[index - self._tail_first].term if index <= self.last_index else 0
        if index == self.last_index:
            return self.last_term
        if index <= self.base.index:
            return self.base.term if index == self.base.index else 0
        return self._reader.term_at(index)

    def position(self, index: int) -> LogPosition | None:
        """Index, term, hash and clock of the entry at `index`, or the base; None if that is not held or not known."""
        if index == self.last_index:
            return LogPosition(index, self.last_term, self.last_hash, self.last_clock_ms)
        if not self.base.index <= index < self.last_index:
            return None
        if index == self.base.index:
            return self.base if self.base.term or not index else None
        if index >= self._tail_first:
            entry = self._entries[index - self._tail_first]
        elif index == self._before_tail.index:
            return self._before_tail
        else:
            held = self._reader.slice(index, index, 0)
            if not held:
                return None
            entry = held[0]
        return LogPosition(index, entry.term, entry.chain_hash, entry.clock_ms)

    def slice(self, first: int, last: int, bytes_max: int) -> list[Entry]:
        """Entries from `first` to at most `last`, cut after `bytes_max` of records but never before the first.

        May stop early where the part in memory begins. Empty if `first` is not held any more, which can be so ahead of
        `LogCompacted`: the store drops entries first and tells afterwards.
        """
        last = min(last, self.last_index)
        if first > last or first <= self.base.index:
            return []
        tail_first = self._tail_first
        if first < tail_first:
            return self._reader.slice(first, min(last, tail_first - 1), bytes_max)
        low = first - tail_first
        high = last - tail_first + 1
        limit = (self._ends[low - 1] if low else self._bytes_evicted) + bytes_max
        if self._ends[high - 1] > limit:
            high = max(low + 1, bisect_right(self._ends, limit, low, high))
        return self._entries[low:high]

    def size_of(self, entries: list[Entry]) -> int:
        """Bytes of records in a non-empty slice of this log."""
        low = entries[0].index - self._tail_first
        if low < 0:
            return sum(len(entry.record) for entry in entries)
        return self._ends[low + len(entries) - 1] - (self._ends[low - 1] if low else self._bytes_evicted)

    def bytes_beyond(self, index: int) -> int:
        """Bytes of records behind `index`, as far as they are in memory."""
        low = index - self._tail_first
        if not self._ends or low >= len(self._ends):
            return 0
        return self._ends[-1] - (self._ends[low] if low >= 0 else self._bytes_evicted)

    def last_index_with_term_at_most(self, index: int, term: int) -> int:
        """The largest index up to `index` whose term is at most `term`: where two logs may agree.

        Terms never decrease along a log, so this skips whole terms at once (section 5.3, last but one paragraph).
        Below the base nothing is known; an index there is returned as it is.
        """
        if index <= self.base.index or self.term_at(index) <= term:
            return index
        low, high = self.base.index, index
        while high - low > 1:
            middle = (low + high) // 2
            if self.term_at(middle) <= term:
                low = middle
            else:
                high = middle
        return low

    # -- writing

    def append(self, entry: Entry) -> None:
        """Add the next entry, which its caller has made or verified."""
        assert entry.index == self.last_index + 1, "entries are consecutive"
        self._entries.append(entry)
        self._ends.append((self._ends[-1] if self._ends else self._bytes_evicted) + len(entry.record))
        self.last_index = entry.index
        self.last_term = entry.term
        self.last_hash = entry.chain_hash
        self.last_clock_ms = entry.clock_ms

    def extend(self, entries: list[Entry]) -> None:
        """Add the next entries, which its caller has verified; not empty."""
        assert entries[0].index == self.last_index + 1, "entries are consecutive"
        self._entries.extend(entries)
        end = self._ends[-1] if self._ends else self._bytes_evicted
        for entry in entries:
            end += len(entry.record)
            self._ends.append(end)
        last = entries[-1]
        self.last_index = last.index
        self.last_term = last.term
        self.last_hash = last.chain_hash
        self.last_clock_ms = last.clock_ms

    def truncate(self, first_removed: int) -> None:
        """Remove entries from `first_removed` on, in memory now and on disk with the next batch (section 5.3)."""
        assert self.base.index < first_removed <= self.last_index, "only entries of the log are removed"
        kept = self.position(first_removed - 1)
        assert kept is not None, "a conflict was found behind an entry that this server holds"
        if first_removed >= self._tail_first:
            del self._entries[first_removed - self._tail_first :]
            del self._ends[first_removed - self._tail_first :]
        else:
            self._entries.clear()
            self._ends.clear()
            self._tail_first = first_removed
            self._before_tail = kept
        self._set_last(kept)
        if first_removed <= self.issued_index:
            self.issued_index = first_removed - 1
            self.truncate_from = min(self.truncate_from or first_removed, first_removed)
        self.durability.lower(first_removed - 1)

    def reset(self, base: LogPosition) -> None:
        """Forget everything: the log is empty behind `base`, in memory and (the caller knows) on disk."""
        self.base = base
        self._set_last(base)
        self._leaving, self._entries = self._entries, []
        self._ends.clear()
        self._tail_first = base.index + 1
        self._before_tail = base
        self.durability.reset(base)
        self.issued_index = base.index
        self.truncate_from = 0

    def compact(self, position: LogPosition) -> None:
        """Entries up to `position.index`, which is durable and committed, left the log store.

        Its term and hash are what the first entry still held is sent with. If the caller gives term 0 and they are not
        in memory either, they stay unknown: a follower that lacks exactly that entry gets a snapshot instead.
        """
        if position.index <= self.base.index:
            return
        assert position.index <= self.durable_index, "what is compacted is covered by durable state"
        known = position if position.term else self.position(position.index)
        self.base = known or position
        if position.index >= self._tail_first:
            count = position.index - self._tail_first + 1
            self._begin_tail_behind(count)
            self._leaving, self._entries = self._entries, self._entries[count:]

    def bound_tail(self, committed_index: int) -> None:
        """Drop the oldest entries from memory once they exceed their limit.

        Entries that are not durable stay because the reader cannot see them, uncommitted ones because they will be
        read next; back-pressure bounds both. What a compaction has left to be freed has its turn here, too.
        """
        if self._leaving:
            del self._leaving[-_FREED_IN_A_STEP:]
        if not self._ends or self._ends[-1] - self._bytes_evicted <= self._tail_bytes_max:
            return
        wanted = self._ends[-1] - self._tail_bytes_max + self._tail_bytes_max // _TAIL_SLACK
        allowed = min(self.durable_index, committed_index) - self._tail_first + 1
        count = min(bisect_left(self._ends, wanted) + 1, allowed, len(self._ends))
        if count > 0:
            self._begin_tail_behind(count)
            del self._entries[:count]

    def issue(self) -> tuple[int, list[Entry]]:
        """What the disk lacks: (truncate from, entries), which from now on count as handed out."""
        entries: list[Entry] = []
        if self.issued_index < self.last_index:
            entries = self._entries[self.issued_index + 1 - self._tail_first :]
        truncate_from, self.truncate_from = self.truncate_from, 0
        self.issued_index = self.last_index
        return truncate_from, entries

    def check(self) -> None:
        """Assert what every method above relies on; cheap enough for every step."""
        entries, tail_first, last_index = self._entries, self._tail_first, self.last_index
        durable_index = self.durability.index
        count = len(entries)
        assert count == len(self._ends), "each entry in memory has its end"
        assert tail_first + count == last_index + 1, "the tail reaches to the last entry"
        assert self.base.index <= durable_index <= self.issued_index <= last_index, "positions are in order"
        assert tail_first <= durable_index + 1, "what is not durable is in memory"
        if entries:
            assert entries[0].index == tail_first, "the tail begins where it says"
            assert entries[-1].chain_hash == self.last_hash, "the last hash is the last entry's"

    # -- helpers

    def _set_last(self, position: LogPosition) -> None:
        self.last_index = position.index
        self.last_term = position.term
        self.last_hash = position.chain_hash
        self.last_clock_ms = position.clock_ms

    def _begin_tail_behind(self, count: int) -> None:
        """Set all that tells where the tail begins; the caller takes `count` entries from it."""
        entry = self._entries[count - 1]
        self._before_tail = LogPosition(entry.index, entry.term, entry.chain_hash, entry.clock_ms)
        self._bytes_evicted = self._ends[count - 1]
        self._tail_first += count
        del self._ends[:count]
