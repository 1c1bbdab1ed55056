"""Heads of requests and answers: what is beyond doubt in them, and what of them goes on. Pure.

Whatever can be read in two ways is refused here: the proxy and the member behind it must see the same requests, or one
could be hidden in another. Lines that concern one connection only do not go on (RFC 9110, 7.6.1); the list is that of
etcd v3.4.23 proxy/httpproxy/reverse.go, `singleHopHeaders`.
"""

import re
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final, final

from kvraft.api_v2.answers import Answer
from kvraft.api_v2.errors import PLAIN, bad_request, head_too_large
from kvraft.api_v2.request_splitter import TOKEN

CHUNKED: Final = -1
"""Length of a body that comes in chunks."""
UNTIL_CLOSE: Final = -2
"""Length of a body that ends with its connection."""

_LINE: Final = re.compile(rb"(" + TOKEN + rb") ([^\x00-\x20\x7f]+) HTTP/([0-9])\.([0-9])")
_HEADER: Final = re.compile(rb"(" + TOKEN + rb"):([\t\x20-\x7e\x80-\xff]*)")
_HOST: Final = re.compile(rb"[A-Za-z0-9._~:\[\]%!$&'()*+,;=\-]*")
"""Go's httpguts.ValidHostHeader, without what no host has."""
_LENGTH: Final = re.compile(rb"0{0,99}[0-9]{1,15}")
_ABSOLUTE: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.\-]*://([^/?]*)")
_CREDENTIALS: Final = re.compile(rb"authorization", re.IGNORECASE)

_DROPPED: Final = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailers",
        b"upgrade",
        b"proxy-connection",
    )
)
_ANSWER: Final = re.compile(
    rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [^\r\n\x00]*)?\r\n(?:" + TOKEN + rb":[^\r\n\x00]*\r\n)*"
)
_SPECIAL: Final = re.compile(
    rb"\r\n(connection|keep-alive|proxy-authenticate|proxy-authorization|te|trailers|transfer-encoding|upgrade"
    rb"|content-length):([^\r\n]*)(?=\r\n)",
    re.IGNORECASE,
)
"""Lines of an answer's head that say how it is framed, or that do not go on."""
_WITHOUT_BODY: Final = frozenset((HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED))

_REMEMBERED_MAX: Final = 1024
_REMEMBERED_BYTES_MAX: Final = 2048


@final
class RefusedError(Exception):
    """A request that does not go on."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer: Final = answer


@final
class GarbageError(Exception):
    """What came from an endpoint is no answer; the text says why."""


@final
@dataclass(slots=True, frozen=True)
class Headers:
    """A request's header lines, as far as they matter here."""

    lines: bytes = field(repr=False)
    """Those that go on, each with its CRLF."""
    length: int = 0
    """Of the body; `CHUNKED`."""
    keep_alive: bool | None = None
    """What the client asks for; None: what its version has."""
    host: bytes | None = None
    origin: bytes | None = None
    forwarded_for: bytes = b""
    """For whom others before this proxy have forwarded it."""
    via: bytes = b""
    """Through which proxies it came."""
    expects: bytes = b""
    """What it wants to be told before it goes on, in small letters."""


@final
@dataclass(slots=True, frozen=True)
class RequestHead:
    """A request whose frame is beyond doubt."""

    method: bytes
    target: bytes
    http10: bool
    keep_alive: bool
    headers: Headers


@final
@dataclass(slots=True, frozen=True)
class AnswerHead:
    """An answer whose frame is beyond doubt."""

    status: int
    lines: bytes
    """Status line and header lines, each with its CRLF, as far as they go on: nothing about framing."""
    whole: bytes
    """All of them, as they came; empty if that is not what an HTTP/1.1 client may be sent."""
    length: int
    """Of the body: bytes, `CHUNKED` or `UNTIL_CLOSE`."""
    keep_alive: bool
    """Whether the connection serves another request."""


def read_request(buffer: bytes, end: int) -> RequestHead:
    """The head in `buffer` up to `end`, where its empty line begins.

    Raises:
        RefusedError: it is no HTTP, or could be read in two ways.
    """
    line_end = buffer.find(b"\r\n")
    line = _LINE.fullmatch(buffer, 0, line_end)
    if line is None:
        raise RefusedError(bad_request())
    method, target, major, minor = line.groups()
    if major != b"1":
        raise RefusedError(text_answer(505, b"505 HTTP Version Not Supported: unsupported protocol version"))
    http10 = minor == b"0"
    headers = _remembered_headers(buffer[line_end + 2 : end + 2])
    if headers.host is None and not http10:
        raise RefusedError(bad_request(b"missing required Host header"))
    if http10 and headers.length == CHUNKED:
        raise RefusedError(bad_request())
    keep_alive = (not http10) if headers.keep_alive is None else headers.keep_alive
    return RequestHead(method, target, http10, keep_alive, headers)


def text_answer(status: int, text: bytes) -> Answer:
    """One that ends the connection."""
    return Answer(status, PLAIN, text, close=True)


def check_size(buffer: bytes | bytearray, end: int, line_bytes_max: int, header_bytes_max: int) -> None:
    """Refuse a head, complete or not (`end` < 0), that is larger than it may be, or that can be none any more.

    Raises:
        RefusedError: so it is.
    """
    line_end = buffer.find(b"\r\n", 0, line_bytes_max + 2)
    if line_end < 0 and len(buffer) >= line_bytes_max + 2:
        raise RefusedError(head_too_large())
    if line_end >= 0 and (len(buffer) if end < 0 else end) - line_end > header_bytes_max:
        raise RefusedError(head_too_large())
    if end < 0 and (buffer.count(b"\n") != buffer.count(b"\r\n") or not re.match(TOKEN, buffer)):
        raise RefusedError(bad_request())


_headers: dict[bytes, Headers] = {}


def _remembered_headers(block: bytes) -> Headers:
    """Clients repeat their header lines to the byte, so read ones are remembered, but for those with a password."""
    found = _headers.get(block)
    if found is not None:
        return found
    headers = read_headers(block)
    if len(block) <= _REMEMBERED_BYTES_MAX and not _CREDENTIALS.search(block):
        if len(_headers) >= _REMEMBERED_MAX:
            _headers.clear()
        _headers[block] = headers
    return headers


def read_headers(block: bytes, headers_max: int = 1000) -> Headers:
    """A request's header lines, each with its CRLF.

    Raises:
        RefusedError: they are none, or could be read in two ways.
    """
    lines = block.split(b"\r\n")
    lines.pop()
    if len(lines) > headers_max:
        raise RefusedError(head_too_large())
    kept: list[bytes] = []
    seen: dict[bytes, list[bytes]] = {}
    for text in lines:
        header = _HEADER.fullmatch(text)
        if header is None:
            raise RefusedError(bad_request())
        name = header[1].lower()
        seen.setdefault(name, []).append(header[2].strip(b" \t"))
        if name not in _DROPPED and name not in {b"x-forwarded-for", b"expect"}:
            kept.append(text + b"\r\n")
    hosts = seen.get(b"host", [])
    if len(hosts) > 1:
        raise RefusedError(bad_request())
    if hosts and not _HOST.fullmatch(hosts[0]):
        raise RefusedError(bad_request(b"malformed Host header"))
    connection = b",".join(seen.get(b"connection", [])).lower()
    options = {option.strip() for option in connection.split(b",")}
    keep_alive = False if b"close" in options else True if b"keep-alive" in options else None
    return Headers(
        b"".join(kept),
        _body_length(seen),
        keep_alive,
        hosts[0] if hosts else None,
        seen.get(b"origin", [None])[0],
        b", ".join(seen.get(b"x-forwarded-for", [])),
        b", ".join(seen.get(b"via", [])),
        b",".join(seen.get(b"expect", [])).lower(),
    )


def _body_length(seen: dict[bytes, list[bytes]]) -> int:
    lengths, codings = seen.get(b"content-length", []), seen.get(b"transfer-encoding", [])
    if len(lengths) + len(codings) > 1:
        raise RefusedError(bad_request())
    if lengths:
        if not _LENGTH.fullmatch(lengths[0]):
            raise RefusedError(bad_request())
        return int(lengths[0])
    if codings:
        if codings[0].lower() != b"chunked":
            raise RefusedError(text_answer(501, b"Unsupported transfer encoding"))
        return CHUNKED
    return 0


def forwarded_head(
    head: RequestHead, address: bytes, own_name: bytes, endpoint_host: bytes, *, hides_origin: bool
) -> bytes:
    """What an endpoint is sent of a request's head.

    Args:
        head: As it came.
        address: From where the client has connected.
        own_name: Of this proxy, by which it knows a request that comes back.
        endpoint_host: For a client that named no host.
        hides_origin: The page that asks was let in here, and the member behind need not know it.
    """
    headers, target, lines = head.headers, head.target, head.headers.lines
    absolute = None if target.startswith(b"/") else _ABSOLUTE.match(target)
    if absolute is not None:  # the form for proxies: the host in it goes before Host (net/http, readRequest)
        target = target[absolute.end() :]
        target = target if target.startswith(b"/") else b"/" + target
        lines = b"Host: " + absolute[1] + b"\r\n" + without(lines, b"host")
    elif headers.host is None:
        lines = b"Host: " + endpoint_host + b"\r\n" + lines
    if hides_origin:
        lines = without(lines, b"origin")
    before = headers.forwarded_for + b", " if headers.forwarded_for else b""
    start = (head.method, b" ", target, b" HTTP/1.1\r\n", lines)
    own = (b"Via: 1.1 ", own_name, b"\r\nX-Forwarded-For: ", before, address, b"\r\n\r\n")
    return b"".join(start + own)


def without(lines: bytes, name: bytes) -> bytes:
    """Header lines but those of one name."""
    return b"".join(line for line in lines.splitlines(keepends=True) if line.partition(b":")[0].strip().lower() != name)


def read_answer(buffer: bytes, *, to_head: bool) -> AnswerHead:
    """An answer's head, up to the CRLF before its empty line.

    Args:
        buffer: Status line and header lines, each with its CRLF.
        to_head: It answers a HEAD, and has no body.

    Raises:
        GarbageError: it is none, or could be read in two ways.
    """
    match = _ANSWER.fullmatch(buffer)
    if match is None:
        raise GarbageError("what it answers is no HTTP")
    status, is_11 = int(match[2]), match[1] == b"1"
    lengths: list[bytes] = []
    codings: list[bytes] = []
    connection, kept, at, drops = b"", [], 0, False
    for found in _SPECIAL.finditer(buffer):
        name, value = found[1].lower(), found[2].strip(b" \t")
        if name == b"content-length":
            lengths.append(value)
        elif name == b"transfer-encoding":
            codings.append(value.lower())
        else:
            drops = True
            if name == b"connection":
                connection += b"," + value.lower()
        kept.append(buffer[at : found.start()])
        at = found.end()
    kept.append(buffer[at:])
    if len(lengths) + len(codings) > 1 or (codings and codings[0] != b"chunked"):
        raise GarbageError("the length of its answer can be read in two ways")
    if lengths and not _LENGTH.fullmatch(lengths[0]):
        raise GarbageError("its answer has no length that can be read")
    if codings and not is_11:
        raise GarbageError("its answer has chunks, which HTTP/1.0 has not")
    asked = {option.strip() for option in connection.split(b",")}
    keep_alive = b"close" not in asked and (is_11 or b"keep-alive" in asked)
    if to_head or status in _WITHOUT_BODY:
        length = 0
    else:
        length = CHUNKED if codings else int(lengths[0]) if lengths else UNTIL_CLOSE
    lines = b"".join(kept)
    if lengths and (to_head or length):
        lines += b"Content-Length: " + lengths[0] + b"\r\n"
    elif lengths:
        lines += b"Content-Length: 0\r\n" if status not in _WITHOUT_BODY else b""
    is_whole = is_11 and not drops and length != UNTIL_CLOSE and not (codings and length != CHUNKED)
    return AnswerHead(status, _as_11(lines), buffer if is_whole else b"", length, keep_alive)


def _as_11(lines: bytes) -> bytes:
    return b"HTTP/1.1" + lines[len(b"HTTP/1.1") :]


def without_cors(lines: bytes) -> bytes:
    """An answer's head, without what the member behind says to browsers."""
    return re.sub(rb"(?i)(?<=\r\n)access-control-[a-z-]+:[^\r\n]*\r\n", b"", lines)
