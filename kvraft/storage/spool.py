r"""Snapshots as files: written from the state of one member, streamed, and read into the state of another.

    "kvraft snapshot\n"
    frames              length and CRC-32 (4 bytes each), then the payload:
        the first       format, cluster, position, counts, history floor, configuration, keyspace record; with the
                        number of users and roles in between if there are any, and the format is then 2
        the others      stored records as they stand in LMDB, each with table, key, length and its own checksum
    hash                16 bytes of BLAKE2b over everything before it

The id of a snapshot is its position and this hash, so equal ids mean equal bytes, and a transfer that broke off goes on
with any sender that has the same id.
"""

import errno
import hashlib
import re
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, final

from kvraft.raft.configuration import Configuration
from kvraft.raft.restored import LogPosition, SnapshotFile
from kvraft.storage import codec, failpoints
from kvraft.storage.codec import FORMAT
from kvraft.storage.errors import CorruptStorageError, NewerFormatError

MAGIC: Final = b"kvraft snapshot\n"
DIGEST_BYTES: Final = 16
_INSTALLED: Final = 3
"""Times its size that a snapshot needs until it is in force: its file, and the new state with half-full pages."""
FRAME_BYTES_MAX: Final = 256 << 10
"""A frame is closed when it reaches this; one record may make it larger."""
FRAME_BYTES_LIMIT: Final = 64 << 20
"""No honest frame is longer: the largest value is 10 MiB."""
FINISHED_KEPT: Final = 2
"""Finished files that stay in each direction: for transfers that still run or broke off, for an install that has not
begun."""

NODE: Final = 0
HISTORY: Final = 1
ACCOUNT: Final = 2
FORMAT_WITH_ACCOUNTS: Final = 2
"""Of a file with users and roles, which an older version must not take for one without."""

FRAME_HEAD: Final = struct.Struct("<II")
"""Length and CRC-32 of a frame's payload."""
_HEADER: Final = struct.Struct("<IQQQQI")
_ACCOUNTS: Final = struct.Struct("<Q")
_RECORD: Final = struct.Struct("<B8sI")
_ID: Final = re.compile(r"[0-9a-f]{1,16}-[0-9a-f]{1,16}-[0-9a-f]{32}")

Record = tuple[int, bytes, bytes]
"""Table (NODE, HISTORY or ACCOUNT), key, stored value with its checksum."""


@final
@dataclass(slots=True, frozen=True)
class SpoolHeader:
    """What a snapshot holds."""

    cluster_id: int
    position: LogPosition
    configuration: bytes
    keyspace: bytes
    """The keyspace's own meta record."""
    history_floor: int
    nodes: int
    history_chunks: int
    accounts: int = 0
    """Users and roles together."""


def write_spool(directory: Path, header: SpoolHeader, records: Iterable[Record]) -> SnapshotFile:
    """Write a snapshot; it has its name only once it is whole."""
    directory.mkdir(mode=0o700, exist_ok=True)
    unfinished = directory / "outgoing.part"
    with unfinished.open("wb") as file:
        digest = write_frames(file, header, records)
        size_bytes = file.tell()
    failpoints.hit("spool.before_rename")
    snapshot_id = f"{header.position.index:x}-{header.position.term:x}-{digest}"
    path = directory / f"{snapshot_id}.snapshot"
    unfinished.replace(path)
    _remove_all_but_newest(directory, path)
    return SnapshotFile(snapshot_id, str(path), size_bytes, header.position, header.configuration)


def write_frames(file: BinaryIO, header: SpoolHeader, records: Iterable[Record], preamble: bytes = b"") -> str:
    """Write all of a snapshot, behind a preamble that its hash covers as well. Returns the hash in hexadecimal."""
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)

    def put(data: bytes) -> None:
        digest.update(data)
        file.write(data)

    put(preamble + MAGIC)
    put(frame(_encode_header(header)))
    parts: list[bytes] = []
    size = 0
    for table, key, stored in records:
        parts += (_RECORD.pack(table, key, len(stored)), stored)
        size += _RECORD.size + len(stored)
        if size >= FRAME_BYTES_MAX:
            put(frame(b"".join(parts)))
            parts, size = [], 0
    if parts:
        put(frame(b"".join(parts)))
    file.write(digest.digest())
    return digest.hexdigest()


def _remove_all_but_newest(directory: Path, newest: Path) -> None:
    older = [path for path in directory.glob("*.snapshot") if path != newest]
    older.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in older[FINISHED_KEPT - 1 :]:
        path.unlink()


def read_spool(path: Path) -> tuple[SpoolHeader, Iterator[Record]]:
    """The header, and the records; these end with an error if any byte of the file is not as it was written.

    What was made of the records must not be used before the iterator is exhausted.

    Raises:
        CorruptStorageError: damaged or cut off; so do the records.
        NewerFormatError: written by a newer kvraft.
    """
    frames = _read_frames(path)
    try:
        header = next(frames)
    except StopIteration:
        raise CorruptStorageError(f"snapshot {path} is empty") from None
    return decode_header(f"snapshot {path}", header), _records(path, frames)


def read_header(path: Path) -> SpoolHeader:
    """Raises as `read_spool` does."""
    return read_spool(path)[0]


def _records(path: Path, frames: Iterator[bytes]) -> Iterator[Record]:
    for payload in frames:
        yield from records_in(payload, f"snapshot {path}")


def records_in(payload: bytes, where: str) -> Iterator[Record]:
    """The records of one frame, each with its checksum verified.

    Raises:
        CorruptStorageError: one of them is not what was written.
    """
    offset = 0
    while offset < len(payload):
        if len(payload) - offset < _RECORD.size:
            raise CorruptStorageError(f"{where} has a record of a wrong length")
        table, key, length = _RECORD.unpack_from(payload, offset)
        offset += _RECORD.size
        stored = payload[offset : offset + length]
        offset += length
        if len(stored) != length or table not in {NODE, HISTORY, ACCOUNT}:
            raise CorruptStorageError(f"{where} has a record of a wrong length")
        codec.unseal(key, stored, where)
        yield table, key, stored


def _read_frames(path: Path) -> Iterator[bytes]:
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    try:
        with path.open("rb") as file:
            remaining = path.stat().st_size - DIGEST_BYTES - len(MAGIC)
            magic = _read_exactly(file, path, len(MAGIC))
            if magic != MAGIC or remaining < 0:
                raise CorruptStorageError(f"{path} is no snapshot")
            digest.update(magic)
            while remaining > 0:
                head = _read_exactly(file, path, FRAME_HEAD.size)
                length, checksum = FRAME_HEAD.unpack(head)
                remaining -= FRAME_HEAD.size + length
                if remaining < 0 or length > FRAME_BYTES_LIMIT:
                    raise CorruptStorageError(f"snapshot {path} is cut off or damaged")
                payload = _read_exactly(file, path, length)
                digest.update(head)
                digest.update(payload)
                if zlib.crc32(payload) != checksum:
                    raise CorruptStorageError(f"snapshot {path} fails a checksum")
                yield payload
            if _read_exactly(file, path, DIGEST_BYTES) != digest.digest():
                raise CorruptStorageError(f"snapshot {path} fails its hash")
    except FileNotFoundError:
        raise CorruptStorageError(f"snapshot {path} is missing") from None


def _read_exactly(file: BinaryIO, path: Path, size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise CorruptStorageError(f"snapshot {path} is cut off")
    return data


def frame(payload: bytes) -> bytes:
    """The payload with its length and checksum."""
    return FRAME_HEAD.pack(len(payload), zlib.crc32(payload)) + payload


def _encode_header(header: SpoolHeader) -> bytes:
    return b"".join(
        (
            _HEADER.pack(
                FORMAT_WITH_ACCOUNTS if header.accounts else FORMAT,
                header.cluster_id,
                header.nodes,
                header.history_chunks,
                header.history_floor,
                len(header.configuration),
            ),
            codec.pack_position(header.position),
            _ACCOUNTS.pack(header.accounts) if header.accounts else b"",
            header.configuration,
            header.keyspace,
        )
    )


def decode_header(where: str, payload: bytes) -> SpoolHeader:
    """What the first frame says.

    Raises:
        CorruptStorageError: it is none.
        NewerFormatError: written by a newer kvraft.
    """
    rest = _HEADER.size + codec.POSITION_BYTES
    if len(payload) < rest:
        raise CorruptStorageError(f"{where} has no header")
    written, cluster_id, nodes, chunks, floor, length = _HEADER.unpack_from(payload)
    if written > FORMAT_WITH_ACCOUNTS:
        raise NewerFormatError(
            f"{where} has format {written}; this kvraft reads {FORMAT_WITH_ACCOUNTS}: run a newer kvraft"
        )
    position = codec.unpack_position(b"snapshot", payload[_HEADER.size : rest], where)
    accounts = 0
    if written == FORMAT_WITH_ACCOUNTS:
        if len(payload) < rest + _ACCOUNTS.size:
            raise CorruptStorageError(f"{where} has no header")
        (accounts,) = _ACCOUNTS.unpack_from(payload, rest)
        rest += _ACCOUNTS.size
    configuration = payload[rest : rest + length]
    return SpoolHeader(cluster_id, position, configuration, payload[rest + length :], floor, nodes, chunks, accounts)


@final
class Spool:
    """The spool directory, for the transport: what can be sent, and where what arrives is put."""

    def __init__(self, directory: Path, free_bytes: Callable[[], int] = lambda: 1 << 62) -> None:
        self._free_bytes: Final = free_bytes
        self.directory: Final = directory
        """Holds what this member has written; what arrives is below it."""
        self._incoming: Final = directory / "incoming"
        directory.mkdir(mode=0o700, exist_ok=True)
        self._incoming.mkdir(mode=0o700, exist_ok=True)
        for forgotten in self._incoming.glob("*.snapshot"):  # the core of an earlier run was told of it
            forgotten.unlink()

    def path_of(self, snapshot_id: str) -> Path:
        """Where a snapshot is that has arrived whole.

        Raises:
            ValueError: the id has not the form of one (it came from a peer).
        """
        if _ID.fullmatch(snapshot_id) is None:
            raise ValueError(f"snapshot id {snapshot_id[:80]!r}")
        return self._incoming / f"{snapshot_id}.snapshot"

    def receive(self, snapshot_id: str, size_bytes: int) -> "IncomingSnapshot":
        """Begin to receive a snapshot, or go on with it: `offset` says from where. One at a time.

        What an earlier transfer of the same id has left is read again, so call it from a worker thread.
        Raises ValueError for an id or a size that no snapshot has, OSError if the disk cannot hold what comes of it.
        """
        if size_bytes < len(MAGIC) + DIGEST_BYTES:
            raise ValueError(f"snapshot of {size_bytes} bytes")
        finished = self.path_of(snapshot_id)
        unfinished = finished.with_suffix(".part")
        for other in self._incoming.glob("*.part"):
            if other != unfinished:
                other.unlink()
        arrived = unfinished.stat().st_size if unfinished.exists() else 0
        if _INSTALLED * size_bytes - arrived > self._free_bytes():
            raise OSError(errno.ENOSPC, f"no room to install a snapshot of {size_bytes} bytes")
        return IncomingSnapshot(snapshot_id, finished, unfinished, size_bytes)

    def remove(self, snapshot_id: str) -> None:
        """It was installed."""
        self.path_of(snapshot_id).unlink(missing_ok=True)


@final
class IncomingSnapshot:
    """A snapshot that is being received. Close it, or finish it."""

    def __init__(self, snapshot_id: str, finished: Path, unfinished: Path, size_bytes: int) -> None:
        self.snapshot_id: Final = snapshot_id
        self.size_bytes: Final = size_bytes
        self._finished = finished
        self._unfinished = unfinished
        self._digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
        self.offset = 0
        """How much is here already; the next chunk begins there."""
        self._file = unfinished.open("a+b")
        self._file.seek(0)
        if self._file.seek(0, 2) > size_bytes:
            self._file.truncate(0)
        self._file.seek(0)
        while piece := self._file.read(1 << 20):
            self._take(piece)

    def _take(self, piece: bytes) -> None:
        hashed = max(0, min(len(piece), self.size_bytes - DIGEST_BYTES - self.offset))
        self._digest.update(piece[:hashed])
        self.offset += len(piece)

    def write(self, offset: int, chunk: bytes) -> None:
        """Append a chunk.

        Raises:
            ValueError: it does not begin where the last one ended, or goes beyond the announced size.
        """
        if offset != self.offset or offset + len(chunk) > self.size_bytes:
            raise ValueError(f"chunk of {len(chunk)} bytes at {offset}, expected at {self.offset} of {self.size_bytes}")
        self._file.write(chunk)
        self._take(chunk)

    def finish(self) -> SnapshotFile:
        """All has arrived: verify it, and give it its name.

        Raises:
            CorruptStorageError: it is not what the id says; it is removed, so that the transfer begins anew.
        """
        self._file.flush()
        self._file.seek(max(0, self.size_bytes - DIGEST_BYTES))
        ending = self._file.read()
        self._file.close()
        try:
            header = self._verify(ending)
        except CorruptStorageError:
            self._unfinished.unlink()
            raise
        self._unfinished.replace(self._finished)
        _remove_all_but_newest(self._finished.parent, self._finished)
        path = str(self._finished)
        return SnapshotFile(self.snapshot_id, path, self.size_bytes, header.position, header.configuration)

    def _verify(self, ending: bytes) -> SpoolHeader:
        intact = ending == self._digest.digest() and self.snapshot_id.endswith(self._digest.hexdigest())
        if self.offset != self.size_bytes or not intact:
            raise CorruptStorageError(f"snapshot {self.snapshot_id} arrived damaged")
        header = read_header(self._unfinished)
        if not self.snapshot_id.startswith(f"{header.position.index:x}-{header.position.term:x}-"):
            raise CorruptStorageError(f"snapshot {self.snapshot_id} holds another position")
        try:
            Configuration.decode(header.configuration)
        except ValueError as error:
            raise CorruptStorageError(f"snapshot {self.snapshot_id}: {error}") from error
        return header

    def close(self) -> None:
        """Keep what has arrived, so that a later transfer goes on from there."""
        self._file.close()
