"""A small model of the v2 store for plain files: an oracle that shares no code with the keyspace.

It follows the contract's table of operations for files right below the root and for in-order children of one directory,
which is all that the simulated clients touch.
"""

from dataclasses import dataclass, field
from typing import Final, final

from kvraft.keyspace.commands import (
    NO_TTL,
    Command,
    CompareAndDelete,
    CompareAndSwap,
    Create,
    CreateInOrder,
    Delete,
    Set,
    Sync,
    Update,
)
from kvraft.keyspace.errors import ErrorCode

OK: Final = 0


@final
@dataclass(slots=True, frozen=True)
class Result:
    """The observable answer to a command, the same for keyspace and model."""

    error_code: int = OK
    etcd_index: int = 0
    """The event's index; for an error, the store's index."""
    path: bytes = b""
    value: bytes | None = None
    created_index: int = 0
    prev_value: bytes | None = None
    prev_index: int = 0
    """modifiedIndex of the previous node; 0 for none."""


@final
@dataclass(slots=True)
class ModelNode:
    """One file."""

    value: bytes
    created_index: int
    modified_index: int
    deadline_ms: int | None


@final
@dataclass(slots=True)
class Model:
    """The store as the contract has it."""

    etcd_index: int = 0
    nodes: dict[bytes, ModelNode] = field(default_factory=dict)

    def apply(self, command: Command, clock_ms: int) -> Result:
        """Carry out a client's command."""
        match command:
            case Set(path, value, _, ttl_s, _, refresh):
                node = self.nodes.get(path)
                if refresh and node is None:
                    return self._failed(ErrorCode.KEY_NOT_FOUND)
                kept = node.value if refresh and node is not None else value
                return self._store(path, kept, ttl_s, clock_ms, None)
            case Create(path, value, _, ttl_s):
                if path in self.nodes:
                    return self._failed(ErrorCode.NODE_EXIST)
                return self._store(path, value, ttl_s, clock_ms, None)
            case CreateInOrder(path, value, _, ttl_s):
                return self._store(path + b"/%020d" % (self.etcd_index + 1), value, ttl_s, clock_ms, None)
            case Update(path, value, ttl_s, _, refresh):
                node = self.nodes.get(path)
                if node is None:
                    return self._failed(ErrorCode.KEY_NOT_FOUND)
                return self._store(path, node.value if refresh else value, ttl_s, clock_ms, node.created_index)
            case CompareAndSwap(path, value, prev_value, prev_index, ttl_s, _, refresh):
                failure = self._compare(path, prev_value, prev_index)
                if failure is not None:
                    return failure
                node = self.nodes[path]
                return self._store(path, node.value if refresh else value, ttl_s, clock_ms, node.created_index)
            case Delete(path):
                return self._remove(path)
            case CompareAndDelete(path, prev_value, prev_index):
                return self._compare(path, prev_value, prev_index) or self._remove(path)
            case Sync():
                self.expire(clock_ms)
                return Result(etcd_index=self.etcd_index)
            case _:
                raise AssertionError(command)

    def expire(self, clock_ms: int) -> list[bytes]:
        """Remove what is due, in the contract's order; the paths that went."""
        due = sorted(
            (node.deadline_ms, node.created_index, path)
            for path, node in self.nodes.items()
            if node.deadline_ms is not None and node.deadline_ms <= clock_ms
        )
        for _, _, path in due:
            self.etcd_index += 1
            del self.nodes[path]
        return [path for _, _, path in due]

    def _failed(self, code: ErrorCode) -> Result:
        return Result(error_code=int(code), etcd_index=self.etcd_index)

    def _compare(self, path: bytes, prev_value: bytes | None, prev_index: int) -> Result | None:
        node = self.nodes.get(path)
        if node is None:
            return self._failed(ErrorCode.KEY_NOT_FOUND)
        if (prev_value is not None and prev_value != node.value) or prev_index not in (0, node.modified_index):
            return self._failed(ErrorCode.TEST_FAILED)
        return None

    def _store(self, path: bytes, value: bytes, ttl_s: int, clock_ms: int, created_index: int | None) -> Result:
        previous = self.nodes.get(path)
        self.etcd_index += 1
        created = self.etcd_index if created_index is None else created_index
        deadline_ms = None if ttl_s == NO_TTL else clock_ms + ttl_s * 1000
        self.nodes[path] = ModelNode(value, created, self.etcd_index, deadline_ms)
        return Result(
            OK,
            self.etcd_index,
            path,
            value,
            created,
            previous.value if previous else None,
            previous.modified_index if previous else 0,
        )

    def _remove(self, path: bytes) -> Result:
        node = self.nodes.pop(path, None)
        if node is None:
            return self._failed(ErrorCode.KEY_NOT_FOUND)
        self.etcd_index += 1
        return Result(OK, self.etcd_index, path, None, node.created_index, node.value, node.modified_index)
