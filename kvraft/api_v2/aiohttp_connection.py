"""aiohttp's side of a connection, bent so that answers are ours to the byte.

`Handler` is aiohttp's protocol for one connection, fed request by request (`request_splitter`), with Go's answers to
what is no HTTP. `WayOut` is what an exchange writes to. `Sent` tells aiohttp that an answer has been written already.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import cast, final

from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter

from kvraft import logs
from kvraft.api_v2 import errors
from kvraft.api_v2.answers import Framing
from kvraft.api_v2.app import App
from kvraft.api_v2.asker import Asker, asker_on
from kvraft.api_v2.exchange import Exchange
from kvraft.api_v2.request_splitter import RequestLine, Splitter
from kvraft.api_v2.unfinished import SMALL_BYTES, Unfinished
from kvraft.api_v2.unread import TRANSPORT_BYTES, Unread

log = logs.get(__name__)


@final
class WayOut:
    """The way out of one request that aiohttp parsed."""

    __slots__ = ("_authorization", "_common", "_forwarded", "_handler", "_transport", "over")

    def __init__(
        self,
        handler: "Handler",
        transport: asyncio.Transport,
        common: bytes,
        authorization: bytes | None = None,
        *,
        forwarded: bool = False,
    ) -> None:
        self._handler = handler
        self._transport = transport
        self._authorization = authorization
        self._forwarded = forwarded
        self._common = common
        self.over: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        """Done when the answer is complete; its result: whether the connection stays open."""

    def token(self) -> bytes:
        """Nothing: what comes this way is rare."""
        return b""

    def asker(self) -> Asker:
        """Who has sent what is being answered."""
        return asker_on(self._transport, self._authorization, forwarded=self._forwarded)

    def common_headers(self) -> bytes:
        """Date and CORS lines."""
        return self._common

    def write(self, parts: list[bytes]) -> None:
        """Queue bytes for the client."""
        if not self._transport.is_closing():  # uvloop raises then, and whoever answers is not to blame
            self._transport.writelines(parts)
            if self._handler.writing_paused:
                self._handler.server.unread.hold(self._handler, parts)

    def is_writable(self) -> bool:
        """Whether the client takes what it is sent."""
        return not self._handler.writing_paused

    def abort(self) -> None:
        """Drop the connection."""
        self._transport.abort()

    def exchange_over(self, *, keep_alive: bool) -> None:
        """Let aiohttp go on."""
        if not keep_alive and not self._transport.is_closing() and self._transport.can_write_eof():
            # The client sees the end now, also while the rest of what it sends is read and thrown away.
            self._transport.write_eof()
        if not self.over.done():
            self.over.set_result(keep_alive)


@final
class Sent(web.StreamResponse):
    """Tells aiohttp that everything is written already."""

    def __init__(self, *, keep_alive: bool, linger_s: float = 0.0) -> None:
        super().__init__()
        self._stays_open = keep_alive
        self._linger_s = linger_s

    @property
    def keep_alive(self) -> bool:
        """Whether the connection goes on."""
        return self._stays_open

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:  # noqa: ARG002 -- aiohttp's
        """Send nothing: the head has left."""
        return None

    async def write_eof(self, data: bytes = b"") -> None:  # noqa: ARG002 -- aiohttp's
        """Wait for the client to go, if asked to; its going cancels this."""
        if self._linger_s:
            await asyncio.sleep(self._linger_s)


@final
class Handler(web.RequestHandler):
    """aiohttp's connection, with Go's answer to what is not HTTP, and no traceback for anybody."""

    __slots__ = (
        "_asked",
        "_coming",
        "_content",
        "_given_up",
        "_held_back",
        "_held_bytes",
        "_lines",
        "_splitter",
        "exchange",
        "has_ended",
        "server",
    )

    server: "Server"
    exchange: Exchange | None
    """What is being answered."""
    has_ended: bool
    """The client sends no more, and waits for answers still."""
    _lines: deque[RequestLine]
    """What was asked by the requests that the parser has been given with a line of ours and that are not begun."""
    _asked: RequestLine | None
    """What is being answered was asked so, and `_content` is its body."""
    _content: StreamReader | None
    _coming: RequestLine | None
    """Whose body the next bytes are."""
    _held_bytes: int
    """What the requests hold that are not settled."""
    _held_back: bool
    """Read no further because all clients together have sent too much."""
    _given_up: bool
    _splitter: Splitter

    def begin(self, server: "Server") -> None:
        """Make ready for a connection."""
        settings = server.app.settings
        self.server = server
        self.exchange = None
        self.has_ended = False
        self._lines = deque()
        self._asked = self._content = self._coming = None
        self._held_bytes = 0
        self._held_back = self._given_up = False
        self._splitter = Splitter(settings.request_line_bytes_max, settings.header_bytes_max, settings.headers_max)

    def data_received(self, data: bytes) -> None:
        """Feed the parser."""
        if not data:
            # aiohttp itself: its parser may go on with what it has kept back.
            super().data_received(data)
            return
        if self._given_up:
            return
        for piece in self._splitter.feed(data):
            if piece.line is not None:
                self._lines.append(piece.line)
                self._coming = piece.line
            coming = self._coming
            if coming is not None and coming.held_bytes >= 0:
                coming.held_bytes += len(piece.data)
                self._held_bytes += len(piece.data)
            super().data_received(piece.data)
        self._end_broken_body()
        if self._held_bytes + self._splitter.kept_bytes > SMALL_BYTES and self.transport is not None:
            self.server.unfinished.hold(self, self._held_bytes + self._splitter.kept_bytes)

    def begin_request(self, request: web.BaseRequest) -> RequestLine:
        """What is asked by the next request; called for each one in the order in which the parser gave them."""
        self._asked = self._lines.popleft()
        self._content = request.content
        self._end_broken_body()
        return self._asked

    def settle(self, line: RequestLine) -> None:
        """What a request has sent is kept no more, or by others, who have limits of their own."""
        self._held_bytes -= max(0, line.held_bytes)
        line.held_bytes = -1  # what still comes of it is thrown away
        self.server.unfinished.hold(self, self._held_bytes + self._splitter.kept_bytes)

    @property
    def is_last(self) -> bool:
        """Whether no request can follow the one that is being answered."""
        return self.has_ended and not self._is_owed()

    def eof_received(self) -> bool:  # type: ignore[override] # asyncio's; aiohttp has None, which closes
        """True (keep the connection) while answers are owed to a client that only stopped sending, as `nc -N` does."""
        exchange = self.exchange
        if exchange is None:
            self.has_ended = self._is_owed()
        else:
            # What has half a body is never done.
            self.has_ended = self._content is None or self._content.is_eof()
            if self.has_ended:
                exchange.last_request()
        return self.has_ended

    def _is_owed(self) -> bool:
        """Whether requests wait to be begun: good ones have a line until they are, bad ones wait with the parser."""
        return bool(self._lines or self._messages)

    def _end_broken_body(self) -> None:
        """Wake whoever reads a body of which no more will come, or throws it away; its request is the last."""
        if self._asked is not None and self._asked.body_is_broken and self._content is not None:
            self._content.feed_eof()
            self.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected, or its connection was handed over."""
        super().connection_made(transport)
        # uvloop's transports have the methods of asyncio.Transport without being one.
        self.server.transports[self] = cast("asyncio.Transport", transport)
        self.server.transports[self].set_write_buffer_limits(TRANSPORT_BYTES)

    def connection_lost(self, exc: BaseException | None) -> None:
        """The client has gone; aiohttp cancels what is being answered."""
        # At once: that comes a turn of the loop later, and until then the answer would go to a closed transport.
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.gone()
        super().connection_lost(exc)
        self.server.unread.release(self)
        self.server.unfinished.release(self)
        self.server.transports.pop(self, None)
        self.server.note_closed()

    def resume_writing(self) -> None:
        """Tell whoever streams an answer that the client has caught up."""
        super().resume_writing()
        self.server.unread.release(self)
        if self.exchange is not None and self.exchange.on_writable is not None:
            self.exchange.on_writable()

    def cut_off(self) -> None:
        """Drop the connection, and what its answer holds."""
        self.server.transports[self].abort()
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.gone()

    def hold_back(self) -> None:
        """Read nothing for now (`unfinished.Sender`)."""
        self._held_back = True
        self._pause_transport_reading()

    def go_on(self) -> None:
        """Read again, if aiohttp wants to."""
        self._held_back = False
        if not self._reading_paused and not self._buffer_paused:
            self._resume_transport_reading()

    def _resume_transport_reading(self) -> None:
        """aiohttp's: every way in which it reads on."""
        if not self._held_back:
            super()._resume_transport_reading()

    def give_up(self) -> None:
        """Say that the rest is not waited for; whoever waits for an answer and has sent so much ahead is cut off."""
        if self.transport is None:
            return
        asked = self._asked
        if asked is not None and asked.is_awaited and self._content is not None:
            asked.is_given_up = True
            self._content.feed_eof()
            self.close()
        elif self.exchange is None and not self._is_owed():
            super().data_received(self._splitter.give_up().data)
        else:
            self.cut_off()
            return
        # What still comes is read and thrown away, so that the client sees its answer.
        self._given_up = True
        self._resume_transport_reading()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Say that this is no HTTP, or that we have a bug; the connection ends either way."""
        if status == 400:
            log.debug("bad request", peer=request.remote, error=message)
            if self._given_up:
                answer = errors.too_slow()
            else:
                answer = errors.head_too_large() if self._splitter.too_large else errors.bad_request()
        else:
            log.error("answering a request failed", peer=request.remote, error=repr(exc))
            answer = errors.text_error(500, b"Internal Server Error")
        if self.transport is not None:
            connection = WayOut(self, self.transport, b"")
            Exchange(connection, Framing(http10=False, head=False, keep_alive=False)).answer(answer)
        # From now on what arrives is dropped. A close with bytes unread would reset the connection, and the client
        # would lose its answer.
        self.close()
        return Sent(keep_alive=False, linger_s=self.server.app.settings.unread_body_s)


@final
class Server(web.Server):
    """Makes our handlers where web.Server would make its own.

    Args:
        app: Answers requests.
        handle: Is given every request that aiohttp has parsed.
        unread: What clients leave unread.
        unfinished: What clients have sent of requests that are not whole.
    """

    def __init__(
        self,
        app: App,
        handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        unread: Unread,
        unfinished: Unfinished,
    ) -> None:
        settings = app.settings
        super().__init__(
            handle,
            # An idle watch is given up the moment its client disconnects.
            handler_cancellation=True,
            max_line_size=settings.request_line_bytes_max,
            max_field_size=settings.header_bytes_max,
            max_headers=settings.headers_max,
            keepalive_timeout=settings.keep_alive_s,
            lingering_time=settings.unread_body_s,
            auto_decompress=False,
            access_log=None,
        )
        self.app = app
        self.unread = unread
        self.unfinished = unfinished
        self.stopping = False
        self.transports: dict[Handler, asyncio.Transport] = {}
        """Every open connection; aiohttp forgets one that it has told to close, before all has left."""
        self.all_closed = asyncio.Event()
        """Set when a stopping server has no connection any more."""

    def note_closed(self) -> None:
        """Look whether the last connection has closed."""
        if self.stopping and not self.transports:
            self.all_closed.set()

    def __call__(self) -> Handler:
        """A protocol for one connection."""
        handler = Handler(self, loop=self._loop, **self._kwargs)
        handler.begin(self)
        return handler
