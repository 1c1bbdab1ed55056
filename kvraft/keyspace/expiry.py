"""Which nodes are due: deadlines in the log's clock, in the order in which they expire.

Nodes wait in buckets of one second, so that a refresh (by far the commonest change) is two dictionary operations.
A bucket that a sync reaches is poured into a heap, which gives the exact order and may hold nodes that have gone since.
"""

import heapq
from typing import Final, final

from kvraft.keyspace.tree import AnyNode, is_attached, path_of

BUCKET_MS: Final = 1000


@final
class Deadlines:
    """Every node with a TTL. A node is entered once with the lifetime it has then, and withdrawn with the same."""

    def __init__(self) -> None:
        self._buckets: dict[int, dict[AnyNode, None]] = {}
        self._seconds: list[int] = []
        """Heap of bucket numbers; each existing bucket stands in it once."""
        self._near: list[tuple[int, int, bytes, int, AnyNode]] = []
        """Heap of (deadline, createdIndex, path, sequence, node) from buckets that a sync has reached."""
        self._sequence = 0
        self._earliest: int | None = None
        self._earliest_known = True

    def add(self, node: AnyNode) -> None:
        """Enter a node that has a lifetime."""
        assert node.lifetime is not None
        deadline_ms = node.lifetime.deadline_ms
        second = deadline_ms // BUCKET_MS
        bucket = self._buckets.get(second)
        if bucket is None:
            self._buckets[second] = {node: None}
            heapq.heappush(self._seconds, second)
        else:
            bucket[node] = None
        if self._earliest_known and (self._earliest is None or deadline_ms < self._earliest):
            self._earliest = deadline_ms

    def discard(self, node: AnyNode, deadline_ms: int) -> None:
        """Withdraw a node that was entered with this deadline; what stands in the heap already is skipped later."""
        bucket = self._buckets.get(deadline_ms // BUCKET_MS)
        if bucket is not None:
            bucket.pop(node, None)
        if deadline_ms == self._earliest:
            self._earliest_known = False

    def subtree_removed(self) -> None:
        """A directory has left the tree; its nodes with a TTL are withdrawn later, but count no more."""
        self._earliest_known = False

    def next_deadline_ms(self) -> int | None:
        """The earliest deadline of a node in the tree; None if nothing expires."""
        if not self._earliest_known:
            self._earliest = self._find_earliest()
            self._earliest_known = True
        return self._earliest

    def pop_due(self, clock_ms: int) -> tuple[AnyNode, bytes] | None:
        """Withdraw and return the next node that is due at `clock_ms`, with its path."""
        while self._seconds and self._seconds[0] <= clock_ms // BUCKET_MS:
            self._pour(heapq.heappop(self._seconds))
        self._skip_stale()
        if not self._near or self._near[0][0] > clock_ms:
            return None
        _, _, path, _, node = heapq.heappop(self._near)
        self._earliest_known = False
        return node, path

    def _pour(self, second: int) -> None:
        for node in self._buckets.pop(second):
            assert node.lifetime is not None
            self._sequence += 1
            # The sequence only keeps the comparison away from nodes, when a stale entry has the same path.
            entry = (node.lifetime.deadline_ms, node.created_index, path_of(node), self._sequence, node)
            heapq.heappush(self._near, entry)

    def _skip_stale(self) -> None:
        while self._near:
            deadline_ms, _, _, _, node = self._near[0]
            if node.lifetime is not None and node.lifetime.deadline_ms == deadline_ms and is_attached(node):
                return
            heapq.heappop(self._near)

    def _find_earliest(self) -> int | None:
        """The earliest of the heap and of the first bucket that holds a node in the tree.

        Buckets still hold nodes of removed subtrees that are not taken apart yet; those met on the way leave here.
        """
        self._skip_stale()
        near = self._near[0][0] if self._near else None
        while self._seconds:
            bucket = self._buckets[self._seconds[0]]
            while bucket:
                node = min(bucket, key=_deadline_of)
                if is_attached(node):
                    deadline_ms = _deadline_of(node)
                    return deadline_ms if near is None else min(near, deadline_ms)
                del bucket[node]
            del self._buckets[heapq.heappop(self._seconds)]
        return near


def _deadline_of(node: AnyNode) -> int:
    assert node.lifetime is not None
    return node.lifetime.deadline_ms
