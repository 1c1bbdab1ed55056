"""Framing as Go's net/http does it."""

import pytest

from kvraft.api_v2.answers import Answer, Framing, Piece, answer_parts, stream_end, stream_head

NEW = Framing(http10=False, head=False, keep_alive=True)
NEW_HEAD = Framing(http10=False, head=True, keep_alive=True)
NEW_CLOSING = Framing(http10=False, head=False, keep_alive=False)
OLD = Framing(http10=True, head=False, keep_alive=False)
OLD_KEEPING = Framing(http10=True, head=False, keep_alive=True)
OLD_HEAD = Framing(http10=True, head=True, keep_alive=True)
SHORT = b"x" * 2048
LONG = b"x" * 2049


@pytest.mark.parametrize(
    ("framing", "body", "lines", "framed", "keep_alive"),
    [
        (NEW, b"hi", b"Content-Length: 2\r\n", b"hi", True),
        (NEW, SHORT, b"Content-Length: 2048\r\n", SHORT, True),
        (NEW, LONG, b"Transfer-Encoding: chunked\r\n", b"801\r\n" + LONG + b"\r\n0\r\n\r\n", True),
        (NEW, b"", b"Content-Length: 0\r\n", b"", True),
        (NEW_HEAD, b"hi", b"Content-Length: 2\r\n", b"", True),
        (NEW_HEAD, LONG, b"", b"", True),
        (NEW_HEAD, b"", b"", b"", True),
        (NEW_CLOSING, b"hi", b"Content-Length: 2\r\nConnection: close\r\n", b"hi", False),
        (OLD, b"hi", b"Content-Length: 2\r\n", b"hi", False),
        (OLD, LONG, b"", LONG, False),
        (OLD_KEEPING, b"hi", b"Content-Length: 2\r\nConnection: keep-alive\r\n", b"hi", True),
        (OLD_KEEPING, LONG, b"", LONG, False),
        (OLD_HEAD, LONG, b"Connection: keep-alive\r\n", b"", True),
    ],
)
def test_answer_is_framed_for_its_client(
    framing: Framing, body: bytes, lines: bytes, framed: bytes, keep_alive: bool
) -> None:
    """A length is declared up to 2048 bytes; HTTP/1.0 knows no chunks and must be closed instead."""
    parts, stays_open = answer_parts(Answer(200, b"A: b\r\n", body), framing, b"Date: now\r\n")
    version = b"HTTP/1.0" if framing.http10 else b"HTTP/1.1"
    assert b"".join(parts) == version + b" 200 OK\r\nA: b\r\nDate: now\r\n" + lines + b"\r\n" + framed
    assert stays_open is keep_alive


def test_last_answer_says_so() -> None:
    """An answer can end the connection whatever the client wished."""
    parts, stays_open = answer_parts(Answer(400, b"", b"no", close=True), NEW, b"")
    assert b"".join(parts) == b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"
    assert not stays_open


def test_answer_without_content_declares_none() -> None:
    """204 has no body and no length."""
    parts, _ = answer_parts(Answer(204, b"", b""), NEW, b"")
    assert b"".join(parts) == b"HTTP/1.1 204 No Content\r\n\r\n"


def test_stream_is_chunked_or_ends_with_its_connection() -> None:
    """HTTP/1.0 gets the bare bytes."""
    assert stream_head(200, b"A: b\r\n", NEW, b"") == (
        b"HTTP/1.1 200 OK\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\n",
        True,
    )
    assert stream_head(200, b"", NEW_CLOSING, b"") == (
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n",
        False,
    )
    assert stream_head(200, b"", OLD_KEEPING, b"") == (b"HTTP/1.0 200 OK\r\n\r\n", False)
    piece = Piece(b"x" * 31)
    assert (piece.framed(NEW), stream_end(NEW)) == (b"1f\r\n" + b"x" * 31 + b"\r\n", [b"0\r\n\r\n"])
    assert (piece.framed(OLD), stream_end(OLD)) == (b"x" * 31, [])


def test_piece_is_framed_once_for_all_who_get_it() -> None:
    """What many clients leave unread is one object, and so in memory once."""
    piece = Piece(b"x" * 31)
    assert piece.framed(NEW) is piece.framed(NEW_CLOSING)
    assert piece.framed(OLD) is piece.framed(OLD_KEEPING)


@pytest.mark.parametrize("size", [31, 20_000])
def test_last_piece_brings_the_end_with_it(size: int) -> None:
    """The same object to everybody, in one part unless it is large; HTTP/1.0 knows no end but the connection's."""
    piece = Piece(b"x" * size)
    assert b"".join(piece.framed_last(NEW)) == piece.framed(NEW) + b"0\r\n\r\n"
    assert all(one is other for one, other in zip(piece.framed_last(NEW), piece.framed_last(NEW), strict=True))
    assert len(piece.framed_last(NEW)) == (1 if size == 31 else 2)
    assert piece.framed_last(OLD) == [b"x" * size]
