"""What of heads goes on, and what is refused."""

import pytest

from kvraft.proxy.heads import (
    CHUNKED,
    UNTIL_CLOSE,
    GarbageError,
    RefusedError,
    forwarded_head,
    read_answer,
    read_request,
    without_cors,
)


def _forwarded(head: bytes, **others: bool) -> bytes:
    request = read_request(head, head.index(b"\r\n\r\n"))
    return forwarded_head(request, b"10.0.0.9", b"me", b"member:2379", **{"hides_origin": False, **others})


def test_lines_of_one_connection_do_not_go_on() -> None:
    """Etcd's list (reverse.go, singleHopHeaders); the member is told who asks."""
    sent = _forwarded(
        b"GET /v2/keys/a?wait=true HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nTE: trailers\r\n"
        b"Keep-Alive: 5\r\nProxy-Authorization: x\r\nProxy-Authenticate: x\r\nTrailers: x\r\nAccept: a\r\n\r\n"
    )
    assert sent == (
        b"GET /v2/keys/a?wait=true HTTP/1.1\r\nHost: h\r\nAccept: a\r\nVia: 1.1 me\r\nX-Forwarded-For: 10.0.0.9\r\n\r\n"
    )


def test_clients_of_other_proxies_are_named_before_the_own() -> None:
    """Several lines become one (reverse.go, maybeSetForwardedFor)."""
    sent = _forwarded(b"GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 1.1.1.1\r\nx-forwarded-for: 2.2.2.2\r\n\r\n")
    assert sent.endswith(b"X-Forwarded-For: 1.1.1.1, 2.2.2.2, 10.0.0.9\r\n\r\n")
    assert sent.lower().count(b"forwarded-for") == 1


def test_host_is_the_one_that_counts_for_go() -> None:
    """What a target in a proxy's form names; without any, as HTTP/1.0 allows, the member's own."""
    assert _forwarded(b"GET http://foo:1/v?a HTTP/1.1\r\nHost: h\r\n\r\n").startswith(
        b"GET /v?a HTTP/1.1\r\nHost: foo:1\r\nVia"
    )
    assert _forwarded(b"GET http://foo HTTP/1.1\r\nHost: h\r\n\r\n").startswith(b"GET / HTTP/1.1\r\nHost: foo\r\nVia")
    assert _forwarded(b"GET / HTTP/1.0\r\n\r\n").startswith(b"GET / HTTP/1.1\r\nHost: member:2379\r\nVia")


def test_origin_that_was_let_in_is_not_told() -> None:
    """The member would refuse a write with an Origin that is not among its own."""
    head = b"PUT / HTTP/1.1\r\nHost: h\r\norigin: http://page\r\nContent-Length: 1\r\n\r\n"
    assert b"origin: http://page\r\n" in _forwarded(head)
    assert b"origin" not in _forwarded(head, hides_origin=True)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"garbage", 400),
        (b"\r\nGET / HTTP/1.1\r\nHost: h", 400),
        (b"GET  / HTTP/1.1\r\nHost: h", 400),
        (b"GET / HTTP/1.1", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a", 400),
        (b"GET / HTTP/1.1\r\nHost: a/b", 400),
        (b"GET / HTTP/2.0\r\nHost: h", 505),
        (b"GET / HTTP/1.1\r\nHost: h\r\n folded", 400),
        (b"GET / HTTP/1.1\r\nHost: h\r\nA : b", 400),
        (b"GET / HTTP/1.1\r\nHost: h\nA: b", 400),
        (b"GET / HTTP/1.1\r\nHost: h\r\nA: b\0", 400),
        (b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: x", 400),
        (b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: -1", 400),
        (b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: +1", 400),
        (b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 1", 400),
        (b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked", 400),
        (b"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400),
        (b"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked", 501),
        (b"PUT / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked", 400),
        (b"GET / HTTP/1.1\r\nHost: h\r\n" + b"A: b\r\n" * 1001, 431),
    ],
)
def test_what_can_be_read_in_two_ways_does_not_go_on(head: bytes, status: int) -> None:
    """A request must not be hidden in another one from the member behind."""
    whole = head.removesuffix(b"\r\n") + b"\r\n\r\n"
    with pytest.raises(RefusedError) as caught:
        read_request(whole, whole.rindex(b"\r\n\r\n") if whole.startswith(b"\r\n") else whole.index(b"\r\n\r\n"))
    assert (caught.value.answer.status, caught.value.answer.close) == (status, True)


def test_kept_alive_is_what_the_version_or_the_client_says() -> None:
    """HTTP/1.0 has to ask for it, HTTP/1.1 against it."""
    kept = {
        (version, option): read_request(head, len(head) - 4).keep_alive
        for version in (b"1.0", b"1.1")
        for option in (b"", b"close", b"Keep-Alive", b"keep-alive, Upgrade")
        for head in (b"GET / HTTP/%b\r\nHost: h\r\nConnection: %b\r\n\r\n" % (version, option),)
    }
    assert [pair for pair, is_kept in kept.items() if is_kept] == [
        (b"1.0", b"Keep-Alive"),
        (b"1.0", b"keep-alive, Upgrade"),
        (b"1.1", b""),
        (b"1.1", b"Keep-Alive"),
        (b"1.1", b"keep-alive, Upgrade"),
    ]


def test_passwords_are_not_remembered() -> None:
    """Header lines are, by the bytes; but not those with an Authorization."""
    from kvraft.proxy import heads  # noqa: PLC0415 -- what it keeps is looked at

    for line in (b"AUTHORIZATION: Basic c2VjcmV0", b"authorization: Basic c2VjcmV0"):
        head = b"GET / HTTP/1.1\r\nHost: h\r\n" + line + b"\r\n\r\n"
        assert line in _forwarded(head)
    assert not [block for block in heads._headers if b"c2VjcmV0" in block]


@pytest.mark.parametrize(
    ("lines", "length", "keep_alive", "is_whole"),
    [
        (b"Content-Length: 5\r\n", 5, True, True),
        (b"content-length: 0\r\n", 0, True, True),
        (b"Transfer-Encoding: Chunked\r\n", CHUNKED, True, True),
        (b"A: b\r\n", UNTIL_CLOSE, True, False),
        (b"Content-Length: 5\r\nConnection: close\r\n", 5, False, False),
        (b"Content-Length: 5\r\nKeep-Alive: 5\r\nUpgrade: x\r\n", 5, True, False),
    ],
)
def test_answers_say_how_long_they_are(lines: bytes, length: int, keep_alive: bool, is_whole: bool) -> None:
    """And go on as they are, unless something in them is for one connection only."""
    head = read_answer(b"HTTP/1.1 200 OK\r\nX: y\r\n" + lines, to_head=False)
    assert (head.status, head.length, head.keep_alive, bool(head.whole)) == (200, length, keep_alive, is_whole)
    assert head.lines.startswith(b"HTTP/1.1 200 OK\r\nX: y\r\n")
    for name in (b"connection", b"keep-alive", b"upgrade", b"transfer-encoding"):
        assert name not in head.lines.lower()
    assert (b"content-length" in head.lines.lower()) == (length >= 0)


@pytest.mark.parametrize(("status", "to_head"), [(204, False), (304, False), (200, True)])
def test_answers_without_a_body_end_with_their_heads(status: int, to_head: bool) -> None:
    """Whatever length they declare; of HTTP/1.0 the connection ends with them."""
    head = read_answer(b"HTTP/1.0 %d X\r\nContent-Length: 9\r\n" % status, to_head=to_head)
    assert (head.length, head.keep_alive, head.whole) == (0, False, b"")
    assert read_answer(b"HTTP/1.1 %d X\r\n" % status, to_head=to_head).length == 0


@pytest.mark.parametrize(
    "head",
    [
        b"garbage\r\n",
        b"HTTP/2.0 200 OK\r\n",
        b"HTTP/1.1 20 OK\r\n",
        b"HTTP/1.1 200 OK\r\nA b\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length : 5\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n folded\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\ncontent-length: 5\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n",
    ],
)
def test_answers_in_doubt_are_none(head: bytes) -> None:
    """A broken member must not make a client read another's answer."""
    with pytest.raises(GarbageError):
        read_answer(head, to_head=False)


def test_what_the_member_says_to_browsers_can_be_left_out() -> None:
    """Twice, they refuse it."""
    lines = b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nA: b\r\naccess-control-x: y\r\n"
    assert without_cors(lines) == b"HTTP/1.1 200 OK\r\nA: b\r\n"
