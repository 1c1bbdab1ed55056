"""What the fast front reads itself, it reads as aiohttp does; everything else it leaves alone."""

import asyncio
from dataclasses import replace

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser, RawRequestMessage
from hypothesis import given
from hypothesis import strategies as st

from kvraft.api_v2 import request_heads
from kvraft.api_v2.request_heads import HeaderFacts, header_facts, parse_headers

HOST = b"Host: 127.0.0.1:2379\r\n"
PLAIN = HeaderFacts(0, None, keep_alive=True)


@pytest.mark.parametrize(
    ("block", "facts"),
    [
        (HOST, PLAIN),
        (b"host:[::1]:2379\r\nUser-Agent: \xc3\xa9 x\r\nX:\r\n", PLAIN),
        (HOST + b"Content-Length: 12\r\nCONTENT-TYPE:  a/b  \r\n", HeaderFacts(12, b"a/b", True)),
        (HOST + b"Connection: close\r\n", HeaderFacts(0, None, False)),
        (HOST + b"Connection: Keep-Alive\r\n", PLAIN),
        (HOST + b"AUTHORIZATION: Basic eDp5\r\n", HeaderFacts(0, None, True, has_credentials=True)),
        (HOST + b"x-forwarded-for: ::1\r\n", HeaderFacts(0, None, True, forwarded=True)),
        (HOST + b"Via: 1.1 proxy\r\n", HeaderFacts(0, None, True, forwarded=True)),
        (HOST + b"X-Real-IP: 10.0.0.1\r\n", HeaderFacts(0, None, True, forwarded=True)),
        (HOST + b"X-SSL-Client-CN: a\r\n", HeaderFacts(0, None, True, forwarded=True)),
        (HOST + b"X-Forwarded-Proto: https\r\n", HeaderFacts(0, None, True, forwarded=True)),
        (HOST + b"X-Envoy-External-Address: ::1\r\n", HeaderFacts(0, None, True, forwarded=True)),
        (HOST + b"X-Request-Id: forwarded\r\n", HeaderFacts(0, None, True)),
        (HOST + b"Connection: close\r\nConnection: keep-alive\r\n", HeaderFacts(0, None, False)),
    ],
)
def test_plain_head_is_read(block: bytes, facts: HeaderFacts) -> None:
    """Names in any case, values without the space around them, the type; again from memory."""
    for _ in range(2):
        read = header_facts(block)
        assert read is not None
        assert bool(read.token) is read.has_credentials
        assert replace(read, token=b"") == facts


@pytest.mark.parametrize(
    "lines",
    [
        b"Transfer-Encoding: chunked\r\n",
        b"Content-Length: 1\r\nContent-Length: 1\r\n",
        b"Content-Type: a/b\r\nContent-Type: c/d\r\n",
        b"Authorization: Basic eDp5\r\nAuthorization: Basic eDp6\r\n",
        b"Content-Length: +1\r\n",
        b"Content-Length: \r\n",
        b"Content-Length: 1, 1\r\n",
        b"Content-Length: 9999999999\r\n",
        b"Expect: 100-continue\r\n",
        b"Upgrade: h2c\r\n",
        b"Connection: Upgrade\r\n",
        b"Connection: keep-alive, close\r\n",
        b"Origin: http://x\r\n",
        b"Host: y\r\n",
        b"A: b\r\n c\r\n",
        b"A: b\r\n\tc\r\n",
        b"A : b\r\n",
        b": b\r\n",
        b"A\r\n",
        b"A@: b\r\n",
        b"A: \x00\r\n",
        b"A: b\nc\r\n",
        b"A: b\rc\r\n",
        b"A: b\r\n" * 100,
        b"A: b",
        b"\r\n",
    ],
)
def test_head_that_is_not_plain_is_left_to_aiohttp(lines: bytes) -> None:
    """Whatever changes how a request is read, and whatever is broken."""
    assert header_facts(HOST + lines) is None
    assert parse_headers(HOST + lines) is None


def test_host_is_needed_and_must_look_like_one() -> None:
    """Aiohttp says what is wrong with it."""
    assert header_facts(b"") is None
    assert header_facts(b"A: b\r\n") is None
    assert header_facts(b"Host: a b\r\n") is None
    assert header_facts(b"Host: \r\n") is None


def test_memory_of_heads_is_bounded() -> None:
    """A client that varies its headers for ever does not grow the server."""
    for number in range(5_000):
        header_facts(HOST + b"X: %d\r\n" % number)
    header_facts(HOST + b"Y: " + b"y" * 50_000 + b"\r\n")
    assert len(request_heads._remembered) <= 1024
    assert max(map(len, request_heads._remembered)) <= 2048


NAMES = st.sampled_from(
    [
        b"Host",
        b"A",
        b"Content-Length",
        b"content-type",
        b"Connection",
        b"Transfer-Encoding",
        b"Expect",
        b"B ",
        b"@",
        b"",
    ]
)
VALUES = st.sampled_from(
    [
        b"x",
        b"",
        b"7",
        b"07",
        b"+7",
        b"7,7",
        b"close",
        b"keep-alive",
        b"close, x",
        b"chunked",
        b"\xff",
        b"\x00",
        b"\x0b",
        b"a\tb",
    ]
) | st.binary(max_size=4)
LINES = st.tuples(
    NAMES, st.sampled_from([b":", b": ", b":\t", b" :"]), VALUES, st.sampled_from([b"\r\n", b"\r\n", b"\n"])
)
BLOCKS = st.lists(LINES.map(b"".join), max_size=4).map(lambda lines: HOST + b"".join(lines))


def aiohttp_reads(head: bytes) -> RawRequestMessage | None:
    """What aiohttp's parser makes of a request's head; None if it refuses it or waits for more."""
    loop = asyncio.new_event_loop()
    try:
        parser = HttpRequestParser(BaseProtocol(loop), loop, 2**16)
        messages, _, _ = parser.feed_data(head)
    except HttpProcessingError:
        return None
    finally:
        loop.close()
    return messages[0][0] if messages else None


@given(block=BLOCKS)
def test_nothing_is_read_differently_here_and_by_aiohttp(block: bytes) -> None:
    """Property: if a head is plain here, aiohttp takes it too and finds the same length, type and connection."""
    facts = parse_headers(block)
    if facts is None:
        return
    message = aiohttp_reads(b"PUT /v2/keys/k HTTP/1.1\r\n" + block + b"\r\n")
    assert message is not None
    assert int(message.headers.get("Content-Length", "0")) == facts.content_length
    content_type = message.headers.get("Content-Type")
    assert (None if content_type is None else content_type.encode("utf-8", "surrogateescape")) == facts.content_type
    assert message.should_close is not facts.keep_alive
    assert not message.chunked


def test_what_is_kept_of_heads_shows_no_password_for_long() -> None:
    """A head that comes again is known again, and soon neither the header nor what it encodes stands in memory."""
    block = HOST + b"authorization: Basic cm9vdDpoaWRkZW4=\r\n"
    request_heads._remembered.clear()
    first = header_facts(block)
    assert header_facts(block) is first
    request_heads.forget_lately()
    kept = [name for name, value in vars(request_heads).items() if b"cm9vdDpoaWRkZW4" in repr(value).encode()]
    assert not kept
    assert len(request_heads._remembered) == 1
    assert header_facts(block) is first


def test_memory_of_heads_with_passwords_is_bounded() -> None:
    """Neither their number nor their length grows the server, and one that is not plain is not kept at all."""
    request_heads.forget_lately()
    for number in range(3_000):
        header_facts(HOST + b"Authorization: Basic %d\r\n" % number)
    header_facts(HOST + b"Authorization: " + b"y" * 50_000 + b"\r\n")
    header_facts(HOST + b"Authorization: Basic x\r\nTE: x\r\n")
    assert 0 < len(request_heads._lately) <= 1024
    assert max(map(len, request_heads._lately)) <= 2048
    assert all(facts.has_credentials for facts in request_heads._lately.values())
    request_heads.forget_lately()
    assert not request_heads._lately
