"""A scripted workload that fails or dies at any chosen storage call of any of its threads.

strace can make the n-th call of a kind fail in every thread that it follows, but n is fixed when strace starts, and
starting it and Python for each n takes a second. So one process is started under strace with a large n; for each point
it forks a child, and the thread that is to be hit makes n - k harmless calls of the kind (on /dev/null) before the
workload: its k-th real call is then the one. Threads that make none never get as far as n.

    python -m tests.storage.script RECORD SNAPSHOT CALL

reads lines `DIRECTORY THREAD K` and answers each with the exit code of the child. What the child had been told is
durable, it leaves in RECORD, which is shared memory: a kill cannot take it back.
"""

import asyncio
import contextlib
import mmap
import os
import struct
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final

from kvraft.raft.effects import HardState
from kvraft.storage.codec import position_of
from kvraft.storage.errors import StorageError
from kvraft.storage.opening import Storage
from tests.storage.child import FAILED_EXIT, open_small
from tests.storage.support import batch, changes, entries_after

COMMITS: Final = 220
HIT_AT: Final = 700
"""More calls of a kind than any thread makes by itself."""
THREADS: Final = ("main", "kvraft-log", "kvraft-state")
CALLS: Final = (
    "pwrite64",
    "writev",
    "write",
    "fdatasync",
    "fsync",
    "ftruncate",
    "fallocate",
    "rename",
    "unlink",
    "unlinkat",
    "mkdir",
    "rmdir",
)
"""Whatever changes a disk, or makes a change durable."""
REFUSED_EXIT: Final = 1
BROKEN_EXIT: Final = 4

_FACTS: Final = struct.Struct("<8Q")
_BACKLOG_S: Final = 20.0


class Record:
    """What one run of the script was told, in memory that outlives it."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _FACTS.size)
        self.clear()

    def clear(self) -> None:
        """Before a run."""
        self.acknowledged = self.flushed = self.failures = self.late = self.commits = 0
        self.threads = [0] * len(THREADS)
        """Their ids of the system, in the order of `THREADS`."""
        self.keep()

    def keep(self) -> None:
        """After each fact."""
        facts = (self.acknowledged, self.flushed, self.failures, self.late, self.commits, *self.threads)
        self._memory[:] = _FACTS.pack(*facts)

    def look(self) -> None:
        """In another process."""
        facts = _FACTS.unpack(self._memory[:])
        self.acknowledged, self.flushed, self.failures, self.late, self.commits, *self.threads = facts


class Script:
    """The same calls in the same order each time: whatever is asked for is waited for."""

    def __init__(self, storage: Storage, record: Record, snapshot: Path, pads: dict[str, Callable[[], None]]) -> None:
        self.storage = storage
        self.record = record
        self.snapshot = snapshot
        self.pads = pads
        self.position = storage.log.restored().last
        self.batch_id = 0
        self.failed = asyncio.Event()
        self.changed = asyncio.Event()

    def on_persisted(self, batch_id: int) -> None:
        assert batch_id == self.batch_id
        self._acknowledge()
        self.changed.set()

    def on_failure(self, _error: StorageError) -> None:
        self.record.failures += 1
        self.record.keep()
        self.failed.set()
        self.changed.set()

    def _acknowledge(self) -> None:
        if self.failed.is_set():
            self.record.late += 1
        self.record.acknowledged = self.position.index
        self.record.commits += 1
        self.record.keep()

    def _flushed(self, index: int) -> None:
        self.record.late += self.failed.is_set()
        self.record.flushed = index
        self.record.commits += 1
        self.record.keep()
        self.changed.set()

    async def _wait(self) -> None:
        """For the answer to what was asked for, or the failure."""
        async with asyncio.timeout(_BACKLOG_S):
            await self.changed.wait()
        self.changed.clear()

    def _batch(self, count: int) -> None:
        entries = entries_after(self.position, count, payload=b"p" * 200)
        committed = self.position.index
        self.position = position_of(entries[-1])
        self.batch_id += 1
        self.queued = batch(self.batch_id, entries, hard_state=HardState(1, 0xA1, committed))

    async def _commit(self, number: int) -> None:
        self._batch(1 + number % 3)
        if number % 2:
            if self.storage.log.persist_now(self.queued):
                self._acknowledge()
                return
        else:
            self.storage.log.persist(self.queued)
        await self._wait()

    async def _flush(self) -> None:
        index = self.position.index
        nodes = dict.fromkeys(range(1, 20), b"%d" % index)
        written = changes(nodes, {index: b"event"}, meta=b"%d" % index)
        self.storage.state.flush(self.position, b"", written, lambda position: self._flushed(position.index))
        await self._wait()

    async def _install(self) -> None:
        """What a leader's snapshot does to a follower that is far behind."""
        incoming = self.storage.state.spool.receive(self.snapshot.stem, self.snapshot.stat().st_size)
        incoming.write(0, self.snapshot.read_bytes())
        wanted = incoming.finish().installation(3)
        self.storage.state.install_snapshot(wanted, lambda: self._flushed(wanted.last_included_index))
        await self._wait()
        if not self.failed.is_set():
            self.position = self.storage.state.position
            self.record.acknowledged = self.position.index
            self.record.keep()

    async def run(self) -> int:
        """Everything, until it is done or has failed."""
        self.storage.start(asyncio.get_running_loop(), self.on_persisted, self.on_failure)
        self.storage.log._queue.put(self.pads["kvraft-log"])
        self.storage.state._submit("padding", self.pads["kvraft-state"])
        for number in range(COMMITS):
            await self._commit(number)
            if number % 20 == 15 and not self.failed.is_set():
                await self._flush()
            if number % 60 == 59:
                self.storage.log.compact(self.storage.state.position)
            if number == 100 and not self.failed.is_set():
                self.storage.state.spool_snapshot(lambda _: self.changed.set())
                await self._wait()
            if number == COMMITS - 20 and not self.failed.is_set():
                await self._install()
            if self.failed.is_set():
                break
        if self.failed.is_set():
            await self._go_on_after_failure()
        self.storage.close()
        for _ in range(3):
            await asyncio.sleep(0)
        return FAILED_EXIT if self.failed.is_set() else 0

    async def _go_on_after_failure(self) -> None:
        """Three more batches and a flush: the next commit of LMDB would succeed, on top of one that is lost."""
        for _ in range(3):
            self._batch(1)
            if self.storage.log.persist_now(self.queued):
                self._acknowledge()
            self.storage.log.persist(self.queued)
            await asyncio.sleep(0)
        index = self.record.acknowledged
        self.storage.state.flush(
            self.storage.log.restored().last, b"", changes({}, meta=b"%d" % index), lambda _: self._flushed(index)
        )


def pad(call: str, count: int) -> None:
    """Make harmless calls of a kind, on this thread."""
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    harmless: dict[str, Callable[[], object]] = {
        "pwrite64": lambda: os.pwrite(null, b"", 0),
        "writev": lambda: os.writev(null, [b""]),
        "write": lambda: os.write(null, b""),
        "fdatasync": lambda: os.fdatasync(null),
        "fsync": lambda: os.fsync(null),
        "ftruncate": lambda: os.ftruncate(null, 0),
        "fallocate": lambda: os.posix_fallocate(null, 0, 1),
        "rename": lambda: os.rename("", ""),  # noqa: PTH104 -- a path object would make another call of it
        "unlink": lambda: os.unlink(""),  # noqa: PTH108 -- see above
        "unlinkat": lambda: os.unlink("", dir_fd=null),
        "mkdir": lambda: os.mkdir(""),  # noqa: PTH102 -- see above
        "rmdir": lambda: os.rmdir(""),  # noqa: PTH106 -- see above
    }
    make = harmless[call]
    for _ in range(count):
        with contextlib.suppress(OSError):  # most of them fail on /dev/null, and are counted all the same
            make()
    os.close(null)


def play(path: Path, record: Record, snapshot: Path, call: str, thread: str, number: int) -> int:
    """One run in this process; the exit code."""
    record.clear()
    pads = {name: _padding(record, name, call, HIT_AT - number if name == thread else 0) for name in THREADS}
    pads["main"]()
    try:
        storage = open_small(path)
        return asyncio.run(Script(storage, record, snapshot, pads).run())
    except (StorageError, OSError):
        return REFUSED_EXIT


def _padding(record: Record, thread: str, call: str, count: int) -> Callable[[], None]:
    def padding() -> None:
        record.threads[THREADS.index(thread)] = threading.get_native_id()
        record.keep()
        pad(call, count)

    return padding


def serve(record: Record, snapshot: Path, call: str) -> None:
    """A child for each line of stdin."""
    for line in sys.stdin:
        path, thread, number = line.split()
        pid = os.fork()
        if pid == 0:
            try:
                code = play(Path(path), record, snapshot, call, thread, int(number))
            except BaseException:  # noqa: BLE001 -- this process ends here, whatever happened
                traceback.print_exc()
                code = BROKEN_EXIT
            os._exit(code)
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def main() -> int:
    """See the module."""
    record, snapshot, call = sys.argv[1:]
    assert threading.active_count() == 1, "children are forked"
    serve(Record(Path(record)), Path(snapshot), call)
    return 0


if __name__ == "__main__":
    sys.exit(main())
