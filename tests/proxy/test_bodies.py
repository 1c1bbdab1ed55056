"""Ends of bodies."""

import pytest

from kvraft.proxy.bodies import BrokenBodyError, Chunked, body_of
from kvraft.proxy.heads import CHUNKED, UNTIL_CLOSE

WHOLE = b"4;a=b\r\nwiki\r\n00A\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n"


@pytest.mark.parametrize("size", range(1, len(WHOLE) + 3))
def test_chunks_end_at_the_same_byte_however_they_come(size: int) -> None:
    """What follows belongs to the next message, and the content is what was put in."""
    body, sent, content, used = body_of(CHUNKED), WHOLE + b"GET /", list[bytes](), 0
    for at in range(0, len(sent), size):
        if body.is_over:
            break
        used += body.feed(sent[at : at + size], content)
    assert body.is_over
    assert used == len(WHOLE)
    assert b"".join(content) == b"wiki0123456789"


@pytest.mark.parametrize(
    "data",
    [
        b"x\r\n",
        b"\r\n",
        b"-1\r\n",
        b"0x4\r\nwiki\r\n",
        b"4\nwiki\r\n",
        b"4\r\nwikiX\r\n",
        b"4\r\nwiki\n",
        b"4 4\r\n",
        b"1" * 13 + b"\r\n",
        b"4" * 5000,
        b"0\r\nno colon\r\n\r\n",
        b"0\r\na: \0\r\n\r\n",
        b"0\r\n" + b"a: " + b"x" * 4000 + b"\r\n" + (b"a: " + b"x" * 4000 + b"\r\n") * 16 + b"\r\n",
    ],
)
def test_chunks_whose_end_cannot_be_told_are_broken(data: bytes) -> None:
    """Also those that another program might read otherwise."""
    with pytest.raises(BrokenBodyError):
        Chunked().feed(data)


def test_counted_body_ends_after_its_bytes_and_an_endless_one_never() -> None:
    """An empty one is over before it begins."""
    counted, content = body_of(3), list[bytes]()
    ends = [(counted.feed(data, content), counted.is_over) for data in (b"ab", b"cd")]
    assert ends == [(2, False), (1, True)]
    assert b"".join(content) == b"abc"
    assert body_of(0).is_over
    endless = body_of(UNTIL_CLOSE)
    assert endless.feed(b"abc") == 3
    assert not endless.is_over
