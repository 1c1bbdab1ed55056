"""aiohttp parses requests and minds connections; what is answered, to the byte, is the app's and `answers`' business.

aiohttp's low-level server is used, without its router: routing needs the path as it was sent. Answers are written to
the transport directly, so that both fronts send the same bytes.
"""

import asyncio
import re
from collections.abc import Callable
from typing import Final, cast, final

from aiohttp import HttpVersion10, HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_exceptions import BadHttpMethod

from kvraft import logs
from kvraft.api_v2 import errors
from kvraft.api_v2.answers import Answer, Framing
from kvraft.api_v2.app import App, Request
from kvraft.api_v2.exchange import Exchange
from kvraft.api_v2.go_forms import FORM_BYTES_MAX
from kvraft.api_v2.http_dates import DateLine
from kvraft.api_v2.request_heads import header_facts

log = logs.get(__name__)

_BODY_METHODS: Final = frozenset(("PUT", "POST"))
_HOST: Final = re.compile(r"[A-Za-z0-9!$%&'()*+,\-.:;=\[\]_~]*")
"""What Go takes for a Host (net/http validHostHeader)."""
_UNKNOWN_METHOD: Final = re.compile(rb"([A-Za-z]+) ([!-~]+) HTTP/1\.1\r\n")
"""A request line whose only fault may be its method, at the beginning of what was received."""
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class RefusedError(Exception):
    """The request, or its body, cannot be understood beyond doubt. The connection ends with the answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer = answer
        """What the client is told."""


@final
class AiohttpFront:
    """Makes the aiohttp protocols that serve connections."""

    def __init__(self, app: App, dates: DateLine) -> None:
        self._app = app
        self._dates = dates
        settings = app.settings
        self._server = _Server(
            self._handle,
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
        self._server.app = app
        self._server.common_headers = lambda: dates() + app.cors_headers(None)
        self._server.stopping = False
        self._server.transports = {}
        self._server.all_closed = asyncio.Event()

    @property
    def connection_count(self) -> int:
        """Open connections."""
        return len(self._server.transports)

    def new_protocol(self) -> asyncio.Protocol:
        """A protocol for one connection."""
        return self._server()

    def adopt(self, transport: asyncio.Transport, received: bytes, *, last: bool) -> None:
        """Take over a connection at a request boundary, with what it has sent since.

        Args:
            transport: The connection; no answer is pending on it and it is neither paused nor closing.
            received: Bytes for the parser.
            last: The client will send no more, or nothing more is served: close when `received` is answered.
        """
        protocol = self._server()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(received)
        if last:
            protocol.close()

    def begin_stop(self) -> None:
        """Close each connection after what it is answering."""
        self._server.pre_shutdown()

    async def stop(self, timeout_s: float) -> None:
        """Let requests under way finish, then close every connection."""
        server = self._server
        server.stopping = True
        server.note_closed()
        try:
            async with asyncio.timeout(timeout_s):
                await server.shutdown(timeout_s)
                await server.all_closed.wait()
        except TimeoutError:
            log.warning("requests cut off by the stop", connections=len(server.transports))
            for transport in list(server.transports.values()):
                transport.abort()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        transport = request.transport
        if transport is None:
            raise asyncio.CancelledError
        headers = request.headers
        origin = headers.get("Origin")
        raw_origin = None if origin is None else _raw(origin)
        framing = Framing(
            http10=request.version.minor == 0,
            head=request.method == "HEAD",
            # A client that waits for leave to send a body that nobody will read may send it or not: the connection
            # cannot be told apart after this answer.
            keep_alive=request.keep_alive
            and not ("Expect" in headers and request.can_read_body and not _reads_body(request)),
        )
        handler = request.protocol
        assert isinstance(handler, _Handler)
        connection = _AiohttpConnection(handler, transport, self._dates() + self._app.cors_headers(raw_origin))
        exchange = handler.exchange = Exchange(connection, framing)
        handler.last_received = b""
        try:
            _refuse_odd_framing(request)
            body = await _read_body(request, transport)
        except RefusedError as refused:
            exchange.answer(refused.answer)
            return _Sent(keep_alive=False)
        content_type = headers.get("Content-Type")
        self._app.handle(
            Request(
                method=request.method.encode(),
                target=_raw(request.raw_path),
                host=_raw(headers.get("Host", "")),
                origin=raw_origin,
                content_type=None if content_type is None else _raw(content_type),
                body=body,
                framing=framing,
            ),
            exchange,
        )
        try:
            keep_alive = await connection.over
        finally:
            exchange.gone()
            handler.exchange = None
        await _drained(request)
        return _Sent(keep_alive=keep_alive)


def _refuse_odd_framing(request: web.BaseRequest) -> None:
    """Refuse what the parser lets through although a proxy before us might read it differently.

    Raises:
        RefusedError: An HTTP version or transfer coding that is not ours, or a Host that is none.
    """
    if request.version not in {HttpVersion10, HttpVersion11}:
        raise RefusedError(errors.bad_request())
    coding = request.headers.get("Transfer-Encoding")
    if coding is not None:
        if coding.lower() != "chunked":
            raise RefusedError(Answer(501, errors.PLAIN, b"Unsupported transfer encoding", close=True))
        if request.version != HttpVersion11:
            raise RefusedError(errors.bad_request())
    if not _HOST.fullmatch(request.headers.get("Host", "")):
        raise RefusedError(errors.bad_request(b"malformed Host header"))


def _reads_body(request: web.BaseRequest) -> bool:
    """Whether this request has a body that its answer depends on."""
    return request.method in _BODY_METHODS and request.can_read_body


async def _read_body(request: web.BaseRequest, transport: asyncio.Transport) -> bytes:
    """The body of a write, empty for everything else; at most FORM_BYTES_MAX + 1 bytes of it.

    The client is told to send when it waits for that word.
    """
    expected = request.headers.get("Expect")
    if expected is not None and expected.lower() != "100-continue":
        raise RefusedError(Answer(417, b"", b"", close=True))
    if not _reads_body(request):
        return b""
    if expected is not None:
        transport.write(_CONTINUE)
    chunks: list[bytes] = []
    size = 0
    try:
        while size <= FORM_BYTES_MAX and (chunk := await request.content.readany()):
            chunks.append(chunk)
            size += len(chunk)
    except web.RequestPayloadError as error:
        raise RefusedError(errors.bad_request(b"malformed chunked encoding")) from error
    return b"".join(chunks)[: FORM_BYTES_MAX + 1]


def _raw(text: str) -> bytes:
    """The bytes that aiohttp decoded."""
    return text.encode("utf-8", "surrogateescape")


async def _drained(request: web.BaseRequest) -> None:
    """Wait until the client has taken most of its answer, so that pipelined requests cannot pile answers up."""
    writer: AbstractStreamWriter = request.writer
    await writer.drain()


@final
class _AiohttpConnection:
    """The way out of one request that aiohttp parsed."""

    __slots__ = ("_common", "_handler", "_transport", "over")

    def __init__(self, handler: "_Handler", transport: asyncio.Transport, common: bytes) -> None:
        self._handler = handler
        self._transport = transport
        self._common = common
        self.over: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        """Done when the answer is complete; its result: whether the connection stays open."""

    def common_headers(self) -> bytes:
        return self._common

    def write(self, parts: list[bytes]) -> None:
        self._transport.writelines(parts)

    def is_writable(self) -> bool:
        return not self._handler.writing_paused

    def failed(self, status: int) -> None:
        self._handler.server.app.count_failure(status)

    def abort(self) -> None:
        self._transport.abort()

    def exchange_over(self, *, keep_alive: bool) -> None:
        if not keep_alive and self._transport.can_write_eof():
            # The client sees the end now, also while the rest of what it sends is read and thrown away.
            self._transport.write_eof()
        if not self.over.done():
            self.over.set_result(keep_alive)


@final
class _Sent(web.StreamResponse):
    """Tells aiohttp that everything is written already."""

    def __init__(self, *, keep_alive: bool, linger_s: float = 0.0) -> None:
        super().__init__()
        self._stays_open = keep_alive
        self._linger_s = linger_s

    @property
    def keep_alive(self) -> bool:
        return self._stays_open

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:  # noqa: ARG002 -- aiohttp's
        return None

    async def write_eof(self, data: bytes = b"") -> None:  # noqa: ARG002 -- aiohttp's
        """Wait for the client to go, if asked to; its going cancels this."""
        if self._linger_s:
            await asyncio.sleep(self._linger_s)


@final
class _Handler(web.RequestHandler):
    """aiohttp's connection, with Go's answer to what is not HTTP, and no traceback for anybody."""

    __slots__ = ("exchange", "last_received", "server")

    server: "_Server"
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
            return _Sent(keep_alive=False)
        if status == 400:
            log.debug("bad request", peer=request.remote, error=message)
            answer = errors.bad_request()
        else:
            log.error("answering a request failed", peer=request.remote, error=repr(exc))
            answer = errors.text_error(500, b"Internal Server Error")
        if self.transport is not None:
            connection = _AiohttpConnection(self, self.transport, b"")
            Exchange(connection, Framing(http10=False, head=False, keep_alive=False)).answer(answer)
        # From now on what arrives is dropped. A close with bytes unread would reset the connection, and the client
        # would lose its answer.
        self.close()
        return _Sent(keep_alive=False, linger_s=self.server.app.settings.unread_body_s)

    def _start_over(self) -> bool:
        """Answer a request whose only fault is a method that the parser does not know, and go on with a fresh parser.

        etcd takes any word for a method. Only where what was received last begins with such a request, without a body.
        """
        received = self.last_received
        line = _UNKNOWN_METHOD.match(received)
        end = received.find(b"\r\n\r\n")
        transport = self.transport
        if line is None or end < 0 or transport is None:
            return False
        facts = header_facts(received[line.end() : end + 2])
        if facts is None or facts.content_length or not facts.keep_alive:
            return False
        fresh = self.server()
        self.transport = None
        transport.set_protocol(fresh)
        fresh.connection_made(transport)
        connection = _AiohttpConnection(fresh, transport, self.server.common_headers())
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
class _Server(web.Server):
    """Makes our handlers where web.Server would make its own."""

    app: App
    common_headers: Callable[[], bytes]
    stopping: bool
    transports: dict[_Handler, asyncio.Transport]
    """Every open connection; aiohttp forgets one that it has told to close, before all has left."""
    all_closed: asyncio.Event
    """Set when a stopping server has no connection any more."""

    def note_closed(self) -> None:
        """Look whether the last connection has closed."""
        if self.stopping and not self.transports:
            self.all_closed.set()

    def __call__(self) -> _Handler:
        handler = _Handler(self, loop=self._loop, **self._kwargs)
        handler.server = self
        handler.exchange = None
        handler.last_received = b""
        return handler
