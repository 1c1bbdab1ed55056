"""Events: what a successful write did, as answered to its client, kept in the history and sent to watchers."""

import enum
from dataclasses import dataclass
from typing import final


class Action(enum.StrEnum):
    """`action` of a v2 answer."""

    GET = "get"
    SET = "set"
    CREATE = "create"
    UPDATE = "update"
    COMPARE_AND_SWAP = "compareAndSwap"
    DELETE = "delete"
    COMPARE_AND_DELETE = "compareAndDelete"
    EXPIRE = "expire"


@final
@dataclass(slots=True)
class NodeView:
    """One node as an event shows it: never changes after the event, shares its value bytes with the tree."""

    path: bytes
    directory: bool
    value_json: bytes | None
    """The value as a JSON string with its quotes. None for directories and removed nodes."""
    ttl_s: int
    """Seconds as the event shows them; 0 is not shown."""
    expiration_ns: int
    """Unix nanoseconds; 0 without TTL."""
    modified_index: int
    created_index: int


@final
@dataclass(slots=True)
class Event:
    """One successful change. Never modified."""

    action: Action
    node: NodeView
    prev_node: NodeView | None
    refresh: bool
    """Kept in the history, invisible to every watcher."""

    @property
    def etcd_index(self) -> int:
        """The index that this event got."""
        return self.node.modified_index
