"""One TCP connection that carries messages: whole ones in, sealed ones out, and a sign of life when it is quiet."""

import asyncio
import socket
from collections.abc import Callable, Iterable
from typing import Final, Protocol, cast, final

from kvraft.transport.codec import WireError
from kvraft.transport.framing import PING, Splitter, seal
from kvraft.transport.reports import Reports
from kvraft.transport.settings import TransportSettings

_SIGNS_OF_LIFE: Final = 6
"""Ticks without a byte after which the other side is gone; one of them is what it may pause by itself."""
_LANE_SIGNS: Final = 60
"""And for one connection of several between the same processes, as long as another one lives: a slow link may give all
of its room to one of them for a while."""
_GREETING_BYTES_MAX: Final = 16 << 10
"""A greeting or a refusal has a few hundred bytes; nobody who has not been accepted makes us hold more."""
_MESSAGE_OVERHEAD: Final = 64 << 10
"""What a message may hold beside `message_bytes_max` (or a chunk) of frames: tags and lengths."""


class ConnectionUser(Protocol):
    """Who uses a connection at the moment: whoever greets, a lane of a session, a snapshot."""

    def on_message(self, message: bytes) -> None:
        """A whole message. May raise `WireError`, which closes the connection."""
        ...

    def on_read_end(self) -> None:
        """All messages of one read were given."""
        ...

    def on_writable(self) -> None:
        """The buffer has room again."""
        ...

    def on_lost(self, reason: str) -> None:
        """The connection has ended. Called once, and the last call."""
        ...


@final
class Connection(asyncio.Protocol):
    """A connection of our own protocol, behind the preamble."""

    def __init__(self, reports: Reports, settings: TransportSettings, pulse: "Pulse") -> None:
        self.user: ConnectionUser
        self.on_end: Callable[[], None] | None = None
        """Called once when the connection has ended, before its user hears of it."""
        self.address = ""
        """Of the other side."""
        self.together: Iterable[Connection] = (self,)
        """The connections of whose signs of life one is enough for all."""
        self.silent_ticks = 0
        self._reports = reports
        self._pulse = pulse
        self._splitter = Splitter(_GREETING_BYTES_MAX)
        self._message_bytes_max = max(settings.message_bytes_max, settings.snapshot_chunk_bytes) + _MESSAGE_OVERHEAD
        self._buffer_bytes = settings.write_buffer_bytes
        self._transport: asyncio.Transport | None = None
        self._paused = False
        self._held_back = False
        self._wrote = False
        self._closing = False
        self._ended = False
        self._reason = "it closed the connection"

    @property
    def is_open(self) -> bool:
        """Whether it has not ended yet."""
        return self._transport is not None and not self._ended

    @property
    def is_writable(self) -> bool:
        """Whether the buffer has room; if not, `on_writable` follows."""
        if self._paused or self._transport is None:
            return False
        if self._transport.get_write_buffer_size() <= self._buffer_bytes:
            return True
        # Full, and maybe only until this turn of the loop ends: then nobody tells.
        asyncio.get_running_loop().call_soon(self._look_again)
        return False

    def _look_again(self) -> None:
        if not self._paused and not self._ended:
            self.user.on_writable()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands, or is taken over from whoever looked at its first bytes."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=self._buffer_bytes)
        self.address = address_of(transport)
        connected: socket.socket = transport.get_extra_info("socket")
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        """Give the user what is complete. Nothing goes further of a read whose end is damaged."""
        self.silent_ticks = 0
        if self._ended:
            return
        try:
            messages = self._splitter.feed(data)
            for message in messages:
                self.user.on_message(message)
                if not self.is_open:
                    return
            if messages:
                self.user.on_read_end()
        except WireError as error:
            self._reports.garbage(self.address, error)
            self.abort(str(error))
        except Exception as error:  # noqa: BLE001 -- an exception here would end this connection alone, unnoticed
            self._reports.bug(error)
            self.abort(repr(error))

    @property
    def transport(self) -> asyncio.Transport:
        """What it came on."""
        assert self._transport is not None, "it has not been made"
        return self._transport

    def greeted(self) -> None:
        """The other side's greeting is accepted here. What it sends behind our answer may be long."""
        self._splitter.message_bytes_max = self._message_bytes_max

    def write(self, message: bytes) -> None:
        """Send a message."""
        self.write_sealed(seal(message))

    def write_sealed(self, data: bytes) -> None:
        """Send messages that are sealed already."""
        if self._transport is not None and not self._closing and not self._ended:
            self._wrote = True
            self._transport.write(data)

    def tick(self) -> None:
        """A sixth of the time in which a dead connection is to be noticed has passed."""
        if not self._held_back:  # Who does not listen hears no sign of life.
            self.silent_ticks += 1
        quietest = min((each.silent_ticks for each in self.together if each.is_open), default=self.silent_ticks)
        if quietest >= _SIGNS_OF_LIFE or self.silent_ticks >= _LANE_SIGNS:
            self.abort("it fell silent")
        elif not self._wrote and not self._paused:
            self.write_sealed(PING)
        self._wrote = False

    def watch(self) -> None:
        """From now on say something now and then, and expect the same of the other side."""
        self._pulse.connections.add(self)

    def hold_back(self) -> None:
        """Read nothing more for now."""
        self._held_back = True
        if self._transport is not None and not self._ended:
            self._transport.pause_reading()

    def go_on(self) -> None:
        """Read again."""
        self._held_back = False
        if self._transport is not None and not self._ended:
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        """The buffer is full."""
        self._paused = True

    def resume_writing(self) -> None:
        """It has room again."""
        self._paused = False
        if not self._ended:
            self.user.on_writable()

    def close(self, reason: str) -> None:
        """Send what is buffered, then end the connection."""
        self._reason = reason
        self._closing = True
        if self._transport is not None:
            self._transport.close()

    def abort(self, reason: str) -> None:
        """End the connection now; the user hears of it now."""
        self._reason = reason
        if self._transport is not None:
            self._transport.abort()
        self._end()

    def connection_lost(self, error: Exception | None) -> None:
        """The connection has ended."""
        if error is not None:
            self._reason = str(error)
        self._end()

    def _end(self) -> None:
        self._pulse.connections.discard(self)
        if not self._ended:
            self._ended = True
            self._splitter.clear()
            try:
                if self.on_end is not None:
                    self.on_end()
                self.user.on_lost(self._reason)
            except Exception as error:  # noqa: BLE001 -- as in data_received
                self._reports.bug(error)


def address_of(transport: asyncio.BaseTransport) -> str:
    """The other side's `host:port`."""
    peer = transport.get_extra_info("peername")
    if not isinstance(peer, tuple):
        return str(peer or "")
    return f"[{peer[0]}]:{peer[1]}" if ":" in peer[0] else f"{peer[0]}:{peer[1]}"


@final
class Pulse:
    """The ticks of all connections. One that is busy or late ticks less often: its own stall is nobody's silence."""

    def __init__(self, silence_ms: int) -> None:
        self.connections: set[Connection] = set()
        self._interval_s = silence_ms / _SIGNS_OF_LIFE / 1000
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Tick from now on."""
        self._timer = asyncio.get_running_loop().call_later(self._interval_s, self._tick)

    def stop(self) -> None:
        """No tick after this."""
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        self.start()  # First: whatever goes wrong below, the next tick comes.
        for connection in tuple(self.connections):
            connection.tick()


@final
class Mailbox:
    """A connection's user for tasks: messages are awaited one at a time, and at most a few wait."""

    _HELD_MAX: Final = 4

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._messages: list[bytes] = []
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self.lost: str | None = None
        """Why the connection has ended; None while it has not."""
        self._held_back = False
        connection.user = self

    def on_message(self, message: bytes) -> None:
        """Keep it."""
        self._messages.append(message)

    def on_read_end(self) -> None:
        """Wake the reader; one that does not keep up holds back the sender."""
        self._arrived.set()
        if len(self._messages) >= self._HELD_MAX and not self._held_back:
            self._held_back = True
            self.connection.hold_back()

    def on_writable(self) -> None:
        """Wake the writer."""
        self._writable.set()

    def on_lost(self, reason: str) -> None:
        """Wake both."""
        self.lost = reason
        self._arrived.set()
        self._writable.set()

    async def read(self) -> bytes:
        """The next message.

        Raises:
            ConnectionError: there is none, the connection has ended.
        """
        while not self._messages:
            if self.lost is not None:
                raise ConnectionError(self.lost)
            self._arrived.clear()
            await self._arrived.wait()
        message = self._messages.pop(0)
        if self._held_back and not self._messages:
            self._held_back = False
            self.connection.go_on()
        return message

    async def write(self, message: bytes) -> None:
        """Send a message once the buffer has room.

        Raises:
            ConnectionError: the connection has ended.
        """
        while not self.connection.is_writable:
            if self.lost is not None:
                raise ConnectionError(self.lost)
            self._writable.clear()
            await self._writable.wait()
        if self.lost is not None:
            raise ConnectionError(self.lost)
        self.connection.write(message)
