r"""A backup as a file: a snapshot behind a frame of facts, all of it under one hash (docs/backup-format.md).

    "kvraft backup\n"
    frame               length and CRC-32 (4 bytes each), then JSON: format, and who took it when
    snapshot            as in `spool`: its magic, header, frames of records
    hash                16 bytes of BLAKE2b over everything before it, the facts included

The id of a copy is its position and this hash: equal ids mean equal bytes, so a transfer that broke off goes on with
whoever has the same id.
"""

import contextlib
import hashlib
import json
import zlib
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final, final

from kvraft.records import BackupFacts
from kvraft.storage import spool
from kvraft.storage.errors import BackupError, CorruptStorageError, NewerFormatError
from kvraft.storage.spool import (
    ACCOUNT,
    DIGEST_BYTES,
    FRAME_BYTES_LIMIT,
    FRAME_HEAD,
    HISTORY,
    NODE,
    Record,
    SpoolHeader,
)

MAGIC: Final = b"kvraft backup\n"
BACKUP_FORMAT: Final = 1
PIECE_BYTES: Final = 1 << 20
"""How much of a file is read at a time."""
_FACTS_BYTES_MAX: Final = 64 << 10
"""Far more than any name takes."""
_REMEDY: Final = "use another one, or take it again"
_WHAT: Final = "give a file that `kvraft backup` has written"


def encode_facts(facts: BackupFacts) -> bytes:
    """The beginning of the file."""
    body = {
        "format": BACKUP_FORMAT,
        "member": f"{facts.member_id:x}",
        "name": facts.name,
        "taken_ns": facts.taken_ns,
        "clock_ms": facts.clock_ms,
        "history": facts.with_history,
    }
    return MAGIC + spool.frame(json.dumps(body, separators=(",", ":")).encode())


def _decode_facts(where: str, payload: bytes) -> BackupFacts:
    try:
        body = json.loads(payload)
        if int(body["format"]) > BACKUP_FORMAT:
            raise NewerFormatError(
                f"{where} has format {body['format']}; this kvraft reads {BACKUP_FORMAT}: use a newer kvraft"
            )
        return BackupFacts(
            int(body["member"], 16),
            str(body["name"]),
            int(body["taken_ns"]),
            int(body["clock_ms"]),
            bool(body["history"]),
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise BackupError(f"{where} says of itself what no backup does ({error!r}): {_REMEDY}") from error


def copy_id(header: SpoolHeader, digest: str) -> str:
    """Equal ids mean equal bytes."""
    return f"{header.position.index:x}-{header.position.term:x}-{digest}"


def write_backup(file: BinaryIO, facts: BackupFacts, header: SpoolHeader, records: Iterable[Record]) -> str:
    """Write all of a backup; the id of the copy."""
    return copy_id(header, spool.write_frames(file, header, records, encode_facts(facts)))


@final
class BackupDecoder:
    """Takes a backup in pieces of any size and gives its records, each verified. `finish` verifies the whole.

    Nothing that was made of the records must be used before `finish` has returned.
    """

    def __init__(self, where: str, size_bytes: int) -> None:
        """`where` is for messages; `size_bytes` is the length of the whole file."""
        self._where: Final = where
        self._size_bytes: Final = size_bytes
        self._digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
        self._buffer = bytearray()
        self.taken_bytes = 0
        """How much has come."""
        self._parsed_bytes = 0
        self._facts: BackupFacts | None = None
        self._header: SpoolHeader | None = None
        self._counts = {NODE: 0, HISTORY: 0, ACCOUNT: 0}
        self._records: list[Record] = []
        self._parser = self._parse()
        self._wanted = next(self._parser)
        self._is_over = False

    @property
    def is_open(self) -> bool:
        """Whether facts and header have come."""
        return self._header is not None

    @property
    def facts(self) -> BackupFacts:
        """What it says of itself; there once it `is_open`."""
        assert self._facts is not None, "they stand at its beginning"
        return self._facts

    @property
    def header(self) -> SpoolHeader:
        """What it holds; there once it `is_open`."""
        assert self._header is not None, "it stands behind the facts"
        return self._header

    def feed(self, piece: bytes) -> list[Record]:
        """Take the next piece; the records that are complete with it.

        Raises:
            BackupError: it is no backup, or damaged.
            NewerFormatError: written by a newer kvraft.
        """
        self.taken_bytes += len(piece)
        if self.taken_bytes > self._size_bytes:  # whoever sends it might never end
            raise BackupError(f"{self._where} has more than the {self._size_bytes} bytes of the backup: {_REMEDY}")
        self._buffer += piece
        try:
            while not self._is_over and len(self._buffer) >= self._wanted:
                part = bytes(self._buffer[: self._wanted])
                del self._buffer[: self._wanted]
                self._parsed_bytes += len(part)
                self._wanted = self._parser.send(part)
        except StopIteration:
            self._is_over = True
        except CorruptStorageError as error:
            raise BackupError(f"{error.args[0].partition('; ')[0]}: {_REMEDY}") from error
        records, self._records = self._records, []
        return records

    def finish(self) -> str:
        """Everything has come; the id of the copy.

        Raises:
            BackupError: something is missing, or more is there than was written.
        """
        if not self._size_bytes:
            raise BackupError(f"{self._where} is empty: {_WHAT}")
        if not self._parsed_bytes and not MAGIC.startswith(self._buffer):
            raise self._foreign()
        if not self._is_over or self._buffer:
            raise self._cut_off()
        return copy_id(self.header, self._digest.hexdigest())

    def _parse(self) -> Generator[int, bytes, None]:
        """What stands in the file, in its order: yields how many bytes come next, and is sent them."""
        if (magic := (yield len(MAGIC))) != MAGIC:
            raise self._foreign()
        self._digest.update(magic)
        self._facts = _decode_facts(self._where, (yield from self._frame(_FACTS_BYTES_MAX)))
        magic = yield len(spool.MAGIC)
        if magic != spool.MAGIC:
            raise self._damaged()
        self._digest.update(magic)
        header = self._header = spool.decode_header(self._where, (yield from self._frame()))
        while self._left() > 0:
            payload = yield from self._frame()
            for record in spool.records_in(payload, self._where):
                self._counts[record[0]] += 1
                self._records.append(record)
        if (yield DIGEST_BYTES) != self._digest.digest():
            held, all_of_it = sum(self._counts.values()), header.nodes + header.history_chunks + header.accounts
            raise self._cut_off() if held < all_of_it else self._damaged()
        if self._counts != {NODE: header.nodes, HISTORY: header.history_chunks, ACCOUNT: header.accounts}:
            raise self._damaged()

    def _frame(self, bytes_max: int = FRAME_BYTES_LIMIT) -> Generator[int, bytes, bytes]:
        head = yield FRAME_HEAD.size
        length, checksum = FRAME_HEAD.unpack(head)
        if length > min(self._left(), bytes_max):
            raise self._cut_off()
        payload = yield length
        self._digest.update(head)
        self._digest.update(payload)
        if zlib.crc32(payload) != checksum:
            raise self._damaged()
        return payload

    def _left(self) -> int:
        """How many bytes of frames are still to come."""
        return self._size_bytes - DIGEST_BYTES - self._parsed_bytes

    def _foreign(self) -> BackupError:
        return BackupError(f"{self._where} is no backup of kvraft: {_WHAT}")

    def _cut_off(self) -> BackupError:
        return BackupError(f"{self._where} is cut off or damaged behind byte {self._parsed_bytes}: {_REMEDY}")

    def _damaged(self) -> BackupError:
        return BackupError(f"{self._where} is damaged before byte {self._parsed_bytes}: {_REMEDY}")


@contextlib.contextmanager
def open_backup(path: Path) -> Iterator[tuple[BackupDecoder, Iterator[Record]]]:
    """A decoder that knows facts and header, and the records, which end with an error if any byte has changed.

    Raises:
        BackupError: no backup, or damaged or cut off; so do the records.
        NewerFormatError: written by a newer kvraft.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        decoder = BackupDecoder(str(path), path.stat().st_size)
        first: list[Record] = []
        while not decoder.is_open:
            piece = _piece(file, path)
            first += decoder.feed(piece)
            if not piece:
                decoder.finish()

        def records() -> Iterator[Record]:
            yield from first
            first.clear()
            while piece := _piece(file, path):
                yield from decoder.feed(piece)
            decoder.finish()

        yield decoder, records()


def _piece(file: BinaryIO, path: Path) -> bytes:
    """The next bytes. An error of a read names nothing, and this one does."""
    try:
        return file.read(PIECE_BYTES)
    except OSError as error:
        error.filename = str(path)
        raise
