"""GET /v2/kvraft/backup: a copy of the state of this member at one index, in the form of docs/backup-format.md.

The first answer names the copy (`X-Kvraft-Backup`) and its length (`X-Kvraft-Backup-Size`). A client that was broken
off asks for the rest: `?copy=<name>&offset=<bytes>`. With `?history=true` all of the watch history is in it.
"""

import asyncio
from pathlib import Path
from typing import Final, final
from urllib.parse import parse_qs

from kvraft import clock, logs
from kvraft.api_v2 import errors
from kvraft.api_v2.answers import Answer
from kvraft.api_v2.backend import Backend
from kvraft.api_v2.exchange import Exchange
from kvraft.api_v2.go_forms import PAIRS_MAX
from kvraft.records import BackupCopy, BackupRefused

READ_BYTES: Final = 1 << 20
"""How much is read at a time, on a thread: the disk may take a while."""
PIECE_BYTES: Final = 128 << 10
SENDINGS_MAX: Final = 8
"""At once: each holds a part of the file in memory, however slowly it is taken."""
STALLED_S: Final = 60.0
"""Who takes nothing for so long is broken off, and may ask for the rest; the copy is for others, too."""
PIECES_PER_S_MAX: Final = 256
"""32 MiB a second at most: what a copy is sent with is taken from those who write."""

log = logs.get(__name__)


@final
class Sending:
    """The copies that are on their way."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._tasks: set[asyncio.Task[None]] = set()

    def answer(self, query: bytes, exchange: Exchange) -> Answer | None:
        """The answer to what is wrong with the question; None if a copy, or why there is none, comes later."""
        if query.count(b"&") >= PAIRS_MAX:
            return errors.message(400, b"too many parameters: known are history, copy and offset")
        asked = {name: values[-1] for name, values in parse_qs(query, keep_blank_values=True).items()}
        history, offset = asked.pop(b"history", b"false"), asked.pop(b"offset", b"0")
        copy_id = asked.pop(b"copy", b"")
        if asked:
            return errors.message(400, b"unknown parameter " + min(asked) + b": known are history, copy and offset")
        if history not in {b"true", b"false"}:
            return errors.message(400, b"history is true or false")
        if not offset.isdigit() or len(offset) > 18 or (offset != b"0" and not copy_id):
            return errors.message(400, b"offset is a number of bytes of the copy that is named with it")
        if copy_id:
            return self._go_on(copy_id.decode("latin-1"), int(offset), exchange)
        self._begin(exchange, with_history=history == b"true")
        return None

    def end_all(self) -> None:
        """Break off whatever is being sent: the server stops."""
        for task in list(self._tasks):
            task.cancel()

    def _begin(self, exchange: Exchange, *, with_history: bool) -> None:
        def done(outcome: BackupCopy | BackupRefused) -> None:
            if isinstance(outcome, BackupCopy):
                self._send(outcome, 0, exchange)
            else:
                exchange.answer(errors.message(507 if outcome.is_room else 503, outcome.reason.encode()))

        exchange.on_gone = self._backend.backups.take(with_history=with_history, done=done)

    def _go_on(self, copy_id: str, offset: int, exchange: Exchange) -> Answer | None:
        copy = self._backend.backups.find(copy_id)
        if copy is None:
            return errors.message(410, b"this member has no such copy any more: begin anew, without copy and offset")
        if offset > copy.size_bytes:
            return errors.message(416, b"the copy has %d bytes" % copy.size_bytes)
        self._send(copy, offset, exchange)
        return None

    def _send(self, copy: BackupCopy, offset: int, exchange: Exchange) -> None:
        """Send the rest of a copy; it stays as long as that takes."""
        if not exchange.is_open:
            return
        if len(self._tasks) >= SENDINGS_MAX:
            exchange.answer(
                errors.message(503, b"this member sends %d backups already: try again later" % SENDINGS_MAX)
            )
            return
        self._backend.backups.opened(copy)
        task = asyncio.get_running_loop().create_task(self._stream(copy, offset, exchange), name="send a backup")
        self._tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            error = None if task.cancelled() else task.exception()
            self._backend.backups.closed(copy, to_its_end=not task.cancelled() and error is None)
            if error is not None:
                log.error("sending a backup failed", copy=copy.copy_id, error=error)
            exchange.break_off()

        task.add_done_callback(ended)

        def gone() -> None:
            task.cancel()

        exchange.on_gone = gone

    async def _stream(self, copy: BackupCopy, offset: int, exchange: Exchange) -> None:
        writable = asyncio.Event()
        exchange.on_writable = writable.set
        exchange.begin(206 if offset else 200, self._headers(copy, offset))
        next_ns = clock.monotonic_ns()
        while offset < copy.size_bytes:
            read = memoryview(await asyncio.to_thread(_read_at, copy, offset))
            offset += len(read)
            for start in range(0, len(read), PIECE_BYTES):
                exchange.send_parts(bytes(read[start : start + PIECE_BYTES]))
                next_ns = max(next_ns, now_ns := clock.monotonic_ns()) + int(1e9 / PIECES_PER_S_MAX)
                await asyncio.sleep((next_ns - now_ns) / 1e9)
                while not exchange.is_writable():
                    writable.clear()
                    await _soon(writable)
        exchange.end()

    def _headers(self, copy: BackupCopy, offset: int) -> bytes:
        cluster = b"Content-Type: application/octet-stream\r\nX-Etcd-Cluster-Id: %x\r\n" % self._backend.cluster_id
        named = b"X-Kvraft-Backup: %b\r\nX-Kvraft-Backup-Size: %d\r\n" % (copy.copy_id.encode(), copy.size_bytes)
        if not offset:
            return cluster + named
        rest = b"Content-Range: bytes %d-%d/%d\r\n" % (offset, copy.size_bytes - 1, copy.size_bytes)
        return cluster + named + rest


async def _soon(writable: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(STALLED_S):
            await writable.wait()
    except TimeoutError:
        raise TimeoutError(f"the client has taken nothing for {STALLED_S:g} s") from None


def _read_at(copy: BackupCopy, offset: int) -> bytes:
    """The next part. Opened for each: who gives up waiting for it leaves nothing open that is still read."""
    with Path(copy.path).open("rb", buffering=0) as file:
        file.seek(offset)
        read = file.read(READ_BYTES)
    if not read:
        raise OSError(f"{copy.path} ends at byte {offset} of {copy.size_bytes}")
    return read
