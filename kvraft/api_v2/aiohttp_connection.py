"""aiohttp's side of a connection, bent so that answers are ours to the byte.

`Handler` is aiohttp's protocol for one connection, with Go's answers to what is no HTTP. `WayOut` is what an exchange
writes to. `Sent` tells aiohttp that an answer has been written already.
"""

import asyncio
import http
import re
from collections.abc import Awaitable, Callable
from typing import Final, cast, final

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_exceptions import BadHttpMethod

from kvraft import logs
from kvraft.api_v2 import errors
from kvraft.api_v2.answers import Framing
from kvraft.api_v2.app import App, Request
from kvraft.api_v2.exchange import Exchange
from kvraft.api_v2.request_heads import header_facts

log = logs.get(__name__)

_UNKNOWN_METHOD: Final = re.compile(rb"([A-Za-z]+) ([!-~]+) HTTP/1\.1\r\n")
"""A request line whose only fault may be its method, at the beginning of what was received."""
_KNOWN_METHODS: Final = frozenset(method.value.encode() for method in http.HTTPMethod)
"""With one of these the fault lies further on: in a request behind the first."""


@final
class WayOut:
    """The way out of one request that aiohttp parsed."""

    __slots__ = ("_common", "_handler", "_transport", "over")

    def __init__(self, handler: "Handler", transport: asyncio.Transport, common: bytes) -> None:
        self._handler = handler
        self._transport = transport
        self._common = common
        self.over: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        """Done when the answer is complete; its result: whether the connection stays open."""

    def common_headers(self) -> bytes:
        """Date and CORS lines."""
        return self._common

    def write(self, parts: list[bytes]) -> None:
        """Queue bytes for the client."""
        self._transport.writelines(parts)

    def is_writable(self) -> bool:
        """Whether the client takes what it is sent."""
        return not self._handler.writing_paused

    def failed(self, status: int) -> None:
        """Count an error."""
        self._handler.server.app.count_failure(status)

    def abort(self) -> None:
        """Drop the connection."""
        self._transport.abort()

    def exchange_over(self, *, keep_alive: bool) -> None:
        """Let aiohttp go on."""
        if not keep_alive and self._transport.can_write_eof():
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

    __slots__ = ("exchange", "last_received", "server")

    server: "Server"
    exchange: Exchange | None
    """What is being answered."""
    last_received: bytes
    """The last bytes from the client, while an error in them is not answered."""

    def data_received(self, data: bytes) -> None:
        """Feed the parser."""
        self.last_received = data
        super().data_received(data)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected, or its connection was handed over."""
        super().connection_made(transport)
        # uvloop's transports have the methods of asyncio.Transport without being one.
        self.server.transports[self] = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """The client has gone; aiohttp cancels what is being answered."""
        super().connection_lost(exc)
        self.server.transports.pop(self, None)
        self.server.note_closed()

    def resume_writing(self) -> None:
        """Tell whoever streams an answer that the client has caught up."""
        super().resume_writing()
        if self.exchange is not None and self.exchange.on_writable is not None:
            self.exchange.on_writable()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Say that this is no HTTP, or that we have a bug; the connection ends either way."""
        if isinstance(exc, BadHttpMethod) and self._start_over():
            return Sent(keep_alive=False)
        if status == 400:
            log.debug("bad request", peer=request.remote, error=message)
            answer = errors.bad_request()
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

    def _start_over(self) -> bool:
        """Answer a request whose only fault is a method that the parser does not know, and go on with a fresh parser.

        etcd takes any word for a method. Only where what was received last begins with such a request, without a body.
        """
        received = self.last_received
        line = _UNKNOWN_METHOD.match(received)
        end = received.find(b"\r\n\r\n")
        transport = self.transport
        if line is None or line[1] in _KNOWN_METHODS or end < 0 or transport is None:
            return False
        facts = header_facts(received[line.end() : end + 2])
        if facts is None or facts.content_length or not facts.keep_alive:
            return False
        fresh = self.server()
        self.transport = None
        transport.set_protocol(fresh)
        fresh.connection_made(transport)
        connection = WayOut(fresh, transport, self.server.common_headers())
        framing = Framing(http10=False, head=False, keep_alive=True)
        request = Request(
            method=line[1],
            target=line[2],
            host=b"",
            origin=None,
            content_type=None,
            body=b"",
            framing=framing,
        )
        self.server.app.handle(request, Exchange(connection, framing))
        if len(received) > end + 4:
            fresh.data_received(received[end + 4 :])
        # This protocol has no connection any more; aiohttp ends its task.
        self.connection_lost(None)
        return True


@final
class Server(web.Server):
    """Makes our handlers where web.Server would make its own.

    Args:
        app: Answers requests.
        common_headers: Header lines of an answer to a client whose own headers are not known.
        handle: Is given every request that aiohttp has parsed.
    """

    def __init__(
        self,
        app: App,
        common_headers: Callable[[], bytes],
        handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
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
        self.common_headers = common_headers
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
        handler.server = self
        handler.exchange = None
        handler.last_received = b""
        return handler
