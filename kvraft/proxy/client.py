"""One client's connection: requests are read from it one after the other, and what comes of each is written to it."""

import asyncio
import socket
from typing import Final, cast, final

from kvraft import clock, logs
from kvraft.api_v2 import errors
from kvraft.api_v2.answers import Answer, Framing, answer_parts
from kvraft.api_v2.http_dates import DateLine
from kvraft.api_v2.unfinished import SMALL_BYTES, Unfinished
from kvraft.api_v2.unread import TRANSPORT_BYTES, Unread
from kvraft.proxy.bodies import Body, BrokenBodyError, body_of
from kvraft.proxy.forwarding import Forwarding, Roads
from kvraft.proxy.heads import RefusedError, RequestHead, check_size, read_request
from kvraft.proxy.pages import Pages
from kvraft.proxy.settings import ProxySettings

log = logs.get(__name__)

BODY_BYTES_MAX: Final = 256 << 10
"""A body that is no longer is sent on once it is there whole, and can be sent again; a longer one as it comes."""
_READ_AHEAD_BYTES: Final = 64 << 10
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_LINGER_S: Final = 2.0
"""How long what a client goes on sending is thrown away, before the end of the connection takes its answer away."""
_OWN_FRAMING: Final = Framing(http10=False, head=False, keep_alive=False)


@final
class Front:
    """What all connections share."""

    def __init__(self, settings: ProxySettings, roads: Roads, pages: Pages) -> None:
        self.settings: Final = settings
        self.roads: Final = roads
        self.pages: Final = pages
        self.dates: Final = DateLine(clock.wall_ns)
        self.unread: Final = Unread(settings.unread_bytes_max)
        self.unfinished: Final = Unfinished(settings.unfinished_bytes_max)
        self.connections: Final[set[ClientConnection]] = set()
        self.is_stopping = False
        self.all_closed: Final = asyncio.Event()

    def forget(self, connection: "ClientConnection") -> None:
        """A connection is closed."""
        self.connections.discard(connection)
        if self.is_stopping and not self.connections:
            self.all_closed.set()


@final
class ClientConnection(asyncio.Protocol):
    """A connection; also the `Client` of its forwarding, a `Reader` of `Unread` and a `Sender` of `Unfinished`."""

    __slots__ = (
        "_address",
        "_body",
        "_body_used",
        "_buffer",
        "_eof",
        "_forwarding",
        "_front",
        "_head",
        "_head_searched",
        "_held",
        "_held_back",
        "_in_serve",
        "_is_paused",
        "_last",
        "_read_ahead",
        "_silent_sweeps",
        "_transport",
        "_writing_paused",
    )

    def __init__(self, front: Front) -> None:
        self._front = front
        self._transport: asyncio.Transport | None = None
        self._address = b""
        self._buffer = b""
        """Received and not yet used; begins at a request, or in its body."""
        self._head_searched = 0
        """No end of a head begins before this position of the buffer."""
        self._head: RequestHead | None = None
        """Of the request whose body is being read, or that is being answered."""
        self._body: Body | None = None
        """What of its body is still to come."""
        self._body_used = 0
        """So much of the buffer is the body's."""
        self._forwarding: Forwarding | None = None
        self._in_serve = False
        self._held = False
        """Reading waits for the endpoint."""
        self._held_back = False
        """Reading waits until all clients together hold less."""
        self._read_ahead = False
        """Reading waits for the answer."""
        self._is_paused = False
        self._writing_paused = False
        self._eof = False
        self._last = False
        """Nothing more is served here."""
        self._silent_sweeps = 0

    # -- asyncio.Protocol ---------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        # uvloop's transports have the methods of asyncio.Transport without being one.
        self._transport = cast("asyncio.Transport", transport)
        # A peer that is gone without a word would hold its watches for ever.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        peer = transport.get_extra_info("peername")
        self._address = str(peer[0]).encode() if peer else b"unknown"
        self._transport.set_write_buffer_limits(TRANSPORT_BYTES)
        self._front.connections.add(self)
        if self._front.is_stopping:
            transport.close()

    def data_received(self, data: bytes) -> None:
        """Take what has come."""
        self._silent_sweeps = 0
        if self._last and self._body is None:
            return
        if self._forwarding is not None and self._body is not None:
            self._stream(data)
            return
        self._buffer = self._buffer + data if self._buffer else data
        if self._forwarding is None:
            self._serve()
        elif len(self._buffer) > _READ_AHEAD_BYTES:
            self._read_ahead = True
            self._pause_or_read()
        if len(self._buffer) > SMALL_BYTES:
            self._front.unfinished.hold(self, len(self._buffer))

    def eof_received(self) -> bool:
        """True (keep the connection) while an answer is owed to a client that only stopped sending.

        Not to a watcher: whoever has gone looks the same, and etcd takes nobody's word for it either.
        """
        forwarding = self._forwarding
        if forwarding is None or forwarding.is_watch or self._body is not None:
            return False
        self._eof = True
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- asyncio's
        """The client has gone, and its request with it."""
        self._transport = None
        self._let_go()
        self._front.forget(self)

    def _let_go(self) -> None:
        self._last = True
        self._buffer = b""
        self._body = None
        self._front.unread.release(self)
        self._front.unfinished.release(self)
        forwarding, self._forwarding = self._forwarding, None
        if forwarding is not None:
            forwarding.client_gone()

    def pause_writing(self) -> None:
        """The client has left too much unread."""
        self._writing_paused = True
        if self._forwarding is not None:
            self._forwarding.client_slow()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._writing_paused = False
        self._front.unread.release(self)
        if self._forwarding is not None:
            self._forwarding.client_ready()
        elif not self._in_serve:
            self._serve()

    # -- requests -----------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        """Take requests from the buffer until one has to wait for its answer or for more bytes."""
        self._in_serve = True
        try:
            while self._buffer and self._forwarding is None and not self._writing_paused and not self._last:
                if not self._serve_one():
                    break
        except RefusedError as error:
            self._refuse(error.answer)
        except BrokenBodyError as error:
            self._refuse(errors.message(500, b"httpproxy: failed to read request body: " + str(error).encode()))
        finally:
            self._in_serve = False
        if self._forwarding is None and self._eof and not self._last and self._transport is not None:
            self._transport.close()

    def _serve_one(self) -> bool:
        """Begin one request; False if it is not there yet."""
        if self._head is None and not self._read_head():
            return False
        head, body = self._head, self._body
        if head is None:
            return True  # it was answered here
        if body is None:
            self._begin(head, b"", is_whole=True)
            return True
        self._body_used += body.feed(self._buffer[self._body_used :])
        if not body.is_over and self._body_used <= BODY_BYTES_MAX:
            return False
        sent, self._buffer = self._buffer[: self._body_used], self._buffer[self._body_used :]
        self._body = None if body.is_over else body
        self._body_used = 0
        self._front.unfinished.release(self)
        self._begin(head, sent, is_whole=body.is_over)
        return True

    def _read_head(self) -> bool:
        """Read a head and answer it if that is the proxy's to do; False if it is not there whole."""
        buffer, settings = self._buffer, self._front.settings
        end = buffer.find(b"\r\n\r\n", self._head_searched)
        if end < 0 or end > _READ_AHEAD_BYTES:
            check_size(buffer, end, settings.line_bytes_max, settings.header_bytes_max)
        if end < 0:
            self._head_searched = max(0, len(buffer) - 3)
            return False
        self._head_searched = 0
        head = self._head = read_request(buffer, end)
        self._buffer = buffer[end + 4 :]
        body = body_of(head.headers.length)
        self._body = None if body.is_over else body
        transport = self._transport
        assert transport is not None, "it has just brought something"
        own = self._front.pages.answer(head, is_secure=transport.get_extra_info("ssl_object") is not None)
        if own is not None:
            if self._body is not None:  # which nobody reads
                own.close = True
            self.answer(own)
            return True
        if self._body is not None and head.headers.expects and not head.http10:
            transport.write(_CONTINUE)
        return True

    def _begin(self, head: RequestHead, body: bytes, *, is_whole: bool) -> None:
        front = self._front
        front.roads.counts.begun(head.method)
        self._forwarding = Forwarding(front.roads, self, head, self._address, front.pages.cors(head))
        self._forwarding.send(body, is_whole=is_whole)

    def _stream(self, data: bytes) -> None:
        """More of a body of which the beginning is on its way."""
        body, forwarding = self._body, self._forwarding
        assert body is not None, "asked before"
        assert forwarding is not None, "asked before"
        try:
            used = body.feed(data)
        except BrokenBodyError as error:
            self._body = None
            forwarding.body_broke(str(error))
            return
        if body.is_over:
            self._body = None
            self._buffer = data[used:]
        forwarding.more(data[:used], is_last=body.is_over)

    # -- forwarding.Client --------------------------------------------------------------------------------------

    def write(self, parts: list[bytes]) -> None:
        """See `Client.write`."""
        if self._transport is None:
            return
        if len(parts) == 1:
            self._transport.write(parts[0])
        else:
            self._transport.writelines(parts)
        if self._writing_paused:
            self._front.unread.hold(self, parts)

    def answer(self, answer: Answer) -> None:
        """See `Client.answer`."""
        head = self._head
        assert head is not None, "it is what is answered"
        framing = Framing(http10=head.http10, head=head.method == b"HEAD", keep_alive=head.keep_alive)
        parts, keep_alive = answer_parts(answer, framing, self._front.dates() + self._front.pages.cors(head))
        self.write(parts)
        self.over(keep_alive=keep_alive)

    def over(self, *, keep_alive: bool) -> None:
        """See `Client.over`."""
        self._forwarding = self._head = None
        if not keep_alive or self._front.is_stopping or self._transport is None:
            self._end()
            return
        assert self._body is None, "an answer to the beginning of a request ends the connection"
        if self._read_ahead or self._held:
            self._read_ahead = self._held = False
            self._pause_or_read()
        if (self._buffer or self._eof) and not self._in_serve:
            self._serve()

    def _end(self) -> None:
        """Close behind what was written; who is still sending gets the time to read it."""
        self._last = True
        is_sending = self._body is not None
        self._buffer, self._body = b"", None
        self._front.unfinished.release(self)
        transport = self._transport
        if transport is None:
            return
        if not is_sending:
            transport.close()
            return
        # A close with bytes unread would reset the connection, and the client would lose its answer.
        self._held = self._held_back = self._read_ahead = False
        self._pause_or_read()
        transport.write_eof()
        asyncio.get_running_loop().call_later(_LINGER_S, transport.close)

    def _refuse(self, answer: Answer) -> None:
        """Answer what cannot be read, and nothing behind it."""
        self.write(answer_parts(answer, _OWN_FRAMING, b"")[0])
        self._head = None
        self._body = body_of(1)  # something is still coming, as far as anybody knows
        self._end()

    def break_off(self) -> None:
        """See `Client.break_off`."""
        self._forwarding = None
        self._last = True
        if self._transport is not None:
            self._transport.abort()

    def hold(self) -> None:
        """See `Client.hold`."""
        self._held = True
        self._pause_or_read()

    def read_on(self) -> None:
        """See `Client.read_on`."""
        self._held = False
        self._pause_or_read()

    # -- unread.Reader, unfinished.Sender -----------------------------------------------------------------------

    def cut_off(self) -> None:
        """Drop the connection, and what its answer holds."""
        if self._transport is not None:
            self._transport.abort()
        self._let_go()

    def hold_back(self) -> None:
        """Read nothing for now."""
        self._held_back = True
        self._pause_or_read()

    def go_on(self) -> None:
        """Read again."""
        self._held_back = False
        self._pause_or_read()

    def give_up(self) -> None:
        """Say that the rest is not waited for; whoever waits for an answer and has sent so much ahead is cut off."""
        if self._forwarding is not None or self._transport is None or self._transport.is_closing():
            self.cut_off()
        else:
            self._refuse(errors.too_slow())

    def _pause_or_read(self) -> None:
        """Read, unless something says otherwise."""
        wanted = self._held or self._held_back or self._read_ahead
        if self._transport is None or wanted == self._is_paused:
            return
        self._is_paused = wanted
        if wanted:
            self._transport.pause_reading()
        elif not self._transport.is_closing():
            self._transport.resume_reading()

    # -- Front --------------------------------------------------------------------------------------------------

    def close_if_idle(self, sweeps: int) -> None:
        """Count a sweep without a word from the client."""
        if self._forwarding is None and self._transport is not None:
            self._silent_sweeps += 1
            if self._silent_sweeps > sweeps:
                self._transport.close()

    def close_after_answer(self) -> None:
        """Serve nothing more: a watch, which might last, is broken off."""
        if self._transport is None:
            return
        if self._forwarding is None:
            self._transport.close()
        elif self._forwarding.is_watch:
            self._transport.abort()

    def abort(self) -> None:
        """Drop it."""
        if self._transport is not None:
            self._transport.abort()
