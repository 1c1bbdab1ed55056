"""An answer, and how it goes on the wire the way Go's net/http server sends it. Pure.

Go buffers a handler's output and declares a Content-Length only when all of it fits the buffer (net/http server.go,
bufferBeforeChunkingSize); anything longer is chunked for HTTP/1.1, and ended by closing the connection for HTTP/1.0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, final

DECLARED_LENGTH_MAX: Final = 2048
"""The longest body with a Content-Length, in bytes."""

_STATUS_LINES: Final = {status.value: f" {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_COPIED_MAX: Final = 16 << 10
"""A last piece up to this is joined with its end: one part is cheaper to write than two, and more to copy is not."""
_LAST_CHUNK: Final = b"0\r\n\r\n"


@final
@dataclass(slots=True)
class Answer:
    """Status, finished header lines and body of one response, before it knows on which connection it leaves."""

    status: int
    headers: bytes
    """Lines with their CRLF. Neither Date nor anything about framing."""
    body: bytes
    close: bool = False
    """The connection ends with this answer whatever the client asked for."""


@final
@dataclass(slots=True, frozen=True)
class Framing:
    """What the request decides about its response."""

    http10: bool
    head: bool
    keep_alive: bool
    """Whether the client would go on: the default of its version, or what its Connection header says."""


def answer_parts(answer: Answer, framing: Framing, common: bytes) -> tuple[list[bytes], bool]:
    """The pieces to write and whether the connection stays open.

    Args:
        answer: What to say.
        framing: To whom.
        common: Header lines of every answer at this moment (Date, CORS).
    """
    body = answer.body
    size = len(body)
    keep_alive = framing.keep_alive and not answer.close
    chunked = size > DECLARED_LENGTH_MAX
    head = [b"HTTP/1.0" if framing.http10 else b"HTTP/1.1", _STATUS_LINES[answer.status], answer.headers, common]
    if chunked:
        if framing.http10:
            # A HEAD has no body whose end would have to be shown.
            keep_alive = keep_alive and framing.head
        elif not framing.head:
            head.append(b"Transfer-Encoding: chunked\r\n")
    elif size or not (framing.head or answer.status == HTTPStatus.NO_CONTENT):
        head.append(b"Content-Length: %d\r\n" % size)
    if keep_alive and framing.http10:
        head.append(b"Connection: keep-alive\r\n")
    elif not keep_alive and not framing.http10:
        head.append(b"Connection: close\r\n")
    head.append(b"\r\n")
    if framing.head or not size:
        return [b"".join(head)], keep_alive
    if not chunked:
        head.append(body)
        return [b"".join(head)], keep_alive
    if framing.http10:
        return [b"".join(head), body], keep_alive
    head.append(b"%x\r\n" % size)
    return [b"".join(head), body, b"\r\n" + _LAST_CHUNK], keep_alive


def stream_head(status: int, headers: bytes, framing: Framing, common: bytes) -> tuple[bytes, bool]:
    """The head of a response whose body comes later in chunks, and whether the connection survives its end."""
    keep_alive = framing.keep_alive and not framing.http10
    line = (b"HTTP/1.0" if framing.http10 else b"HTTP/1.1") + _STATUS_LINES[status]
    if framing.http10:
        return line + headers + common + b"\r\n", keep_alive
    connection = b"" if keep_alive else b"Connection: close\r\n"
    return line + headers + common + connection + b"Transfer-Encoding: chunked\r\n\r\n", keep_alive


@final
class Piece:
    """One piece of streamed bodies, framed once for all the clients that get it. Not empty."""

    __slots__ = ("_chunk", "_last", "data")

    def __init__(self, data: bytes) -> None:
        self.data: Final = data
        """As a client of HTTP/1.0 gets it."""
        self._chunk: Final = b"%x\r\n%b\r\n" % (len(data), data)
        """As all others do."""
        self._last = b""

    def framed(self, framing: Framing) -> bytes:
        """What is sent for it; the same object to everybody."""
        return self.data if framing.http10 else self._chunk

    def framed_last(self, framing: Framing) -> list[bytes]:
        """The same where the body ends with it; one write for all but large ones, which are not copied."""
        if framing.http10:
            return [self.data]
        if len(self._chunk) > _COPIED_MAX:
            return [self._chunk, _LAST_CHUNK]
        if not self._last:
            self._last = self._chunk + _LAST_CHUNK
        return [self._last]


def stream_parts(parts: Sequence[bytes], framing: Framing) -> list[bytes]:
    """One piece of a streamed body, not empty, for one client."""
    return [*parts] if framing.http10 else [b"%x\r\n" % sum(map(len, parts)), *parts, b"\r\n"]


def stream_end(framing: Framing) -> list[bytes]:
    """What tells the client that a streamed body is complete."""
    return [] if framing.http10 else [_LAST_CHUNK]
