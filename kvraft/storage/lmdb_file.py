"""One LMDB environment that is not believed: examined before it is mapped, with a watermark beside it.

LMDB commits by writing data pages, syncing, and then writing one of two meta pages in turn. It has no checksums: a
damaged newer meta page silently means the older one, that is a lost commit. Two things show that:
the numbers of the two meta pages always differ by one; and a small `watermark` file, written after each commit without
a sync, holds the number of the newest commit and a checksum of its meta page. A watermark that is newer than the
environment proves that an acknowledged commit is gone. An older one proves nothing: the process may have died in
between, or the power failed before the system wrote the file.

The structure of the pages is examined as well (by `lmdb.verify`, which never maps the file), always while the file is
small, and whatever its size after a start that died while reading: LMDB notices little of it until it has written over
a page that a damaged list calls free.
"""

import contextlib
import mmap
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import lmdb
import lmdb.verify

from kvraft import clock, logs
from kvraft.storage import failpoints
from kvraft.storage.codec import REMEDY
from kvraft.storage.commit_marks import (
    META_BYTES,
    PAGE_BYTES_OFFSET,
    check_watermark,
    encode_watermark,
    last_page_of,
    number_of,
)
from kvraft.storage.environment import sync_directory
from kvraft.storage.errors import CorruptStorageError
from kvraft.storage.free_pages import free_pages, runs
from kvraft.storage.giving_back import allocated_bytes, forget_mapped, punch
from kvraft.storage.interfaces import Database, Transaction

EXAMINED_BYTES_MAX: Final = 32 << 20
"""Up to here every start examines the whole structure (0.1 s)."""
MAP_BYTES_MIN: Final = 1 << 30
UNWRITTEN_BYTES_MAX: Final = 64 << 20
"""How much shorter a sound file may be than its last page says: LMDB never writes pages at the end that one transaction
took and gave back. They are filled with zeros before the file is mapped: these fail the checks, where reading a map
beyond the end of its file would kill the process.
"""

_FOR_EVER: Final = 1 << 62

_log = logs.get(__name__)
_verify: Final[Callable[..., list[str]]] = lmdb.verify.verify
"""It carries no types."""


@final
@dataclass(slots=True, frozen=True)
class Supply:
    """How much of a file may be free pages."""

    spare_bytes: int = 16 << 20
    """So much, and beside it as much as is in use while somebody writes: it is written again sooner or later."""
    hole_bytes_min: int = 64 << 10
    """Shorter runs of free pages are left alone: each hole is a record of the file system."""
    more_freed_bytes_min: int = 8 << 20
    """How much more must be free than the last time, when not all could be given back."""


@final
class LmdbFile:
    """An open environment: `sync` and `metasync` on, `writemap` off, the map never resized."""

    def __init__(
        self,
        path: Path,
        map_bytes: int,
        databases: int,
        *,
        create: bool,
        examine: bool,
        supply: Supply = Supply(),
    ) -> None:
        """Open the environment in directory `path`.

        Raises:
            CorruptStorageError: it is missing, damaged, or older than its watermark.
        """
        self.path: Final = path
        self._supply: Final = supply
        self._closed = False
        data = path / "data.mdb"
        if create:
            path.mkdir(mode=0o700)
        else:
            _examine_before_mapping(data, examine=examine)
        self._environment = _open_with_largest_map(path, map_bytes, databases)
        self._data = os.open(data, os.O_RDONLY | os.O_CLOEXEC)
        self._page_bytes = int(self._environment.stat()["psize"])
        self._metas = mmap.mmap(self._data, 2 * self._page_bytes, access=mmap.ACCESS_READ)
        """Both meta pages, as LMDB sees them. A call that read them would let others run, and wait for its turn."""
        self._tables: list[Database] = []
        self._kept_bytes = 0
        """Free pages that could not be given back the last time."""
        if create:
            self._watermark = os.open(path / "watermark", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._write_watermark(0)
            os.fsync(self._watermark)
            os.fsync(self._data)
            sync_directory(path)
            sync_directory(path.parent)
        else:
            self._watermark = os.open(path / "watermark", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._check_watermark()

    def database(self, name: bytes) -> Database:
        """Open or create a named table. Only before the environment is shared between threads."""
        table = self._environment.open_db(name)
        self._tables.append(table)
        return table

    @contextlib.contextmanager
    def reading(self) -> Iterator[Transaction]:
        """A read transaction. It is closed within seconds: an open one makes the file grow for good.

        Raises:
            CorruptStorageError: LMDB has found something impossible.
        """
        try:
            with self._environment.begin() as transaction:
                yield transaction
        except lmdb.Error as error:
            raise CorruptStorageError(f"{self.path} cannot be read: {error}; {REMEDY}") from error

    def writing(self) -> "_Writing":
        """A write transaction, which the caller ends with `commit`; an exception undoes it."""
        return _Writing(self._environment)

    def commit(self, transaction: Transaction, label: int) -> None:
        """Commit, durably, then move the watermark.

        Args:
            transaction: what `writing` gave.
            label: what the commit reached (a log index), for the message if it is lost.
        """
        number = transaction.id()
        transaction.commit()
        failpoints.hit("commit.before_watermark")
        self._write_watermark(label, number)

    def size_bytes(self) -> int:
        """What the data file takes of the disk: its length, which never shrinks, without its holes."""
        return allocated_bytes(self._data)

    def capacity_bytes(self) -> int:
        """The size of the map."""
        return int(self._environment.info()["map_size"])

    def used_bytes(self) -> int:
        """Pages in use in all tables. Counted by LMDB itself, so it costs nothing."""
        with self.reading() as transaction:
            every = [transaction.stat(), *(transaction.stat(db=table) for table in self._tables)]
        pages = sum(facts["branch_pages"] + facts["leaf_pages"] + facts["overflow_pages"] for facts in every)
        return int(pages * self._page_bytes)

    def give_back(self, *, idle: bool) -> int:
        """Make holes of free pages, if they are too many. Returns how many bytes the disk has back.

        What LMDB has freed it uses again, but it gives nothing back: after many large values the file is as long as
        ever. Free pages of the newest commit are read by nobody who begins from now on, and that commit is durable, so
        no start comes back to an older one. The write lock is held: no page is taken into use meanwhile.

        Args:
            idle: nobody writes: keep no supply of free pages, and let what is mapped of the file leave this process.
                Otherwise as many pages as are in use may stay free.

        Raises:
            CorruptStorageError: the list of free pages is damaged.
            OSError: the disk has failed.
        """
        if idle:
            forget_mapped(self._data)
        used = self.used_bytes()
        free_bytes = self.size_bytes() - used
        supply = self._supply
        if free_bytes <= supply.spare_bytes + (0 if idle else used):
            return 0
        if free_bytes < self._kept_bytes + supply.more_freed_bytes_min:
            return 0
        started_ns = clock.monotonic_ns()
        with self.writing():
            before = self.size_bytes()
            number = self._environment.info()["last_txnid"]
            pages = free_pages(
                lambda offset, length: os.pread(self._data, length, offset),
                self._page_bytes,
                self._meta_page(number),
                min([number, *_readers(self._environment)]),
                str(self.path),
            )
            size = self._page_bytes
            holes = runs(pages, max(supply.hole_bytes_min // size, 1))
            possible = punch(self._data, ((first * size, count * size) for first, count in holes))
            given_back = before - self.size_bytes()
        self._kept_bytes = free_bytes - given_back if possible else _FOR_EVER
        if given_back:
            milliseconds = (clock.monotonic_ns() - started_ns) // 1_000_000
            _log.info("free pages given back", directory=self.path, bytes=given_back, duration_ms=milliseconds)
        return given_back

    def close(self) -> None:
        """No thread may use it any more. Closing it again does nothing."""
        if not self._closed:
            self._closed = True
            self._environment.close()
            self._metas.close()
            os.close(self._data)
            os.close(self._watermark)

    def _write_watermark(self, label: int, number: int = 0) -> None:
        """`number` is what the commit was to get: a transaction that has changed nothing leaves it to the next one."""
        if not number or number_of(self._meta_page(number)) != number:
            number = self._environment.info()["last_txnid"]
        pages = self._meta_page(number), self._meta_page(number + 1)
        os.pwrite(self._watermark, encode_watermark(number, label, *pages), 0)

    def _meta_page(self, transaction_id: int) -> bytes:
        begin = (transaction_id & 1) * self._page_bytes
        return self._metas[begin : begin + META_BYTES]

    def _check_watermark(self) -> None:
        stored = os.pread(self._watermark, 64, 0)
        if not stored:
            _log.warning("there is no watermark: this start cannot tell a lost commit", directory=self.path)
            self._write_watermark(0)
            return
        held = self._environment.info()["last_txnid"]
        check_watermark(str(self.path), stored, held, self._meta_page(held))


@final
class _Writing:
    """A write transaction as a context. No generator: each write waits for one, and that takes four times as long."""

    __slots__ = ("_environment", "_transaction")

    def __init__(self, environment: lmdb.Environment) -> None:
        self._environment = environment
        self._transaction: Transaction

    def __enter__(self) -> Transaction:
        self._transaction = self._environment.begin(write=True)
        return self._transaction

    def __exit__(self, *_error: object) -> None:
        self._transaction.abort()  # nothing to do after a commit


def _readers(environment: lmdb.Environment) -> list[int]:
    """The transactions that are being read, of this process: nobody else opens the file.

    LMDB gives its table of readers as lines of a pid, a thread and a transaction, which is "-" for one that is at rest.
    """
    words = (line.split() for line in environment.readers().splitlines())
    return [int(fields[2]) for fields in words if len(fields) == 3 and fields[0].isdigit() and fields[2].isdigit()]


def _open_with_largest_map(path: Path, map_bytes: int, databases: int) -> lmdb.Environment:
    """The map is address space, not memory or disk. Where the system refuses that much, half of it will do."""
    while True:
        try:
            environment = lmdb.open(
                str(path),
                map_size=map_bytes,
                mode=0o600,
                max_dbs=databases,
                max_readers=64,
                max_spare_txns=8,
                sync=True,
                metasync=True,
                writemap=False,
                readahead=True,
            )
        except lmdb.MemoryError:
            if map_bytes <= MAP_BYTES_MIN:
                raise
            map_bytes //= 2
        except lmdb.Error as error:
            raise CorruptStorageError(f"{path} cannot be opened: {error}; {REMEDY}") from error
        else:
            environment.reader_check()
            return environment


def _examine_before_mapping(data: Path, *, examine: bool) -> None:
    """Refuse a file that LMDB would misread, take for a new one, or crash on."""
    try:
        size = data.stat().st_size
        with data.open("rb") as file:
            first = file.read(META_BYTES)
            page_bytes = int.from_bytes(first[PAGE_BYTES_OFFSET : PAGE_BYTES_OFFSET + 4], "little")
            if page_bytes not in {1 << shift for shift in range(9, 17)} or size < 2 * page_bytes:
                raise CorruptStorageError(f"{data} ({size} bytes) has no valid first meta page; {REMEDY}")
            file.seek(page_bytes)
            second = file.read(META_BYTES)
    except FileNotFoundError:
        raise CorruptStorageError(f"{data} is missing; {REMEDY}") from None
    last_page = last_page_of(str(data), first, second, page_bytes)
    missing = (last_page + 1) * page_bytes - size
    if missing > UNWRITTEN_BYTES_MAX:
        raise CorruptStorageError(f"{data} ends {missing} bytes before its last page; {REMEDY}")
    if missing > 0:
        os.truncate(data, (last_page + 1) * page_bytes)
    if examine or size <= EXAMINED_BYTES_MAX:
        try:
            findings = _verify(str(data), subdir=False)
        except lmdb.verify.VerifyError as error:
            findings = [str(error)]
        if findings:
            raise CorruptStorageError(f"{data}: {findings[0]}; {REMEDY}")
