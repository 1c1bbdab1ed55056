"""How many bytes the log holds, and where to cut it to hold fewer: a few numbers in memory, no look at the disk."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Final, final

from kvraft.raft.entries import Entry

MARK_BYTES: Final = 1 << 20
"""How finely the sizes are known."""


@final
class LogSizes:
    """The bytes of records up to some indices; between two of them, entries are taken to be of the same size.

    Everything is called on the member's loop.
    """

    def __init__(self, base_index: int, last_index: int, stored_bytes: int) -> None:
        """What a start finds: `stored_bytes` for the entries behind `base_index`, wherever in between they are."""
        self._indices = [base_index]
        self._totals = [0]
        if last_index > base_index:
            self._indices.append(last_index)
            self._totals.append(stored_bytes)
        self._next_mark_bytes = self._totals[-1] + MARK_BYTES

    def append(self, entries: Sequence[Entry]) -> None:
        """These follow, in the place of any that had their indices."""
        if not entries:
            return
        before = entries[0].index - 1
        total = self._total_at(before)
        if before < self._indices[-1]:
            kept = bisect_left(self._indices, before)
            del self._indices[kept:], self._totals[kept:]
            self._mark(before, total)
        total += sum([len(entry.record) for entry in entries])
        # The last mark is the end of the log; it stays only if the log has grown by enough since the one before.
        if len(self._indices) > 1 and self._totals[-1] < self._next_mark_bytes:
            del self._indices[-1], self._totals[-1]
        else:
            self._next_mark_bytes = self._totals[-1] + MARK_BYTES
        self._mark(entries[-1].index, total)

    def held_bytes(self, base_index: int) -> int:
        """Bytes of the entries behind the base."""
        return max(self._totals[-1] - self._total_at(base_index), 0)

    def index_leaving(self, bytes_max: int) -> int:
        """The lowest index behind which at most about `bytes_max` remain."""
        wanted = self._totals[-1] - bytes_max
        at = bisect_right(self._totals, wanted)
        if at == 0:
            return self._indices[0]
        if at == len(self._totals):
            return self._indices[-1]
        first, last = self._indices[at - 1], self._indices[at]
        low, high = self._totals[at - 1], self._totals[at]
        return first - (low - wanted) * (last - first) // (high - low)

    def forget(self, base_index: int) -> None:
        """The entries up to the base are gone."""
        base = min(base_index, self._indices[-1])
        total = self._total_at(base)
        kept = bisect_right(self._indices, base)
        self._indices[:kept], self._totals[:kept] = [base], [total]

    def _mark(self, index: int, total: int) -> None:
        self._indices.append(index)
        self._totals.append(total)

    def _total_at(self, index: int) -> int:
        at = bisect_right(self._indices, index)
        if at == 0:
            return self._totals[0]
        if at == len(self._indices):
            return self._totals[-1]
        first, last = self._indices[at - 1], self._indices[at]
        low, high = self._totals[at - 1], self._totals[at]
        return low + (high - low) * (index - first) // (last - first)
