"""etcd's write-ahead log, read and not touched: frames, their chain of checksums, what a crash left of the last one.

The rules are those of etcd v3.4 wal/decoder.go and wal/repair.go, which read the files of 2.x as well: only the last
file may end in a torn record, which was never acknowledged; every other fault is damage, and is refused with its place.
"""

import errno
import itertools
import mmap
import os
import re
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, final

import google_crc32c

from kvraft.migration.contents import UnusableError
from kvraft.migration.protobuf_fields import NotProtobufError, bytes_in, fields_of, number_in

METADATA: Final = 1
ENTRY: Final = 2
STATE: Final = 3
CRC: Final = 4
SNAPSHOT: Final = 5

_LENGTH: Final = struct.Struct("<Q")
"""Of the record in 56 bits; from 3.0 on the highest bit says that the three above tell how many bytes of padding follow
it, so that frames begin at multiples of 8."""
_SECTOR: Final = 512
"""A disk writes so many bytes or none."""
_RECORD_BYTES_MAX: Final = 256 << 20
"""A request has 1.5 MiB unless etcd was told otherwise; so much is copied at once, whatever a damaged length says."""
_SLICE_BYTES: Final = 1 << 20
_NAME: Final = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})\.wal")


@final
@dataclass(slots=True, frozen=True)
class WalRecord:
    """One record that its checksum holds."""

    kind: int
    data: bytes
    place: str
    """File and offset, for whoever has to look at it."""


@final
@dataclass(slots=True, frozen=True)
class WalFile:
    """A file and what its name says."""

    path: Path
    sequence: int
    first_index: int
    """Of the first entry in it."""


def wal_files(directory: Path) -> list[WalFile]:
    """The files of the log in order; others in the directory are none of it (`0.tmp`, `*.broken`).

    Raises:
        UnusableError: there is none, or one is missing between others.
    """
    files = [
        WalFile(path, int(match[1], 16), int(match[2], 16))
        for path in sorted(directory.iterdir())
        if (match := _NAME.fullmatch(path.name))
    ]
    if not files:
        raise UnusableError(f"{directory}: no write-ahead log (*.wal) is there; is it the directory of an etcd?")
    for before, file in itertools.pairwise(files):
        if file.sequence != before.sequence + 1:
            raise UnusableError(f"{directory}: the log goes from {before.path.name} to {file.path.name}: files between")
    return files


def files_from(files: list[WalFile], index: int) -> list[WalFile]:
    """Those that are needed to go on after a snapshot at `index`.

    Raises:
        UnusableError: the log begins later.
    """
    first = max((number for number, file in enumerate(files) if file.first_index <= index), default=None)
    if first is None:
        raise UnusableError(
            f"{files[0].path}: the log begins at entry {files[0].first_index}, and there is no sound snapshot that"
            f" reaches there, only one at {index}; take the directory of another member"
        )
    return files[first:]


@final
class WalReader:
    """Reads files one after the other; `torn` tells afterwards what the end of the last one was."""

    def __init__(self, files: list[WalFile]) -> None:
        self._files = files
        self._crc = 0
        self.torn = ""
        """Where a record was cut off; empty if none was."""

    def records(self) -> Iterator[WalRecord]:
        """Every sound record.

        Raises:
            UnusableError: damage, with file and offset.
        """
        for file in self._files:
            is_last = file is self._files[-1]
            with open_file(file.path) as opened:
                if not file.path.stat().st_size:
                    if not is_last:
                        raise UnusableError(f"{file.path}: empty; take the directory of another member")
                    return
                with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
                    yield from self._records_of(file.path, content, opened.fileno(), is_last=is_last)

    def _records_of(self, path: Path, content: mmap.mmap, descriptor: int, *, is_last: bool) -> Iterator[WalRecord]:
        at, end = 0, len(content)
        while at < end:
            place = f"{path} at offset {at}"
            if end - at < _LENGTH.size:
                self._cut_off(place, is_last=is_last)
                return
            (length,) = _LENGTH.unpack_from(content, at)
            if length == 0:
                # Space that was laid out ahead: nothing follows in this file, unless its disk lost what stood here.
                if _holds_something(content, descriptor, at):
                    self._cut_off(place, is_last=is_last)
                return
            size, padding = length & ((1 << 56) - 1), (length >> 56) & 7 if length >> 63 else 0
            start = at + _LENGTH.size
            if size + padding > end - start:
                self._cut_off(place, is_last=is_last)
                return
            if size > _RECORD_BYTES_MAX:
                raise UnusableError(f"{place}: a record of {size} bytes, which no etcd writes; the file is damaged")
            message = content[start : start + size]
            record = self._checked(message, place)
            if record is None:
                if is_last and _has_empty_sector(message, start):
                    self.torn = place
                    return
                raise UnusableError(f"{place}: a record is damaged; take the directory of another member")
            yield record
            at = start + size + padding

    def _checked(self, message: bytes, place: str) -> WalRecord | None:
        """The record, or None if its checksum does not hold; each goes on from that of the record before it."""
        try:
            fields = fields_of(message)
        except NotProtobufError:
            return None
        kind, crc, data = number_in(fields, 1), number_in(fields, 2), bytes_in(fields, 3)
        if kind == CRC:
            # The first of a file: the chain so far. A reader that begins in the middle takes it over.
            if self._crc not in (0, crc):
                return None
            self._crc = crc
        else:
            self._crc = google_crc32c.extend(self._crc, data)
            if self._crc != crc:
                return None
        return WalRecord(kind, data, place)

    def _cut_off(self, place: str, *, is_last: bool) -> None:
        if not is_last:
            raise UnusableError(f"{place}: the file ends within a record; take the directory of another member")
        self.torn = place


def open_file(path: Path) -> BinaryIO:
    """A file for reading; nothing is waited for, as opening a FIFO would.

    Raises:
        UnusableError: it is something else.
        OSError: it cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UnusableError(f"{path}: no file; take the directory of another member")
    return os.fdopen(descriptor, "rb")


def _holds_something(content: mmap.mmap, descriptor: int, at: int) -> bool:
    """Whether anything but zeros stands from there on. Holes are passed over, however large they are."""
    while at < len(content):
        try:
            at = os.lseek(descriptor, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return False
            raise
        end = min(os.lseek(descriptor, at, os.SEEK_HOLE), len(content))
        if any(content[start : min(start + _SLICE_BYTES, end)].strip(b"\0") for start in range(at, end, _SLICE_BYTES)):
            return True
        at = end
    return False


def _has_empty_sector(message: bytes, offset: int) -> bool:
    """Whether a sector of the record was never written, as after a power cut (wal/decoder.go, isTornEntry)."""
    at = 0
    while at < len(message):
        size = _SECTOR - (offset + at) % _SECTOR
        if not any(message[at : at + size]):
            return True
        at += size
    return False
