"""etcd's write-ahead log, read and not touched: frames, their chain of checksums, what a crash left of the last one.

The rules are those of etcd v3.4 wal/decoder.go and wal/repair.go, which read the files of 2.x as well: only the last
file may end in a torn record, which was never acknowledged; every other fault is damage, and is refused with its place.
"""

import itertools
import mmap
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import google_crc32c

from kvraft.migration.contents import MigrationError
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
        MigrationError: there is none, or one is missing between others.
    """
    files = [
        WalFile(path, int(match[1], 16), int(match[2], 16))
        for path in sorted(directory.iterdir())
        if (match := _NAME.fullmatch(path.name))
    ]
    if not files:
        raise MigrationError(f"{directory}: no write-ahead log (*.wal) is there; is it the directory of an etcd?")
    for before, file in itertools.pairwise(files):
        if file.sequence != before.sequence + 1:
            raise MigrationError(
                f"{directory}: the log goes from {before.path.name} to {file.path.name}: files between"
            )
    return files


def files_from(files: list[WalFile], index: int) -> list[WalFile]:
    """Those that are needed to go on after a snapshot at `index`.

    Raises:
        MigrationError: the log begins later.
    """
    first = max((number for number, file in enumerate(files) if file.first_index <= index), default=None)
    if first is None:
        raise MigrationError(
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
            MigrationError: damage, with file and offset.
        """
        for file in self._files:
            is_last = file is self._files[-1]
            with file.path.open("rb") as opened:
                if not file.path.stat().st_size:
                    if not is_last:
                        raise MigrationError(f"{file.path}: empty; take the directory of another member")
                    return
                with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
                    yield from self._records_of(file.path, content, is_last=is_last)

    def _records_of(self, path: Path, content: mmap.mmap, *, is_last: bool) -> Iterator[WalRecord]:
        at, end = 0, len(content)
        while at < end:
            place = f"{path} at offset {at}"
            if end - at < _LENGTH.size:
                self._cut_off(place, is_last=is_last)
                return
            (length,) = _LENGTH.unpack_from(content, at)
            if length == 0:
                # Space that was laid out ahead: nothing follows in this file, unless its disk lost what stood here.
                if _holds_something(content, at):
                    self._cut_off(place, is_last=is_last)
                return
            size, padding = length & ((1 << 56) - 1), (length >> 56) & 7 if length >> 63 else 0
            start = at + _LENGTH.size
            if size + padding > end - start:
                self._cut_off(place, is_last=is_last)
                return
            message = content[start : start + size]
            record = self._checked(message, place)
            if record is None:
                if is_last and _has_empty_sector(message, start):
                    self.torn = place
                    return
                raise MigrationError(f"{place}: a record is damaged; take the directory of another member")
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
            raise MigrationError(f"{place}: the file ends within a record; take the directory of another member")
        self.torn = place


def _holds_something(content: mmap.mmap, at: int) -> bool:
    """Whether anything but zeros stands from there on."""
    return any(content[start : start + _SLICE_BYTES].strip(b"\0") for start in range(at, len(content), _SLICE_BYTES))


def _has_empty_sector(message: bytes, offset: int) -> bool:
    """Whether a sector of the record was never written, as after a power cut (wal/decoder.go, isTornEntry)."""
    at = 0
    while at < len(message):
        size = _SECTOR - (offset + at) % _SECTOR
        if not any(message[at : at + size]):
            return True
        at += size
    return False
