"""The key tree: directories that know their children, files that never change.

A write to a file puts a new `File` in place of the old one.
So whatever holds nodes for longer than one command (an open listing, a flush) holds a snapshot without copying.
Directories do change, in their children and their TTL; who needs them as they were is told first (see `listing.py`).

Nodes have no path: a million of them share the names above them.
Everything here is iterative, since paths may be 10,000 deep.
"""

from dataclasses import dataclass
from typing import Final, final

from kvraft.keyspace.json_text import decode_value

ROOT_ID: Final = 0
ORDINAL_SHIFT: Final = 44
"""A node id is `ordinal << 44 | etcd_index`: 44 bits of index last 27 years at 20,000 writes a second."""
ORDINAL_MAX: Final = (1 << (64 - ORDINAL_SHIFT)) - 1
"""How many missing parents one command can create; far above the longest path that fits a request."""
INDEX_MASK: Final = (1 << ORDINAL_SHIFT) - 1


@final
@dataclass(slots=True)
class Lifetime:
    """When a node expires, and what is shown of it. Never modified."""

    deadline_ms: int
    """Log clock at which the node is due."""
    expiration_ns: int
    """Unix nanoseconds shown as `expiration`; decides nothing."""


class Node:
    """What files and directories have in common. Compared and hashed by identity."""

    __slots__ = ("created_index", "lifetime", "modified_index", "name", "node_id", "parent")

    def __init__(
        self,
        node_id: int,
        parent: "Directory | None",
        name: bytes,
        created_index: int,
        modified_index: int,
        lifetime: Lifetime | None,
    ) -> None:
        self.node_id = node_id
        """Names the place in the tree on disk; a file that is written again keeps it."""
        self.parent = parent
        """None for the root alone. Kept when the node is removed, so it does not prove that the node is in the tree."""
        self.name = name
        self.created_index = created_index
        self.modified_index = modified_index
        self.lifetime = lifetime
        """None for a permanent node."""


@final
class File(Node):
    """A key with a value. Never modified once it is in the tree."""

    __slots__ = ("raw", "value_json")

    def __init__(
        self,
        node_id: int,
        parent: "Directory",
        name: bytes,
        created_index: int,
        modified_index: int,
        lifetime: Lifetime | None,
        value_json: bytes,
        raw: bytes | None,
    ) -> None:
        # Not through super(): this constructor runs once a write.
        self.node_id = node_id
        self.parent = parent
        self.name = name
        self.created_index = created_index
        self.modified_index = modified_index
        self.lifetime = lifetime
        self.value_json = value_json
        """The value as a JSON string with its quotes."""
        self.raw = raw
        """The value, only where decoding `value_json` does not give it back (invalid UTF-8)."""

    def value(self) -> bytes:
        """The value as it was written."""
        return self.raw if self.raw is not None else decode_value(self.value_json)


@final
class Directory(Node):
    """A key with children. Only `children` and `lifetime` ever change."""

    __slots__ = ("children",)

    def __init__(
        self,
        node_id: int,
        parent: "Directory | None",
        name: bytes,
        created_index: int,
        lifetime: Lifetime | None,
    ) -> None:
        super().__init__(node_id, parent, name, created_index, created_index, lifetime)
        self.children: dict[bytes, File | Directory] = {}


AnyNode = File | Directory
"""A node whose kind `isinstance` tells."""


def path_of(node: AnyNode) -> bytes:
    """The node's path, `/` for the root. Also right for a node that was removed."""
    names: list[bytes] = []
    step: AnyNode = node
    while step.parent is not None:
        names.append(step.name)
        step = step.parent
    names.append(b"")
    names.reverse()
    return b"/".join(names) if len(names) > 1 else b"/"


def is_attached(node: AnyNode) -> bool:
    """Whether the node stands in the tree now: reachable from the root, neither removed nor replaced."""
    step: AnyNode = node
    while step.parent is not None:
        if step.parent.children.get(step.name) is not step:
            return False
        step = step.parent
    return step.node_id == ROOT_ID


def ttl_at(lifetime: Lifetime, clock_ms: int) -> int:
    """Whole seconds left, rounded up as etcd does: 0 within the last second after the deadline, negative later."""
    return -((clock_ms - lifetime.deadline_ms) // 1000)
