"""Requests are told apart as aiohttp tells them apart, and each is given to it alone."""

import asyncio

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser
from hypothesis import given
from hypothesis import strategies as st

from kvraft.api_v2.request_splitter import Piece, Splitter

HOST = b"Host: x\r\n"


def splitter() -> Splitter:
    """One with small limits."""
    return Splitter(line_bytes_max=100, header_bytes_max=200, headers_max=5)


def fed(data: bytes, size: int = 1) -> list[Piece]:
    """Every piece of what comes `size` bytes at a time."""
    one = splitter()
    return [piece for at in range(0, len(data), size) for piece in one.feed(data[at : at + size])]


def shown(pieces: list[Piece]) -> list[tuple[bytes, bytes] | bytes]:
    """(method, target) of each head, and what else went on, put together."""
    found: list[tuple[bytes, bytes] | bytes] = []
    for piece in pieces:
        if piece.line is not None:
            found.append((piece.line.method, piece.line.target))
        elif found and isinstance(found[-1], bytes):
            found[-1] += piece.data
        else:
            found.append(piece.data)
    return found


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_requests_are_told_apart_however_they_arrive(size: int) -> None:
    """By length, by chunks and without a body; empty lines between them are passed over."""
    chunks = b"3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nT: r\r\n\r\n"
    data = (
        b"PUT /a HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\n\r\n\r\n\r\nFOO /\xff HTTP/1.0\r\n\r\n\r\n\r\n"
        b"POST /b HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: Chunked\r\n\r\n" + chunks + b"GET / HTTP/1.1\r\n\r\n"
    )
    assert shown(fed(data, size)) == [
        (b"PUT", b"/a"),
        b"\r\n\r\n",
        (b"FOO", b"/\xff"),
        b"\r\n\r\n",
        (b"POST", b"/b"),
        chunks,
        (b"GET", b"/"),
    ]


def test_parser_gets_a_line_of_ours_and_no_upgrade() -> None:
    """Of the client's line only the version, of its header lines all others as they came."""
    head = b"FOO /\xff HTTP/1.0\r\nA:b \r\nuPGRADE: h2c\r\nConnection: Upgrade\r\n\r\n"
    assert fed(head)[0].data == b"POST / HTTP/1.0\r\nA:b \r\nConnection: Upgrade\r\n\r\n"


@pytest.mark.parametrize(
    "data",
    [
        b"G@T / HTTP/1.1\r\n\r\n",
        b"GET / http/1.1\r\n\r\n",
        b"GET /a b HTTP/1.1\r\n\r\n",
        b"GET  / HTTP/1.1\r\n\r\n",
        b"GET /  HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1 \r\n\r\n",
        b" GET / HTTP/1.1\r\n\r\n",
        b"GET\t/ HTTP/1.1\r\n\r\n",
        b"\nGET / HTTP/1.1\r\n\r\n",
        b"\rGET / HTTP/1.1\r\n\r\n",
        b"\r\n\nGET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\r\n\n",
        b"GET /\x7f HTTP/1.1\r\n\r\n",
        b"FOO\r\n\r\n",
        b"\x16\x03\x01",
        b"GET / HTTP/1.1\n",
        b"GET / HTTP/1.1\r\nA: b\n",
        b"GET / HTTP/1.1\r\nA : b\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: +1\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
@pytest.mark.parametrize("size", [1, 1000])
def test_head_in_doubt_is_refused_with_everything_behind_it(data: bytes, size: int) -> None:
    """Also requests behind it that would be plain: their beginning is in doubt, too."""
    more = b"GET / HTTP/1.1\r\n\r\n"
    found = shown(fed(more + data + more, size))
    assert found[0] == (b"GET", b"/")
    assert len(found) == 2
    refused = found[1]
    assert isinstance(refused, bytes)
    assert refused.removeprefix(b"\r\n") == b"\0\r\n\r\n"


@pytest.mark.parametrize(
    "data",
    [
        b"GET /" + b"x" * 200,
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 6 + b"\r\n",
        b"GET / HTTP/1.1\r\nA: " + b"x" * 300,
    ],
)
def test_head_beyond_the_limits_is_refused_before_it_is_whole(data: bytes) -> None:
    """The parser gets what it must refuse instead, in its turn; nothing is kept, nothing follows."""
    one = splitter()
    pieces = one.feed(b"GET /a HTTP/1.1\r\n\r\n" + data)
    assert one.too_large
    assert shown(pieces) == [(b"GET", b"/a"), b"\0\r\n\r\n"]
    assert one.feed(b"GET / HTTP/1.1\r\n\r\n") == []
    assert not one._buffer


@pytest.mark.parametrize(
    "chunks", [b"zz\r\n", b"1\r\nab\r\n", b"1\na\n", b"0\r\nno colon\r\n", b"-1\r\n", b"1;" + b"e" * 5000, b"\r\n"]
)
@pytest.mark.parametrize("size", [1, 10_000])
def test_broken_chunks_end_the_connection(chunks: bytes, size: int) -> None:
    """The request they belong to is told so, and nothing goes on."""
    head = b"PUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    pieces = fed(head + chunks + b"GET / HTTP/1.1\r\n\r\n", size)
    line = pieces[0].line
    assert line is not None
    assert line.body_is_broken
    assert all(piece.line is None for piece in pieces[1:])


def messages(parser: HttpRequestParser, data: bytes) -> int | None:
    """How many requests aiohttp's parser sees the beginning of in `data`; None if it refuses it."""
    try:
        return len(parser.feed_data(data)[0])
    except HttpProcessingError:
        return None


LINES = st.sampled_from(
    [
        b"Content-Length: 3", b"Content-Length: 0", b"content-length:12 ", b"Transfer-Encoding: chunked", b"A: b",
        b"Upgrade: h2c", b"Connection: upgrade", b"Connection: close", b"Upgrade: websocket", b"Content-Length: 007",
    ]
)  # fmt: skip
BODIES = st.sampled_from(
    [b"", b"abc", b"3\r\nabc\r\n0\r\n\r\n", b"0\r\n\r\n", b"1;a=b\r\nx\r\n0\r\nT: x\r\n\r\n", b"\r\n"]
)
REQUESTS = st.binary(max_size=5) | st.builds(
    lambda method, lines, body: method + b" / HTTP/1.1\r\n" + HOST + b"".join(lines) + b"\r\n" + body,
    st.sampled_from([b"GET", b"PUT", b"FOO", b"CONNECT"]),
    st.lists(LINES.map(lambda line: line + b"\r\n"), max_size=3),
    BODIES,
)


@given(requests=st.lists(REQUESTS, max_size=4), size=st.integers(1, 60))
def test_every_head_begins_exactly_one_request_of_the_parser(requests: list[bytes], size: int) -> None:
    """Property: with a head the parser finds one request or refuses; with what lies between heads it finds none."""
    loop = asyncio.new_event_loop()
    try:
        parser = HttpRequestParser(BaseProtocol(loop), loop, 2**16)
        for piece in fed(b"".join(requests), size):
            found = messages(parser, piece.data)
            if found is None:
                return
            if piece.line is not None:
                assert found == 1
            else:
                assert found == 0
    finally:
        loop.close()
