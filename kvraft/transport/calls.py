"""Calls by gRPC: what members ask each other rarely.

A connection that begins as HTTP/2 is relayed to a server on a private socket of this process, so that an operator opens
one port, and a member that nobody calls never loads gRPC.
"""

import asyncio
import importlib
import secrets
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast, final

from kvraft import logs
from kvraft.transport.interfaces import LocalMember

if TYPE_CHECKING:
    from kvraft.transport.call_server import CallServer

_BUFFER_BYTES: Final = 256 << 10

_log = logs.get(__name__)


@final
class Calls:
    """The gRPC server of this process, started by the first call."""

    def __init__(self, local: LocalMember, idle_call_ms: int) -> None:
        self._local = local
        self._idle_call_ms = idle_call_ms
        self._socket_name = f"kvraft-{secrets.token_hex(8)}"
        """In the abstract namespace of unix sockets: nothing to remove, whatever ends the process."""
        self._server: CallServer | None = None
        self._starting = asyncio.Lock()
        self._relays: set[asyncio.Task[None]] = set()

    def relay(self, transport: asyncio.Transport, seen: bytes, on_end: Callable[[], None]) -> None:
        """Pass on a connection that has begun with these bytes; `on_end` is called when it has ended."""
        outer = _End(on_end)
        transport.set_protocol(outer)
        outer.connection_made(transport)
        transport.pause_reading()
        task = asyncio.get_running_loop().create_task(self._connect(outer, seen), name="relay of a call")
        self._relays.add(task)
        task.add_done_callback(self._relays.discard)

    async def _connect(self, outer: "_End", seen: bytes) -> None:
        loop = asyncio.get_running_loop()
        try:
            await self._start()
            inside = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            inside.setblocking(False)
            try:
                await loop.sock_connect(inside, f"\0{self._socket_name}")
            except BaseException:
                inside.close()
                raise
            inner = _End(lambda: None)
            inner.other, outer.other = outer, inner  # first: the server speaks as soon as it is connected
            await loop.create_unix_connection(lambda: inner, sock=inside)
        except Exception as error:  # noqa: BLE001 -- gRPC's are of many kinds; a call that is not served ends no member
            _log.error("cannot serve calls from peers", error=repr(error))
            outer.end()
            return
        if outer.has_ended:
            inner.end()
            return
        inner.write(seen)
        outer.go_on()

    async def _start(self) -> None:
        """Load gRPC, in a thread as it takes a while, and serve."""
        async with self._starting:
            if self._server is None:
                loop = asyncio.get_running_loop()
                module = await loop.run_in_executor(None, importlib.import_module, "kvraft.transport.call_server")
                server: CallServer = module.CallServer(self._local, self._idle_call_ms)
                await server.start(f"unix-abstract:{self._socket_name}")
                self._server = server

    async def stop(self) -> None:
        """End the server and all relays."""
        for task in tuple(self._relays):
            task.cancel()
        await asyncio.gather(*self._relays, return_exceptions=True)
        if self._server is not None:
            await self._server.stop()


@final
class _End(asyncio.Protocol):
    """One end of a relay: what it reads the other writes; who is slow slows the other down."""

    def __init__(self, on_end: Callable[[], None]) -> None:
        self.other: _End | None = None
        self.has_ended = False
        self._on_end = on_end
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It stands, or is taken over."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_BUFFER_BYTES)

    def data_received(self, data: bytes) -> None:
        """Pass it on."""
        assert self.other is not None, "nothing is read before the other end stands"
        self.other.write(data)

    def write(self, data: bytes) -> None:
        """Send."""
        if self._transport is not None and not self.has_ended:
            self._transport.write(data)

    def pause_writing(self) -> None:
        """This end is slow."""
        if self.other is not None and not self.other.has_ended:
            self.other.hold_back()

    def resume_writing(self) -> None:
        """It has caught up."""
        if self.other is not None and not self.other.has_ended:
            self.other.go_on()

    def hold_back(self) -> None:
        """Read nothing for now."""
        if self._transport is not None:
            self._transport.pause_reading()

    def go_on(self) -> None:
        """Read again."""
        if self._transport is not None:
            self._transport.resume_reading()

    def end(self) -> None:
        """Send what is buffered and close; an end that is still being connected is closed by whoever does it."""
        if self._transport is not None:
            self._transport.close()

    def connection_lost(self, _error: Exception | None) -> None:
        """The other end goes, too."""
        self.has_ended = True
        self._on_end()
        if self.other is not None and not self.other.has_ended:
            self.other.end()
