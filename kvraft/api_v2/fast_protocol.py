"""The short way: what asyncio.Protocol has and no more, one write an answer (design decisions 10 and 11).

It serves plain HTTP/1.1 requests on /v2/keys, and plain GETs of every other path, whose head is beyond doubt
(`request_heads`). At the first request that is anything else, the connection is given to aiohttp for good, together
with the bytes not yet used: always at a request boundary, with no answer pending. So everything difficult (chunked
bodies, large ones, refusals) is done in one place.

One request at a time: what a client sends ahead is kept, and reading stops when that becomes too much, so that answers
keep the order of their requests.
"""

import asyncio
import re
import socket
from typing import Final, cast, final

from kvraft import clock, logs
from kvraft.api_v2 import errors
from kvraft.api_v2.answers import Framing, answer_parts
from kvraft.api_v2.app import App, Request
from kvraft.api_v2.asker import Asker, asker_on, authorization_in
from kvraft.api_v2.exchange import Exchange
from kvraft.api_v2.http_dates import DateLine
from kvraft.api_v2.late_front import LateFront
from kvraft.api_v2.request_heads import HEAD_BYTES_MAX, NO_FACTS, HeaderFacts, header_facts
from kvraft.api_v2.unfinished import SMALL_BYTES, Unfinished
from kvraft.api_v2.unread import TRANSPORT_BYTES, Unread
from kvraft.repeats import Repeats

log = logs.get(__name__)

BODY_BYTES_MAX: Final = 256 << 10
"""Larger bodies are aiohttp's, which reads them piece by piece."""

_READ_AHEAD_BYTES: Final = 64 << 10
"""Reading stops when a client has sent this much beyond the request that is being answered."""

_TURN_REQUESTS: Final = 32
"""Of one connection, answered in one turn of the loop: it would read megabytes of small ones before anybody else's."""

_METHODS: Final = frozenset((b"GET", b"PUT", b"POST", b"DELETE", b"HEAD"))
_WITH_BODY: Final = frozenset((b"PUT", b"POST"))
_AFTER_PREFIX: Final = frozenset((b"/", b""))
_BEGINNING: Final = re.compile(rb"GET /|(?:PUT|POST|DELETE|HEAD) /v2/keys[/? ]")
_BEGINNING_BYTES: Final = len(b"DELETE /v2/keys/")
_UNCLEAN: Final = re.compile(rb"[^!-$&-~]|/[/.]")
"""In a path: an escape, a character that is not plain, or what cleaning may remove."""
_TLS_HANDSHAKE: Final = b"\x16\x03"
"""RFC 8446, section 5.1."""
_UNUSUAL: Final = re.compile(rb"[^!-~]")

_FRAMINGS: Final = {
    (head, keep_alive): Framing(http10=False, head=head, keep_alive=keep_alive)
    for head in (False, True)
    for keep_alive in (False, True)
}


@final
class FastFront:
    """Makes and minds the fast protocols of one server."""

    def __init__(
        self, app: App, dates: DateLine, aiohttp_front: LateFront, unread: Unread, unfinished: Unfinished
    ) -> None:
        self.app: Final = app
        self.unread: Final = unread
        self.unfinished: Final = unfinished
        self.aiohttp_front: Final = aiohttp_front
        self.connections: Final[set[FastProtocol]] = set()
        self.stopping = False
        self._dates = dates
        self._cors = app.cors_headers(None)
        self._repeats = Repeats(clock.monotonic_ms)
        self.all_closed = asyncio.Event()
        """Set when the last connection of a stopping front has closed."""

    def new_protocol(self) -> asyncio.Protocol:
        """A protocol for one connection."""
        # It has the methods of asyncio.Protocol without being one: a class that is compiled has no such base.
        return cast("asyncio.Protocol", FastProtocol(self))

    def common_headers(self) -> bytes:
        """Header lines of every answer now."""
        return self._dates() + self._cors

    def forget(self, connection: "FastProtocol") -> None:
        """A connection is closed, or aiohttp's now."""
        self.connections.discard(connection)
        if self.stopping and not self.connections:
            self.all_closed.set()

    def spoken_to_in_tls(self, transport: asyncio.Transport) -> None:
        """Whoever tries TLS where none is spoken is told that this is no HTTP, and only the log can say why."""
        host = str((transport.get_extra_info("peername") or ("",))[0])
        if self._repeats.is_news(host, "tls"):
            log.warning("rejected connection", address=host, error="TLS on a client URL that is http: use http://")

    def close_idle(self, sweeps: int) -> None:
        """Close what has said nothing for this many calls of this function and waits for no answer."""
        for connection in list(self.connections):
            connection.close_if_idle(sweeps)

    def begin_stop(self) -> None:
        """Close idle connections now and the others after their answers."""
        self.stopping = True
        for connection in list(self.connections):
            connection.close_after_answer()
        if not self.connections:
            self.all_closed.set()

    def abort_all(self) -> None:
        """Drop what is left."""
        for connection in list(self.connections):
            connection.abort()


@final
class FastProtocol:
    """One connection."""

    __slots__ = (
        "_awaits_turn",
        "_block",
        "_buffer",
        "_eof",
        "_exchange",
        "_facts",
        "_front",
        "_held_back",
        "_in_serve",
        "_last",
        "_reading_paused",
        "_silent_sweeps",
        "_transport",
        "_writing_paused",
    )

    def __init__(self, front: FastFront) -> None:
        self._front = front
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        """Received and not yet used; begins at a request boundary."""
        self._exchange: Exchange | None = None
        """The request being answered."""
        self._block = b""
        """Its header lines, and what was read in them."""
        self._facts = NO_FACTS
        self._in_serve = False
        self._reading_paused = False
        self._held_back = False
        """Read no further because all clients together have sent too much."""
        self._writing_paused = False
        self._awaits_turn = False
        """What was sent ahead is served once the others have had their turn."""
        self._eof = False
        self._last = False
        """Nothing more is served on this connection."""
        self._silent_sweeps = 0

    # -- asyncio.Protocol ---------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        # uvloop's transports have the methods of asyncio.Transport without being one.
        self._transport = cast("asyncio.Transport", transport)
        # A peer that is gone without a word would hold its watches for ever.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._transport.set_write_buffer_limits(TRANSPORT_BYTES)
        self._front.connections.add(self)
        if self._front.stopping:
            transport.close()

    def data_received(self, data: bytes) -> None:
        """Serve what is complete; stop reading while too much waits."""
        self._silent_sweeps = 0
        if self._last:
            return
        self._buffer = self._buffer + data if self._buffer else data
        if self._exchange is None:
            self._serve()
        self._pause_if_far_ahead()
        if len(self._buffer) > SMALL_BYTES:
            self._front.unfinished.hold(self, len(self._buffer))

    def eof_received(self) -> bool:
        """True (keep the connection) while an answer is owed to a client that only stopped sending."""
        exchange = self._exchange
        if exchange is None and not self._writing_paused and not self._awaits_turn:
            return False
        self._eof = True
        if exchange is not None:
            exchange.last_request()
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- asyncio's
        """The client has gone: its watch with it."""
        self._transport = None
        self._buffer = b""
        self._front.forget(self)
        self._front.unread.release(self)
        self._front.unfinished.release(self)
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.gone()

    def pause_writing(self) -> None:
        """The client has left too much unread."""
        self._writing_paused = True

    def resume_writing(self) -> None:
        """The client has caught up: go on with its streamed answer or its next request."""
        self._writing_paused = False
        self._front.unread.release(self)
        exchange = self._exchange
        if exchange is None:
            self._go_on()
        elif exchange.on_writable is not None:
            exchange.on_writable()

    # -- requests -----------------------------------------------------------------------------------------------

    def _must_wait(self) -> bool:
        return self._exchange is not None or self._writing_paused

    def _pause_if_far_ahead(self) -> None:
        """Read no further while much waits behind the request that is being answered."""
        if len(self._buffer) > _READ_AHEAD_BYTES and self._must_wait() and not self._reading_paused:
            self._reading_paused = True
            if self._transport is not None:
                self._transport.pause_reading()

    def _give_way(self) -> None:
        """Read and serve nothing more in this turn."""
        self._awaits_turn = True
        if not self._reading_paused and self._transport is not None:
            self._reading_paused = True
            self._transport.pause_reading()
        asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        """Serve what was sent ahead, and read again."""
        self._awaits_turn = False
        if self._must_wait() or self._transport is None:
            return
        if self._reading_paused:
            self._reading_paused = False
            if not self._held_back:
                self._transport.resume_reading()
        self._serve()
        self._pause_if_far_ahead()  # within this turn: one answer must not let one more read in

    def _serve(self) -> None:
        """Answer requests from the buffer until one has to wait for its answer or for more bytes."""
        self._in_serve = True
        left = _TURN_REQUESTS
        try:
            while self._buffer and not self._must_wait() and not self._last:
                if not left:
                    self._give_way()
                    break
                left -= 1
                if not self._serve_one():
                    break
        except Exception:
            log.exception("answering a request failed")
            self.abort()
        finally:
            self._in_serve = False
        may_go_on = self._awaits_turn or (self._writing_paused and not self._last)
        is_done = self._exchange is None and not may_go_on
        if is_done and (self._last or self._eof) and self._transport is not None:
            self._transport.close()

    def _serve_one(self) -> bool:
        """Take one request from the buffer; False if it is not complete or if the connection is aiohttp's now."""
        buffer = self._buffer
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            if not _may_become_plain(buffer):
                self._hand_over()
            return False
        if end > HEAD_BYTES_MAX:
            self._hand_over()
            return False
        line_end = buffer.find(b"\r\n")
        words = buffer[:line_end].split(b" ")
        block = buffer[line_end + 2 : end + 2]
        facts = header_facts(block)
        if facts is None or len(words) != 3 or words[2] != b"HTTP/1.1":
            self._hand_over()
            return False
        method, target, _ = words
        used = end + 4 + facts.content_length
        ours = (target[:8] == b"/v2/keys" and method in _METHODS) or (method == b"GET" and target[:1] == b"/")
        if not ours or (facts.content_length and (method not in _WITH_BODY or facts.content_length > BODY_BYTES_MAX)):
            self._hand_over()
            return False
        if len(buffer) < used:
            return False
        self._buffer = buffer[used:]
        if len(buffer) > SMALL_BYTES:  # what is left may be little now
            self._front.unfinished.hold(self, len(self._buffer))
        self._block, self._facts = block, facts
        self._answer(method, target, facts, buffer[end + 4 : used])
        return True

    def _answer(self, method: bytes, target: bytes, facts: HeaderFacts, body: bytes) -> None:
        framing = _FRAMINGS[method == b"HEAD", facts.keep_alive]
        exchange = self._exchange = Exchange(self, framing)
        if self._eof:
            exchange.last_request()
        app = self._front.app
        path, _, query = target.partition(b"?")
        is_key = path[:8] == b"/v2/keys" and path[8:9] in _AFTER_PREFIX
        if not is_key or _UNCLEAN.search(path) or (query and _UNUSUAL.search(query)):
            app.handle(
                Request(
                    method=method,
                    target=target,
                    host=b"",
                    origin=None,
                    content_type=facts.content_type,
                    body=body,
                    framing=framing,
                ),
                exchange,
            )
            return
        if app.audit is not None:
            app.audit.begin(exchange, method, path)
        app.keys.handle(method, path, query, facts.content_type, body, exchange)

    def _hand_over(self) -> None:
        """Give the connection, and what it has sent, to aiohttp."""
        transport, buffer = self._transport, self._buffer
        if transport is None:
            return
        if buffer.startswith(_TLS_HANDSHAKE):
            self._front.spoken_to_in_tls(transport)
        self._front.unfinished.release(self)  # reads on, if it was held back
        self._transport = None
        self._buffer = b""
        self._front.forget(self)
        self._front.aiohttp_front.adopt(transport, buffer, last=self._eof)

    # -- exchange.Connection ------------------------------------------------------------------------------------

    def token(self) -> bytes:
        """The digest of its header lines, if they say who asks."""
        return self._facts.token

    def asker(self) -> Asker:
        """Who has sent what is being answered."""
        assert self._transport is not None, "an exchange is told when its client has gone"
        authorization = authorization_in(self._block) if self._facts.has_credentials else None
        return asker_on(self._transport, authorization, forwarded=self._facts.forwarded)

    def common_headers(self) -> bytes:
        """Date and CORS lines."""
        return self._front.common_headers()

    def write(self, parts: list[bytes]) -> None:
        """Queue bytes for the client."""
        if self._transport is not None:
            if len(parts) == 1:
                self._transport.write(parts[0])
            else:
                self._transport.writelines(parts)
            if self._writing_paused:
                self._front.unread.hold(self, parts)

    def is_writable(self) -> bool:
        """Whether the client takes what it is sent."""
        return not self._writing_paused

    def abort(self) -> None:
        """Drop the connection."""
        if self._transport is not None:
            self._transport.abort()

    def exchange_over(self, *, keep_alive: bool) -> None:
        """Go on with the next request, or close."""
        self._exchange = None
        self._block = b""
        if not keep_alive:
            self._last = True
        if not self._in_serve:
            if self._last and self._transport is not None:
                self._transport.close()
            elif self._buffer or self._eof or self._reading_paused:
                self._go_on()

    # -- unread.Reader ------------------------------------------------------------------------------------------

    def cut_off(self) -> None:
        """Drop the connection, and what its answer holds."""
        transport, self._transport = self._transport, None
        exchange, self._exchange = self._exchange, None
        self._buffer = b""
        self._last = True
        if transport is not None:
            transport.abort()
        if exchange is not None:
            exchange.gone()

    # -- unfinished.Sender --------------------------------------------------------------------------------------

    def hold_back(self) -> None:
        """Read nothing for now."""
        self._held_back = True
        if self._transport is not None:
            self._transport.pause_reading()

    def go_on(self) -> None:
        """Read again, unless what was sent ahead is too much already."""
        self._held_back = False
        if self._transport is not None and not self._reading_paused:
            self._transport.resume_reading()

    def give_up(self) -> None:
        """Say that the rest is not waited for; whoever waits for an answer and has sent so much ahead is cut off."""
        transport = self._transport
        if self._must_wait() or self._awaits_turn or transport is None or transport.is_closing():
            self.cut_off()
            return
        self._buffer = b""
        self._last = True
        parts, _ = answer_parts(errors.too_slow(), _FRAMINGS[False, False], self.common_headers())
        transport.writelines(parts)
        # A close with bytes unread would reset the connection, and the client would lose its answer.
        transport.write_eof()
        transport.resume_reading()
        asyncio.get_running_loop().call_later(self._front.app.settings.unread_body_s, transport.close)

    # -- FastFront ----------------------------------------------------------------------------------------------

    def close_if_idle(self, sweeps: int) -> None:
        """Count a sweep without a word from the client."""
        if self._exchange is None and self._transport is not None:
            self._silent_sweeps += 1
            if self._silent_sweeps > sweeps:
                self._transport.close()

    def close_after_answer(self) -> None:
        """Serve nothing more."""
        self._last = True
        if self._exchange is None and self._transport is not None:
            self._transport.close()


def _may_become_plain(buffer: bytes) -> bool:
    """Whether bytes without the end of a head can still be the beginning of a plain request."""
    if len(buffer) > HEAD_BYTES_MAX:
        return False
    if len(buffer) >= _BEGINNING_BYTES:
        if not _BEGINNING.match(buffer):
            return False
    elif not any(method.startswith(buffer) or buffer.startswith(method) for method in _METHODS):
        return False
    # A line feed alone ends a line for some: not for a plain request.
    return buffer.count(b"\n") == buffer.count(b"\r\n")
