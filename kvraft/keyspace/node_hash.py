"""A number for each node; their sum stands for the whole tree, whatever the order in which it came about (decision 8).

Every change takes off the number of what it replaces and adds that of what it brings. A load adds up the nodes that it
has built, and must come to the sum that was stored with the records; members compare it at the same index. So a record
that was lost, doubled, or is an older one of its node is found, and a tree that was changed without an event.

The values are left out: hashing those of both nodes of a write costs two microseconds (docs/decisions.md), records have
checksums, and a node has another modifiedIndex with each value. It finds accidents, not forgery.
"""

from typing import Final

from kvraft.keyspace.tree import AnyNode

SUM_BYTES: Final = 8
_MASK: Final = (1 << 8 * SUM_BYTES) - 1
_ID_FACTOR: Final = 0x9E37_79B9
_DEADLINE_FACTOR: Final = 0x85EB_CA6B
"""Odd, so that an id, a deadline and an index that change together do not make up for one another."""


def node_hash(node: AnyNode) -> int:
    """Any node's number but the root's. Not negative; only sums are cut to their size."""
    number = node.node_id * _ID_FACTOR + node.modified_index
    lifetime = node.lifetime
    return number if lifetime is None else number + lifetime.deadline_ms * _DEADLINE_FACTOR


def sum_bytes(node_sum: int) -> bytes:
    """A sum as it is compared and stored; it may have come out negative."""
    return (node_sum & _MASK).to_bytes(SUM_BYTES, "little")
