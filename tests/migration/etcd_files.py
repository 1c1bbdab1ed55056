"""Data directories as etcd writes them, made byte by byte from the formats: what no installed etcd can write for us.

Only what the formats say is used (walpb/record.proto, snappb/snap.proto, raftpb/raft.proto, etcdserverpb/*.proto, and
v2store's JSON), nothing of the reader under test.
"""

import json
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import google_crc32c

METADATA, ENTRY, STATE, CRC, SNAPSHOT = 1, 2, 3, 4, 5
FILE_BYTES: Final = 16_384
"""Laid out ahead, as etcd does with 64 MB."""


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def message(*fields: tuple[int, int | bytes | str]) -> bytes:
    """A protobuf message of these fields in order."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        else:
            data = value.encode() if isinstance(value, str) else value
            out += varint(number << 3 | 2) + varint(len(data)) + data
    return out


def request(method: str, path: str | bytes = "", value: str | bytes = "", **given: int | str) -> bytes:
    """etcdserverpb.Request as gogo writes it: every field that is not nullable stands there."""
    numbers = {
        "dir": 5,
        "prev_value": 6,
        "prev_index": 7,
        "prev_exist": 8,
        "expiration": 9,
        "recursive": 12,
        "time": 15,
        "refresh": 17,
    }
    defaults: dict[str, int | str] = {"dir": 0, "prev_value": "", "prev_index": 0, "expiration": 0}
    fields = defaults | given
    return message(
        (1, 77), (2, method), (3, path), (4, value), *((numbers[name], given) for name, given in fields.items())
    )


def of_version_3(path: str) -> bytes:
    """InternalRaftRequest with a put of the v3 API."""
    return message((1, 78), (4, message((1, path), (2, "v"))))


def wrapped(v2_request: bytes) -> bytes:
    """InternalRaftRequest around a v2 request."""
    return message((1, 79), (2, v2_request))


def member_change(kind: int, member_id: int, **context: Any) -> bytes:
    facts = json.dumps({"id": member_id, **context}) if context else ""
    return message((1, 5), (2, kind), (3, member_id), (4, facts))


@dataclass
class Wal:
    """One log in the making; `padded` as from 3.0 on."""

    padded: bool = True
    files: list[tuple[str, bytearray]] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    """Of each frame in the last file."""
    _crc: int = 0

    def cut(self, index: int) -> None:
        """Begin a file whose first entry will be `index`."""
        self.files.append((f"{len(self.files):016x}-{index:016x}.wal", bytearray()))
        self.offsets = []
        self._frame(message((1, CRC), (2, self._crc)))
        self.put(METADATA, message((1, 0xA1), (2, 0xC1)))

    def put(self, kind: int, data: bytes) -> None:
        self._crc = google_crc32c.extend(self._crc, data)
        fields: list[tuple[int, int | bytes]] = [(1, kind), (2, self._crc)]
        if data:
            fields.append((3, data))
        self._frame(message(*fields))

    def entry(self, index: int, data: bytes, term: int = 2, *, kind: int = 0) -> None:
        self.put(ENTRY, message((1, kind), (2, term), (3, index), (4, data)))

    def state(self, commit: int, term: int = 2) -> None:
        self.put(STATE, message((1, term), (2, 0xA1), (3, commit)))

    def snapshot(self, index: int, term: int = 2) -> None:
        self.put(SNAPSHOT, message((1, index), (2, term)))

    def _frame(self, record: bytes) -> None:
        content = self.files[-1][1]
        self.offsets.append(len(content))
        padding = -len(record) % 8 if self.padded else 0
        length = len(record) | (0x80 | padding) << 56 if padding else len(record)
        content += struct.pack("<Q", length) + record + bytes(padding)

    def write(self, directory: Path) -> list[Path]:
        directory.mkdir(parents=True, exist_ok=True)
        paths = []
        for name, content in self.files:
            path = directory / name
            path.write_bytes(content + bytes(max(0, FILE_BYTES - len(content))))
            paths.append(path)
        return paths


def node(path: str, value: str | None = None, index: int = 1, expires: str = "", children: Iterable[Any] = ()) -> Any:
    """A node of v2store's JSON; a directory if it has no value."""
    facts: dict[str, Any] = {
        "Path": path,
        "CreatedIndex": index,
        "ModifiedIndex": index,
        "ExpireTime": expires or "0001-01-01T00:00:00Z",
        "ACL": "",
        "Value": value or "",
        "Children": None,
    }
    if value is None:
        facts["Children"] = {child["Path"].rpartition("/")[2]: child for child in children}
    return facts


def snapshot_bytes(etcd_index: int, index: int, term: int, children: Iterable[Any]) -> bytes:
    store = {"Root": node("/", children=children, index=0), "CurrentIndex": etcd_index, "CurrentVersion": 2}
    metadata = message((1, message((1, 0xA1))), (2, index), (3, term))
    raft = message((1, json.dumps(store)), (2, metadata))
    return message((1, google_crc32c.value(raft)), (2, raft))


def write_snapshot(directory: Path, etcd_index: int, index: int, term: int, children: Iterable[Any]) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{term:016x}-{index:016x}.snap"
    path.write_bytes(snapshot_bytes(etcd_index, index, term, children))
    return path
