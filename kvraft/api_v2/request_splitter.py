"""Where each request on a connection ends, so that aiohttp's parser is given them one by one. Pure.

aiohttp's parser throws away every request of a packet if one of them is broken, knows some methods only, refuses bytes
above 0x7f in a target, and reads nothing behind a request that offers an upgrade. Go, and so etcd, has none of this
(measured on etcd 3.4.23). So a request whose frame is beyond doubt reaches the parser in a piece of its own, with a
request line that it takes for granted and without `Upgrade`, which is never followed; what the client asked for goes
beside it. Whether the values of header lines are good, and what is in the body, stays aiohttp's to judge.

The first head in doubt is refused, and nothing behind it is read: the parser must not judge it, for it takes what etcd
refuses (two blanks in a request line, a bare line feed before it). So the two cannot be played against each other.
"""

import re
from dataclasses import dataclass
from typing import Final, final

TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
"""RFC 9110, 5.6.2: what Go takes for a method, and for the name of a header."""
_LINE: Final = re.compile(rb"(" + TOKEN + rb") ([^\x00-\x20\x7f]+) (HTTP/[0-9]\.[0-9])")
_BEGINNING: Final = re.compile(TOKEN + rb"|\r\Z")
"""Of what may still become a request, or an empty line before one."""
_HEADER: Final = re.compile(rb"(" + TOKEN + rb"):([\t\x20-\x7e\x80-\xff]*)")
"""Blanks around a value are stripped, not matched: patterns on both sides of it would try every split of them."""
_LENGTH: Final = re.compile(rb"0{0,99}[0-9]{1,15}")
_CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,12})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")
_BARE_LINE_FEED: Final = re.compile(rb"(?<!\r)\n")
_CHUNK_LINE_BYTES_MAX: Final = 4096
"""Go's limit (net/http/internal/chunked.go, maxLineLength)."""
_TAKEN_FOR_GRANTED: Final = b"POST / "
"""How a request line begins that is aiohttp's; of framing it says nothing."""
_NO_HTTP: Final = b"\0\r\n\r\n"
"""Refused by the parser, in its turn behind the requests before it."""


@final
@dataclass(slots=True, eq=False)
class RequestLine:
    """What a client asked for."""

    method: bytes
    target: bytes
    """As it stood in the request line."""
    header_bytes: int = 0
    """Of its header lines."""
    body_is_broken: bool = False
    """No more of its body can be understood, nor anything behind it. Seen after the request itself was given on."""
    is_awaited: bool = False
    """Its body is being read."""
    is_given_up: bool = False
    """The rest of its body is not waited for."""
    held_bytes: int = 0
    """Of the request, given on and kept in memory; negative: not any more, whatever comes."""


@final
@dataclass(slots=True, frozen=True)
class Piece:
    """What the parser is given next."""

    data: bytes
    line: RequestLine | None = None
    """With a head whose frame is beyond doubt; None: more of a body, an empty line, or what must be refused."""


@final
@dataclass(slots=True)
class _ChunkedBody:
    """How far a chunked body has been read."""

    data_left: int = 0
    """Of the chunk."""
    in_chunk: bool = False
    """The CRLF behind the chunk's data is still to come."""
    in_trailer: bool = False


class _DoubtError(Exception):
    """What follows can be read in two ways, or is no HTTP."""


class _BrokenBodyError(Exception):
    """Chunks whose end cannot be told."""


class _TooLargeError(Exception):
    """A head beyond the limits."""


@final
class Splitter:
    """Takes apart what one client sends.

    Args:
        line_bytes_max: Of a request line.
        header_bytes_max: Of all header lines of a request together.
        headers_max: Header lines of a request.
    """

    __slots__ = (
        "_body_left",
        "_buffer",
        "_chunked",
        "_header_bytes_max",
        "_headers_max",
        "_last_line",
        "_line_bytes_max",
        "_over",
        "_searched",
        "too_large",
    )

    def __init__(self, line_bytes_max: int, header_bytes_max: int, headers_max: int) -> None:
        self._line_bytes_max = line_bytes_max
        self._header_bytes_max = header_bytes_max
        self._headers_max = headers_max
        self._buffer = bytearray()
        """Received and not yet given on: less than a head, or less than a line of a chunked body."""
        self._searched = 0
        """No end of a head begins before this position of the buffer."""
        self._body_left = 0
        self._chunked: _ChunkedBody | None = None
        self._last_line: RequestLine | None = None
        self._over = False
        """Nothing more is given on: a head was in doubt or beyond the limits, or a body cannot be understood."""
        self.too_large = False
        """A head was beyond the limits."""

    @property
    def kept_bytes(self) -> int:
        """Received and not yet given on."""
        return len(self._buffer)

    def give_up(self) -> Piece:
        """Take nothing more; what the parser is given for it, which it refuses."""
        self._over = True
        self._buffer.clear()
        return Piece(_NO_HTTP)

    def feed(self, data: bytes) -> list[Piece]:
        """What the parser is to be given, in order, now that `data` has come."""
        if self._over:
            return []
        buffer = self._buffer
        buffer += data
        pieces: list[Piece] = []
        try:
            while buffer:
                piece = self._take_body() if self._body_left or self._chunked is not None else self._take_head()
                if piece is None:
                    break
                pieces.append(piece)
        except _DoubtError:
            self._over = True
            pieces.append(Piece(_NO_HTTP))
            buffer.clear()
        except _TooLargeError:
            self._over = self.too_large = True
            pieces.append(Piece(_NO_HTTP))
            buffer.clear()
        except _BrokenBodyError:
            assert self._last_line is not None
            self._over = self._last_line.body_is_broken = True
            buffer.clear()
        return pieces

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        self._searched = 0
        return taken

    # -- heads --------------------------------------------------------------------------------------------------

    def _take_head(self) -> Piece | None:
        """The next head, once it is there whole."""
        buffer = self._buffer
        if buffer.startswith(b"\r\n"):
            # RFC 9112, 2.2: empty lines before a request are to be passed over. etcd refuses them.
            return Piece(self._take(2))
        end = buffer.find(b"\r\n\r\n", self._searched)
        line_end = buffer.find(b"\r\n", 0, self._line_bytes_max + 2)
        if line_end < 0 and len(buffer) >= self._line_bytes_max + 2:
            raise _TooLargeError
        if (len(buffer) if end < 0 else end) - max(line_end, 0) > self._header_bytes_max and line_end >= 0:
            raise _TooLargeError
        if end < 0:
            if _BARE_LINE_FEED.search(buffer, max(0, self._searched - 1)) or not _BEGINNING.match(buffer):
                raise _DoubtError
            self._searched = max(0, len(buffer) - 3)
            return None
        line = _LINE.fullmatch(buffer, 0, line_end)
        if line is None:
            raise _DoubtError
        asked = self._last_line = RequestLine(line[1], line[2], end - line_end)
        version = line[3]
        del line  # it holds the buffer, which could not be shortened otherwise
        kept = self._read_headers(bytes(buffer[line_end + 2 : end + 2]), version)
        self._take(end + 4)
        return Piece(_TAKEN_FOR_GRANTED + version + b"\r\n" + kept + b"\r\n", asked)

    def _read_headers(self, block: bytes, version: bytes) -> bytes:
        """Find out how long the body is, and return the header lines that go on to the parser."""
        lines = block.split(b"\r\n")
        lines.pop()
        if len(lines) > self._headers_max:
            raise _TooLargeError
        kept: list[bytes] = []
        lengths: list[bytes] = []
        codings: list[bytes] = []
        for text in lines:
            header = _HEADER.fullmatch(text)
            if header is None:
                raise _DoubtError
            name = header[1].lower()
            if name == b"upgrade":
                continue
            if name == b"content-length":
                lengths.append(header[2].strip(b" \t"))
            elif name == b"transfer-encoding":
                codings.append(header[2].strip(b" \t").lower())
            kept.append(text + b"\r\n")
        if len(lengths) + len(codings) > 1:
            raise _DoubtError
        if lengths:
            if not _LENGTH.fullmatch(lengths[0]):
                raise _DoubtError
            self._body_left = int(lengths[0])
        elif codings:
            if codings[0] != b"chunked" or version != b"HTTP/1.1":
                raise _DoubtError
            self._chunked = _ChunkedBody()
        return b"".join(kept)

    # -- bodies -------------------------------------------------------------------------------------------------

    def _take_body(self) -> Piece | None:
        """As much of the body as is there."""
        if self._chunked is not None:
            size = self._chunked_bytes(self._chunked)
            return Piece(self._take(size)) if size else None
        size = min(self._body_left, len(self._buffer))
        self._body_left -= size
        return Piece(self._take(size))

    def _chunked_bytes(self, body: _ChunkedBody) -> int:
        """How many of the bytes in the buffer belong to this body for sure."""
        buffer, at = self._buffer, 0
        while at < len(buffer):
            if body.data_left:
                size = min(body.data_left, len(buffer) - at)
                body.data_left -= size
                at += size
                continue
            end = buffer.find(b"\r\n", at, at + _CHUNK_LINE_BYTES_MAX)
            if end < 0:
                rest = buffer[at:]
                if len(rest) >= _CHUNK_LINE_BYTES_MAX or b"\n" in rest or (body.in_chunk and rest != b"\r"):
                    raise _BrokenBodyError
                break
            self._read_chunk_line(body, bytes(buffer[at:end]))
            at = end + 2
            if self._chunked is None:
                break
        return at

    def _read_chunk_line(self, body: _ChunkedBody, line: bytes) -> None:
        """The end of a chunk, the size of the next one, or a line of the trailer."""
        if body.in_chunk:
            if line:
                raise _BrokenBodyError
            body.in_chunk = False
        elif body.in_trailer:
            if not line:
                self._chunked = None
            elif not _HEADER.fullmatch(line):
                raise _BrokenBodyError
        else:
            size = _CHUNK_SIZE.fullmatch(line)
            if size is None:
                raise _BrokenBodyError
            body.data_left = int(size[1], 16)
            body.in_chunk = body.data_left > 0
            body.in_trailer = not body.in_chunk
