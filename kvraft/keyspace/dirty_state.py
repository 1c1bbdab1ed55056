"""Which nodes the next flush has to write and which records it has to remove."""

from typing import final

from kvraft.keyspace.node_hash import node_hash
from kvraft.keyspace.tree import INDEX_MASK, AnyNode


@final
class DirtyState:
    """Nodes changed and removed between two flushes."""

    __slots__ = ("node_sum", "nodes", "removed", "started_at")

    def __init__(self, started_at: int) -> None:
        self.started_at = started_at
        """The etcd_index of the flush before: a node created later has never been on disk."""
        self.nodes: dict[int, AnyNode] = {}
        """By node id, the newest form."""
        self.removed: list[int] = []
        """Ids of nodes whose records must go."""
        self.node_sum = 0
        """Hashes of what has come, less those of what has gone (see `node_hash.py`)."""

    def remove(self, node: AnyNode) -> None:
        """The node has left the tree for good."""
        node_id = node.node_id
        self.node_sum -= node_hash(node)
        self.nodes.pop(node_id, None)
        if node_id & INDEX_MASK <= self.started_at:
            self.removed.append(node_id)
