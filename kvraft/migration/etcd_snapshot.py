"""etcd's snapshot files: a checksum, in it Raft's snapshot, in that the v2 store as JSON (v2store/store.go, Save)."""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, final

import google_crc32c

from kvraft.migration.contents import NS_PER_S, Node, UnusableError
from kvraft.migration.etcd_wal import open_file
from kvraft.migration.protobuf_fields import NotProtobufError, bytes_in, fields_of, number_in

_BYTES_MAX: Final = 4 << 30
"""A store is held in memory, and its JSON takes a few times as much."""
_NAME: Final = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})\.snap")
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")
_NEVER: Final = "0001-01-01T00:00:00Z"
"""Go's zero time."""


@final
@dataclass(slots=True, frozen=True)
class EtcdSnapshot:
    """The applied state at one entry of the log."""

    index: int
    """Of the last entry in it."""
    term: int
    etcd_index: int
    nodes: list[Node]
    """Of the whole store, parents first, with etcd's own paths: `/0` cluster, `/1` keys, `/2` accounts."""


def snapshot_paths(directory: Path) -> list[Path]:
    """Snapshots, the newest first; `.broken`, `.tmp` and 3.x's `.snap.db` are none."""
    return sorted((path for path in directory.iterdir() if _NAME.fullmatch(path.name)), reverse=True)


def place_of(path: Path) -> tuple[int, int]:
    """Term and index of a snapshot, by its name."""
    match = _NAME.fullmatch(path.name)
    assert match is not None, "snapshot_paths gives such names only"
    return int(match[1], 16), int(match[2], 16)


def read_snapshot(path: Path) -> EtcdSnapshot:
    """Everything in a snapshot.

    Raises:
        UnusableError: it is damaged, or no store is in it.
    """
    try:
        outer = fields_of(_content(path))
        data = bytes_in(outer, 2)
        if not data or google_crc32c.value(data) != number_in(outer, 1):
            raise UnusableError(f"{path}: the snapshot is damaged: its checksum does not hold")
        raft = fields_of(data)
        metadata = fields_of(bytes_in(raft, 2))
        store = json.loads(bytes_in(raft, 1))
        nodes = list(_nodes(store["Root"]))
        return EtcdSnapshot(number_in(metadata, 2), number_in(metadata, 3), int(store["CurrentIndex"]), nodes)
    except (NotProtobufError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise UnusableError(f"{path}: no snapshot of etcd's v2 store is in it ({error})") from error


def _content(path: Path) -> bytes:
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > _BYTES_MAX:
            raise UnusableError(f"{path}: {size} bytes, more than any store of etcd has; the file is damaged")
        # All of it is looked at where it begins as a snapshot does: a hole of any size is zeros.
        return file.read() if file.peek(1)[:1] != b"\0" else b"\0"  # type: ignore[attr-defined] # a BufferedReader


def _nodes(root: dict[str, Any]) -> Iterator[Node]:
    """Every node below the root. Iterative, as paths may be thousands deep."""
    stack = [root]
    while stack:
        node = stack.pop()
        children = node["Children"]
        if node is not root:
            value = None if children is not None else node["Value"].encode()
            path = node["Path"].encode()
            expiration_ns = unix_ns(node["ExpireTime"])
            yield Node(path, value, expiration_ns, node["CreatedIndex"], node["ModifiedIndex"])
        if children is not None:
            stack.extend(children[name] for name in sorted(children, reverse=True))


def unix_ns(text: str) -> int:
    """Unix nanoseconds of a time as Go writes it, with any offset; 0 for Go's zero time.

    Raises:
        ValueError: it is no time.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no time")
    if text == _NEVER:
        return 0
    seconds, fraction, zone = match.groups()
    whole = int(datetime.fromisoformat(seconds + zone).timestamp())
    return whole * NS_PER_S + int((fraction or "").ljust(9, "0"))
