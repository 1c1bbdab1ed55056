"""The proxy and the members behind it see the same requests, whatever a client sends and however it comes."""

import itertools
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvraft.api_v2.request_splitter import Splitter
from kvraft.proxy.bodies import BrokenBodyError, body_of
from kvraft.proxy.heads import GarbageError, RefusedError, forwarded_head, read_answer, read_request

FRAMES: Final = (
        b"Content-Length: 0", b"Content-Length: 3", b"content-length:3", b"Content-Length: 03", b"Content-Length: 3, 3",
        b"Content-Length : 3", b" Content-Length: 3", b"Content-Length: 0x3", b"Content-Length:\t3 ",
        b"Content-Length:", b"Content-Length: 3\r\nContent-Length: 3", b"Content-Length: 3\r\ncontent-length: 0",
        b"Transfer-Encoding: chunked", b"transfer-encoding:CHUNKED", b"Transfer-Encoding: chunked, chunked",
        b"Transfer-Encoding: identity", b"Transfer-Encoding: \x0bchunked", b"Transfer-Encoding : chunked",
        b"Content-Length: 3\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: chunked\r\nContent-Length: 3",
        b"X: y\nTransfer-Encoding: chunked", b"X: y\rTransfer-Encoding: chunked",
        b"X: y\r\n Transfer-Encoding: chunked",
        b"X: \x00", b"Host: y", b":", b"A: b",
)  # fmt: skip
OTHERS: Final = (
        b"Connection: Transfer-Encoding", b"Connection: close, Content-Length", b"Upgrade: x", b"TE: trailers",
        b"X-Forwarded-For: a\x85", b"Via: 1.1 x", b"Trailers: x", b"A: b", b"Expect: 100-continue",
)  # fmt: skip
FIRST: Final = (
    b"PUT /v2/keys/a HTTP/1.1",
    b"GET /a HTTP/1.0",
    b"POST http://h/a HTTP/1.1",
    b"PUT  /a HTTP/1.1",
    b"GET /a HTTP/1.2",
)
BODIES: Final = (b"", b"abc", b"0\r\n\r\n", b"3\r\nabc\r\n0\r\n\r\n", b"3;x=\r\nabc\r\n0\r\nA: b\r\n\r\n")
NEXT: Final = b"GET /next HTTP/1.1\r\nHost: h\r\n\r\n"


@pytest.mark.parametrize("frame", FRAMES)
def test_what_goes_on_ends_where_the_member_says_that_it_ends(frame: bytes) -> None:
    """The member's own reader finds the request, then the next one, and nothing else."""
    for first, other, body in itertools.product(FIRST, OTHERS, BODIES):
        head = b"\r\n".join([first, b"Host: h", other, frame, b"", b""])
        end = head.index(b"\r\n\r\n")
        sent = head[end + 4 :] + body + NEXT
        try:
            request = read_request(head, end)
            found = body_of(request.headers.length)
            used = found.feed(sent) if not found.is_over else 0
        except (RefusedError, BrokenBodyError):
            continue
        if not found.is_over:
            continue
        forwarded = forwarded_head(request, b"10.0.0.1", b"me", b"h", hides_origin=False)
        pieces = Splitter(1 << 16, 1 << 16, 100).feed(forwarded + sent[:used] + NEXT)
        seen = [(piece.line.method, piece.line.target) for piece in pieces if piece.line is not None]
        assert seen == [(request.method, request.target.removeprefix(b"http://h")), (b"GET", b"/next")], forwarded


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("to_head", [False, True])
def test_answer_that_goes_on_says_once_how_long_it_is(frame: bytes, to_head: bool) -> None:
    """Nothing of its frame is left but what the proxy itself has understood."""
    for other in OTHERS:
        try:
            answer = read_answer(b"\r\n".join([b"HTTP/1.1 200 OK", frame, other, b""]), to_head=to_head)
        except GarbageError:
            continue
        for shown in filter(None, (answer.lines, answer.whole)):
            lower = shown.lower()
            assert lower.count(b"content-length:") + lower.count(b"transfer-encoding:") <= 1
            assert b"\r\nconnection:" not in lower
            assert shown.count(b"\n") == shown.count(b"\r\n")
            assert b"encoding : " not in lower


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(BODIES), st.lists(st.integers(1, 9), max_size=20))
def test_chunks_end_at_one_byte_however_they_are_cut(body: bytes, cuts: list[int]) -> None:
    """Whole or in pieces."""
    sent = body + NEXT

    def used_of(sizes: list[int]) -> int | str:
        chunked, used, at = body_of(-1), 0, 0
        try:
            for size in [*sizes, len(sent)]:
                if chunked.is_over:
                    break
                used += chunked.feed(sent[at : at + size])
                at += size
        except BrokenBodyError:
            return "broken"
        return used if chunked.is_over else "open"

    assert used_of(cuts) == used_of([])
