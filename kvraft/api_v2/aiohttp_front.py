"""aiohttp parses requests and minds connections; what is answered, to the byte, is the app's and `answers`' business.

aiohttp's low-level server is used, without its router: routing needs the path as it was sent. Answers are written to
the transport directly, so that both fronts send the same bytes.
"""

import asyncio
import re
from typing import Final, final

from aiohttp import HttpVersion10, HttpVersion11, web

from kvraft import logs
from kvraft.api_v2 import errors
from kvraft.api_v2.aiohttp_connection import Handler, Sent, Server, WayOut
from kvraft.api_v2.answers import Answer, Framing
from kvraft.api_v2.app import App, Request
from kvraft.api_v2.asker import says_forwarded
from kvraft.api_v2.exchange import Exchange
from kvraft.api_v2.go_forms import FORM_BYTES_MAX
from kvraft.api_v2.http_dates import DateLine
from kvraft.api_v2.request_splitter import RequestLine
from kvraft.api_v2.targets import authority
from kvraft.api_v2.unfinished import Unfinished
from kvraft.api_v2.unread import Unread

log = logs.get(__name__)

_BODY_METHODS: Final = frozenset((b"PUT", b"POST"))
_HOST: Final = re.compile(r"[A-Za-z0-9!$%&'()*+,\-.:;=\[\]_~]*")
"""What Go takes for a Host (net/http validHostHeader)."""
_KEPT_HEADER_BYTES_MAX: Final = 64 << 10
"""The parser keeps header lines until the next request, which may be an hour away: with more the connection ends."""
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

    def __init__(self, app: App, dates: DateLine, unread: Unread, unfinished: Unfinished) -> None:
        self._app = app
        self._dates = dates
        self._server = Server(app, self._handle, unread, unfinished)

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
            last: The client will send no more: close when `received` is answered.
        """
        protocol = self._server()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(received)
        if last and not protocol.eof_received():
            transport.close()

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
        handler = request.protocol
        assert isinstance(handler, Handler)
        line = handler.begin_request(request)
        if handler.has_ended and not request.content.is_eof():
            raise asyncio.CancelledError  # the rest of its body will not come
        has_long_headers = line.header_bytes > _KEPT_HEADER_BYTES_MAX
        headers = request.headers
        origin = headers.get("Origin")
        raw_origin = None if origin is None else _raw(origin)
        framing = Framing(
            http10=request.version == HttpVersion10,
            head=line.method == b"HEAD",
            # A client that waits for leave to send a body that nobody will read may send it or not: the connection
            # cannot be told apart after this answer.
            keep_alive=request.keep_alive
            and not line.body_is_broken
            and not has_long_headers
            and not ("Expect" in headers and request.can_read_body and line.method not in _BODY_METHODS),
        )
        host = authority(line.target, _raw(headers.get("Host", "")))
        is_secure = transport.get_extra_info("ssl_object") is not None
        # A Host that is refused is refused before CORS, as by etcd.
        cors = self._app.cors_headers(raw_origin) if self._app.is_known_host(host, is_secure=is_secure) else b""
        authorization = headers.get("Authorization")
        connection = WayOut(
            handler,
            transport,
            self._dates() + cors,
            None if authorization is None else _raw(authorization),
            forwarded=says_forwarded(map(_raw, headers)),
        )
        exchange = handler.exchange = Exchange(connection, framing)
        if handler.has_ended:
            exchange.last_request()
        try:
            _refuse_odd_framing(request)
            body = await _read_body(request, transport, line)
        except RefusedError as refused:
            exchange.answer(refused.answer)
            return Sent(keep_alive=False, linger_s=self._app.settings.unread_body_s if line.is_given_up else 0.0)
        if line.method in _BODY_METHODS and not has_long_headers:
            handler.settle(line)
        content_type = headers.get("Content-Type")
        self._app.handle(
            Request(
                method=line.method,
                target=line.target,
                host=host,
                origin=raw_origin,
                content_type=None if content_type is None else _raw(content_type),
                body=body,
                framing=framing,
                is_secure=is_secure,
            ),
            exchange,
        )
        try:
            keep_alive = await connection.over
        finally:
            exchange.gone()
            handler.exchange = None
            handler.settle(line)
        await _drained(request)
        return Sent(keep_alive=keep_alive and not handler.is_last)


def _refuse_odd_framing(request: web.BaseRequest) -> None:
    """Refuse what the parser lets through although a proxy before us might read it differently.

    Raises:
        RefusedError: An HTTP version that is not ours, or a Host that is none.
    """
    if request.version not in {HttpVersion10, HttpVersion11}:
        raise RefusedError(errors.bad_request())
    if not _HOST.fullmatch(request.headers.get("Host", "")):
        raise RefusedError(errors.bad_request(b"malformed Host header"))


async def _read_body(request: web.BaseRequest, transport: asyncio.Transport, line: RequestLine) -> bytes:
    """The body of a write, empty for everything else; at most FORM_BYTES_MAX + 1 bytes of it.

    The client is told to send when it waits for that word.
    """
    expected = request.headers.get("Expect")
    if expected is not None and expected.lower() != "100-continue":
        raise RefusedError(Answer(417, b"", b"", close=True))
    if line.method not in _BODY_METHODS or not (request.can_read_body or line.body_is_broken):
        return b""
    if expected is not None and request.version != HttpVersion10:  # RFC 9110, 10.1.1
        transport.write(_CONTINUE)
    chunks: list[bytes] = []
    size = 0
    line.is_awaited = True
    try:
        while size <= FORM_BYTES_MAX and (chunk := await request.content.readany()):
            chunks.append(chunk)
            size += len(chunk)
    except web.RequestPayloadError as error:
        raise RefusedError(errors.bad_request(b"malformed body")) from error
    finally:
        line.is_awaited = False
    if line.is_given_up:
        raise RefusedError(errors.too_slow())
    if line.body_is_broken:
        raise RefusedError(errors.bad_request(b"malformed chunked encoding"))
    return b"".join(chunks)[: FORM_BYTES_MAX + 1]


def _raw(text: str) -> bytes:
    """The bytes that aiohttp decoded."""
    return text.encode("utf-8", "surrogateescape")


async def _drained(request: web.BaseRequest) -> None:
    """Wait until the client has taken most of its answer, so that pipelined requests cannot pile answers up."""
    await request.writer.drain()
