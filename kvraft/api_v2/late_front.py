"""aiohttp's front, imported once clients are served and not before.

Importing aiohttp takes a third of a start, and few requests need it. So it is imported in a thread beside the first
requests. A connection that is handed over before that is done is kept, unread, and handed on then.
"""

import asyncio
import errno
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from kvraft import logs
from kvraft.api_v2.app import App
from kvraft.api_v2.http_dates import DateLine
from kvraft.api_v2.unfinished import Unfinished
from kvraft.api_v2.unread import Unread

if TYPE_CHECKING:
    from kvraft.api_v2.aiohttp_front import AiohttpFront

AGAIN_S: Final = 0.5
_PASSES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""For want of which no file can be read now: the process has served clients by then, and they may hold them all."""
_NO_THREAD: Final = "can't start new thread"
"""Python's words."""

log = logs.get(__name__)


def _front_class() -> "type[AiohttpFront]":
    from kvraft.api_v2.aiohttp_front import AiohttpFront  # noqa: PLC0415 -- see the module

    return AiohttpFront


def _passes(error: OSError | ImportError | MemoryError | RuntimeError) -> bool:
    """Whether the import may succeed later; of a shared object, or of a thread, the words alone say why not now."""
    match error:
        case OSError():
            return error.errno in _PASSES
        case ImportError():
            return any(os.strerror(number) in str(error) for number in _PASSES)
        case RuntimeError():
            return str(error) == _NO_THREAD
        case MemoryError():
            return True


@final
@dataclass(slots=True, eq=False)
class _Parked(asyncio.Protocol):
    """A connection that waits for its front."""

    front: "LateFront"
    transport: asyncio.Transport
    received: bytes
    last: bool

    def data_received(self, data: bytes) -> None:
        """What was under way when reading stopped."""
        self.received += data

    def eof_received(self) -> bool:
        """The client sends no more and waits for its answer."""
        self.last = True
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- asyncio's
        """It waits no longer."""
        self.front.parked.discard(self)
        self.front.unfinished.release(self)

    def hold_back(self) -> None:
        """It is not read anyway."""

    def go_on(self) -> None:
        """It is read again by its front."""

    def give_up(self) -> None:
        """Whatever it wants."""
        self.transport.abort()


@final
class LateFront:
    """`AiohttpFront` for those who need not know whether it is there yet."""

    def __init__(self, app: App, dates: DateLine, unread: Unread, unfinished: Unfinished) -> None:
        self._app = app
        self._dates = dates
        self._unread = unread
        self.unfinished = unfinished
        self._front: AiohttpFront | None = None
        self._stopping = False
        self.parked: set[_Parked] = set()

    @property
    def connection_count(self) -> int:
        """Open connections."""
        return len(self.parked) + (self._front.connection_count if self._front is not None else 0)

    async def load(self) -> None:
        """Import the front, and hand it what has come meanwhile. A new connection of its own needs this first."""
        front_class, is_told = None, False
        while front_class is None:
            try:
                front_class = await asyncio.to_thread(_front_class)
            except (OSError, ImportError, MemoryError, RuntimeError) as error:
                if not _passes(error):
                    raise
                if self._stopping:
                    return
                if not is_told:
                    log.warning("what rare requests need cannot be loaded, which is tried again", error=error)
                    is_told = True
                await asyncio.sleep(AGAIN_S)
        self._front = front_class(self._app, self._dates, self._unread, self.unfinished)
        if self._stopping:
            self._front.begin_stop()
        for connection in list(self.parked):
            self.parked.discard(connection)
            self.unfinished.release(connection)
            if not connection.transport.is_closing():
                connection.transport.resume_reading()
                self._front.adopt(connection.transport, connection.received, last=connection.last)

    def new_protocol(self) -> asyncio.Protocol:
        """A protocol for one connection."""
        assert self._front is not None, "loaded before its listener is served"
        return self._front.new_protocol()

    def adopt(self, transport: asyncio.Transport, received: bytes, *, last: bool) -> None:
        """See `AiohttpFront.adopt`."""
        if self._front is not None:
            self._front.adopt(transport, received, last=last)
            return
        parked = _Parked(self, transport, received, last)
        transport.pause_reading()
        transport.set_protocol(parked)
        self.parked.add(parked)
        self.unfinished.hold(parked, len(received))

    def begin_stop(self) -> None:
        """See `AiohttpFront.begin_stop`. What is parked has not been begun."""
        self._stopping = True
        for connection in list(self.parked):
            connection.transport.close()
        if self._front is not None:
            self._front.begin_stop()

    async def stop(self, timeout_s: float) -> None:
        """See `AiohttpFront.stop`."""
        if self._front is not None:
            await self._front.stop(timeout_s)
