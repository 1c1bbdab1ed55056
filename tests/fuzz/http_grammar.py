"""Conversations on one connection to the client port: endpoints, methods, parameters, encodings; good and broken."""

import dataclasses
from typing import Final, final

from hypothesis import strategies as st


@final
@dataclasses.dataclass(slots=True, frozen=True)
class Request:
    """One request as it goes out."""

    method: bytes
    target: bytes
    version: bytes
    headers: tuple[bytes, ...]
    """Whole lines, those that frame the body included, without their ends."""
    body: bytes
    """After the empty line, as on the wire."""
    line_end: bytes = b"\r\n"

    def encode(self) -> bytes:
        """The bytes."""
        lines = [b" ".join((self.method, self.target, self.version)), *self.headers, b"", b""]
        return self.line_end.join(lines) + self.body


SENTINEL: Final = Request(b"GET", b"/version", b"HTTP/1.1", (b"Host: fuzz", b"Connection: close"), b"")
"""The end of every conversation: its answer shows that the requests before it were told apart."""

METHODS: Final = st.sampled_from(
    (
        b"GET", b"GET", b"GET", b"PUT", b"PUT", b"PUT", b"POST", b"DELETE", b"HEAD", b"PATCH", b"OPTIONS", b"TRACE",
        b"FOO", b"CONNECT", b"get", b"M-SEARCH", b"X" * 300, b"PRI",
    )
)  # fmt: skip
ODD_METHODS: Final = st.sampled_from((b"", b"G@T", b"F\xff", b"\x00"))
ENDPOINTS: Final = st.sampled_from(
    (
        *[b"/v2/keys"] * 8, b"/v2/keys/", b"/v2", b"/v2/", b"/v2/members", b"/v2/members/leader", b"/v2/members/0",
        b"/v2/members/ffffffffffffffffffff", b"/v2/machines", b"/v2/stats/self", b"/v2/stats/leader",
        b"/v2/stats/store", b"/v2/stats", b"/version", b"/health", b"/metrics", b"/debug/vars", b"/v2/auth/enable",
        b"/v2/auth/users", b"/v2/auth/roles/x", b"/", b"http://fuzz/v2/keys/a", b"/config/local/log",
        b"",
    )
)  # fmt: skip
SEGMENTS: Final = st.sampled_from(
    (
        b"a", b"b", b"c", b"_hidden", b"", b".", b"..", b"%2e%2e", b"%2F", b"%2f%2f", b"%00", b"%zz", b"%", b"%4",
        b"+",
        b"%20", b"%ff", b"%c0%af", b"\xff", b"%e2%80%a8", b"x" * 4096, b"a;b", b"a=b", b"#f", b"\xc3\xa9",
        b"%F0%9F%98%80",
    )
)  # fmt: skip
PATHS: Final = st.lists(SEGMENTS, max_size=4).map(lambda parts: b"".join(b"/" + part for part in parts)) | st.just(
    b"/d" * 3000
)
NAMES: Final = st.sampled_from(
    (
        b"value", b"dir", b"ttl", b"prevExist", b"prevValue", b"prevIndex", b"refresh", b"recursive", b"sorted",
        b"quorum",
        b"wait", b"waitIndex", b"stream", b"noValueOnSuccess", b"consistent", b"", b"%76alue", b"%zz", b"value%00",
    )
)  # fmt: skip
VALUES: Final = st.sampled_from(
    (
        b"true", b"true", b"false", b"1", b"0", b"", b"-1", b"+1", b"1e3", b"0x1", b"18446744073709551615",
        b"18446744073709551616", b"9223372036854775807", b"9" * 400, b"99999999999", b"%zz", b"%ff", b"%00",
        b"a;b", b"\xff",
        b"x", b"x%26y", b"T", b"%D9%A1", b"x" * 5000, b"1 ", b"%0a",
    )
)  # fmt: skip
PARAMETERS: Final = st.builds(lambda name, value: name + b"=" + value, NAMES, VALUES) | NAMES
FORMS: Final = st.lists(PARAMETERS, max_size=4).map(b"&".join)
TYPES: Final = st.sampled_from(
    (
        b"application/x-www-form-urlencoded", b"application/x-www-form-urlencoded",
        b"application/x-www-form-urlencoded",
        b"Application/X-WWW-Form-Urlencoded; charset=utf-8", b"application/x-www-form-urlencoded; param",
        b"application/json", b"multipart/form-data; boundary=x", b"multipart/form-data", b"text/plain", b"", b";",
        b"/",
        b'application/x-www-form-urlencoded; a="b', b"\xff/\xff",
    )
)  # fmt: skip
JSON_BODIES: Final = st.sampled_from(
    (
        b'{"peerURLs":["http://127.0.0.1:1"]}', b'{"peerURLs":[]}', b'{"peerURLs":1}', b"{", b"[" * 5000, b"null",
        b"1e999",
        b'{"peerURLs":["\xff"]}', b'{"peerURLs":["http://x:' + b"9" * 5000 + b'"]}', b'{"peerURLs":["\\ud800"]}', b"",
    )
)  # fmt: skip
MORE_HEADERS: Final = st.lists(
    st.sampled_from(
        (
            b"Expect: 100-continue", b"Expect: tea", b"Accept-Encoding: gzip", b"Content-Encoding: gzip",
            b"Cookie: a=b",
            b"X-Long: " + b"x" * 9000, b"Origin: http://evil", b"X-HTTP-Method-Override: DELETE",
            b"Connection: keep-alive",
            b"Connection: close", b"Upgrade: h2c", b"Connection: Upgrade\r\nUpgrade: h2c", b"Range: bytes=0-1",
            b"Authorization: Basic Og==", b"Authorization: Basic \xff", b"If-None-Match: *", b"X-Latin: \xe9\xff",
            b"Access-Control-Request-Method: PUT",
        )
    ),
    max_size=2,
)  # fmt: skip
BROKEN_HEADERS: Final = st.sampled_from(
    (
        b"Content-Length: 3\r\nContent-Length: 3", b"Content-Length: 3\r\nContent-Length: 4", b"Content-Length: -1",
        b"Content-Length: +3", b"Content-Length: 0x3", b"Content-Length: " + b"9" * 30, b"Content-Length: 3, 3",
        b"Content-Length : 3", b"Content-Length: 3\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", b"A: b\r\n c: d",
        b"\tfolded: x", b"Host: other", b"Host: a b", b"no colon", b": empty", b"A\x00: b", b"A: \x00",
        b"A: b\rc", b"A: b\nc: d",
        b"Transfer-Encoding:\x0bchunked", b"Transfer_Encoding: chunked", b"Content-Length:",
        b"X: " + b"y" * (1 << 21),
    )
)  # fmt: skip
BROKEN_VERSIONS: Final = st.sampled_from(
    (b"HTTP/1.0", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/1.2", b"HTTP/9.9", b"http/1.1", b"")
)
BROKEN_CHUNKS: Final = st.sampled_from(
    (
        b"zz\r\nx\r\n",
        b"-1\r\n\r\n",
        b"5\r\nab\r\n0\r\n\r\n",
        b"ffffffffffffffffff\r\n",
        b"1;" + b"e" * 20_000 + b"\r\na\r\n",
        b"0x1\r\na\r\n",
    )
)


def chunked(body: bytes, size: int) -> bytes:
    """The body in chunks, with an extension and a trailer."""
    chunks = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x;e=1\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\nTrailer: x\r\n\r\n"


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """A request that any HTTP/1.1 server can frame, whatever it thinks of the rest."""
    endpoint = draw(ENDPOINTS)
    target = endpoint + draw(PATHS if endpoint.startswith(b"/v2/keys") else st.just(b"") | PATHS)
    query = draw(FORMS)
    target = (target + b"?" + query if query else target).replace(b" ", b"%20")
    target = target if target.startswith((b"/", b"http")) else b"/" + target
    method = draw(METHODS)
    headers = [b"Host: fuzz", *draw(MORE_HEADERS)]
    body = draw(JSON_BODIES if b"members" in target else FORMS)
    if not body and draw(st.booleans()):
        return Request(method, target, b"HTTP/1.1", tuple(headers), b"")
    headers.append(b"Content-Type: " + draw(TYPES))
    if draw(st.integers(0, 3)) == 0:
        headers.append(b"Transfer-Encoding: chunked")
        return Request(method, target, b"HTTP/1.1", tuple(headers), chunked(body, draw(st.integers(1, 50))))
    headers.append(b"Content-Length: %d" % len(body))
    return Request(method, target, b"HTTP/1.1", tuple(headers), body)


@st.composite
def broken(draw: st.DrawFn) -> Request:
    """A request whose frame is in doubt: what follows it may be part of it."""
    request = draw(requests())
    match draw(st.sampled_from(("header", "version", "method", "chunks", "line end", "target", "cut", "host"))):
        case "header":
            at = draw(st.integers(0, len(request.headers)))
            return dataclasses.replace(
                request, headers=(*request.headers[:at], draw(BROKEN_HEADERS), *request.headers[at:])
            )
        case "version":
            return dataclasses.replace(request, version=draw(BROKEN_VERSIONS))
        case "method":
            return dataclasses.replace(request, method=draw(ODD_METHODS))
        case "chunks":
            headers = (b"Host: fuzz", b"Transfer-Encoding: chunked")
            return dataclasses.replace(request, headers=headers, body=draw(BROKEN_CHUNKS))
        case "line end":
            return dataclasses.replace(request, line_end=draw(st.sampled_from((b"\n", b"\r", b"\n\r", b"\r\n\0"))))
        case "target":
            return dataclasses.replace(
                request,
                target=draw(
                    st.sampled_from((b"/a b", b"a", b"/\x01", b"/" + b"x" * 3_000_000, b"?", b"*", b"http://", b""))
                ),
            )
        case "cut":
            return dataclasses.replace(request, headers=(*request.headers, b"Content-Length: 100000"))
    return dataclasses.replace(request, headers=request.headers[1:])


GARBAGE: Final = st.binary(max_size=200) | st.sampled_from(
    (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000"),
        b"\r\n" * 100,
        b"\0" * 1000,
    )
)


@final
@dataclasses.dataclass(slots=True, frozen=True)
class Conversation:
    """What one connection sends before the sentinel."""

    requests: tuple[Request, ...]
    last: bytes = b""
    """Something in doubt behind them; empty: every request can be framed."""


CONVERSATIONS: Final = st.builds(Conversation, st.lists(requests(), min_size=1, max_size=4).map(tuple)) | st.builds(
    Conversation, st.lists(requests(), max_size=2).map(tuple), broken().map(Request.encode) | GARBAGE
)
