"""A served proxy: what it forwards to whom, what it answers itself, and what it does with bad input on either side."""

import asyncio
import json
import re

import pytest

from kvraft.proxy.client import BODY_BYTES_MAX
from kvraft.proxy.dialling import Dialler
from tests.proxy.conftest import WITHIN_S, ScriptedMember, Start, Word, closed, read_request, says, until

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
WATCH = b"GET /v2/keys/a?wait=true HTTP/1.1\r\nHost: x\r\n\r\n"
NOBODY = "http://127.0.0.1:1"
"""Refuses at once: nobody listens there."""
ALL_FAILED = b'{"message":"httpproxy: unable to get response from %d endpoint(s)"}'


async def _serve_for_ever(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        await read_request(reader)
        writer.write(OK)


async def _never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(-1)
    del writer


# -- whom ---------------------------------------------------------------------------------------------------------


async def test_no_endpoint_and_all_failed_are_etcds_answers(proxied: Start) -> None:
    """503 and 502 with its texts; an endpoint that failed is none until its wait is over."""
    nobody = await proxied()
    answer = await nobody.get()
    assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n")
    assert answer.endswith(b'{"message":"httpproxy: zero endpoints currently available"}')
    failing = await proxied(NOBODY, "http://127.0.0.1:2")
    answer = await failing.get()
    assert answer.startswith(b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: application/json\r\n")
    assert answer.endswith(ALL_FAILED % 2)
    assert (await failing.get()).startswith(b"HTTP/1.1 503 ")
    page = await failing.get("/metrics")
    assert b'etcd_proxy_dropped_total{method="GET",proxying_error="failed_sending_request"} 2.0' in page
    assert b'etcd_proxy_dropped_total{method="GET",proxying_error="failed_getting_response"} 1.0' in page
    assert b'etcd_proxy_dropped_total{method="GET",proxying_error="zero_endpoints"} 1.0' in page


async def test_next_endpoint_is_asked_when_one_cannot_be_reached(proxied: Start) -> None:
    """A write too, as nothing of it has reached anybody."""
    async with ScriptedMember(_serve_for_ever) as member:
        proxy = await proxied(NOBODY, member.url)
        assert (await proxy.get(method="PUT", lines="Content-Length: 0\r\n")).endswith(b"ok")
        config = json.loads((await proxy.get("/v2/config/local/proxy")).partition(b"\r\n\r\n")[2])
        assert config == {"endpoints": [member.url]}


async def test_read_that_a_member_leaves_unanswered_is_asked_of_the_next(proxied: Start) -> None:
    """What it answers, if it is half or no HTTP, is nobody's."""
    for broken in (b"", b"garbage\r\n\r\n", b"HTTP/1.1 200", b"HTTP/1.1 101 Switching\r\n\r\n", b"\0" * 300_000):
        async with ScriptedMember(says(broken)) as bad, ScriptedMember(_serve_for_ever) as good:
            proxy = await proxied(*sorted((bad.url, good.url)))
            for _ in range(2):  # whichever is first, one of the two goes to the bad one
                assert (await proxy.get()).endswith(b"ok")
                await proxy.server._refresher.refresh()
            assert bad.connections == 1


async def test_write_that_may_have_been_carried_out_is_not_sent_again(proxied: Start) -> None:
    """502; etcd sends it to the next member, and it is carried out twice."""
    async with ScriptedMember(says(b"")) as bad, ScriptedMember(says(b"")) as other:
        proxy = await proxied(bad.url, other.url)
        answer = await proxy.get(method="POST", lines="Content-Length: 0\r\n")
        assert answer.startswith(b"HTTP/1.1 502 ")
        assert answer.endswith(ALL_FAILED % 1)
        assert bad.connections + other.connections == 1


async def test_connection_that_ended_while_it_was_idle_costs_no_read(proxied: Start) -> None:
    """The member has the right to close it: a new one is made, and the endpoint is not set aside."""
    async with ScriptedMember(says(OK)) as member:
        proxy = await proxied(member.url)
        for count in range(1, 4):
            assert (await proxy.get()).endswith(b"ok")
            assert member.connections == count
        assert b"httpproxy" not in await proxy.get()


async def test_connections_to_a_member_are_kept_for_the_next_request(proxied: Start) -> None:
    """Of any client."""
    async with ScriptedMember(_serve_for_ever) as member:
        proxy = await proxied(member.url)
        for _ in range(5):
            assert (await proxy.get()).endswith(b"ok")
        assert member.connections == 1


async def test_request_that_comes_back_to_the_proxy_ends_there(proxied: Start) -> None:
    """CVE-2020-15114: a member that advertises the proxy's own URL must not send it round for ever."""
    word = Word()
    proxy = await proxied(told=word)
    word.client_urls = (proxy.url,)
    await proxy.server._refresher.refresh()
    answer = await proxy.get()
    assert answer.startswith(b"HTTP/1.1 508 Loop Detected\r\n")
    assert b"a member advertises its URL" in answer


# -- what is the proxy's own ---------------------------------------------------------------------------------------


async def test_readonly_proxy_forwards_get_alone(proxied: Start) -> None:
    """501 with nothing in it, HEAD and OPTIONS too, as in etcd; its metrics are everybody's."""
    async with ScriptedMember(_serve_for_ever) as member:
        proxy = await proxied(member.url, is_readonly=True)
        assert (await proxy.get()).endswith(b"ok")
        for method in ("PUT", "POST", "DELETE", "HEAD", "OPTIONS", "PATCH"):
            answer = await proxy.get(method=method)
            assert answer.startswith(b"HTTP/1.1 501 Not Implemented\r\n")
            assert answer.endswith(b"\r\n\r\n")
        assert (await proxy.get("/metrics", method="POST")).startswith(b"HTTP/1.1 200 ")
        assert member.connections == 1


async def test_page_of_the_endpoints_is_for_get(proxied: Start) -> None:
    """Etcd's text and its 405."""
    proxy = await proxied("http://b:1", "http://a:1")
    for target in ("/v2/config/local/proxy", "/v2/config/local/proxy?a", "/v2/config/local/%70roxy"):
        answer = await proxy.get(target)
        assert b"Content-Type: text/plain; charset=utf-8\r\n" in answer
        assert answer.endswith(b'\r\n\r\n{"endpoints":["http://a:1","http://b:1"]}\n')
    answer = await proxy.get("/v2/config/local/proxy", method="PUT")
    assert answer.startswith(b"HTTP/1.1 405 Method Not Allowed\r\nAllow: GET\r\n")


async def test_cors_lines_are_there_once(proxied: Start) -> None:
    """The proxy's, for a page that it lets in; otherwise whatever the member says."""
    said = b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: 2\r\n\r\nok"
    async with ScriptedMember(says(said)) as member:
        proxy = await proxied(member.url, cors_origins=frozenset({b"http://page"}))
        assert b"Access-Control-Allow-Origin: *\r\n" in await proxy.get()
        answer = await proxy.get(lines="Origin: http://page\r\n")
        assert re.findall(rb"Access-Control-Allow-Origin: (.*)\r\n", answer) == [b"http://page"]
        answer = await proxy.get(method="OPTIONS", lines="Origin: http://page\r\n")
        assert b"Allow-Origin: http://page\r\n" in answer
        assert member.connections == 2


async def test_unknown_host_is_refused_with_etcds_page(proxied: Start) -> None:
    """DNS rebinding reaches a proxy on localhost as well as a member."""
    async with ScriptedMember(_serve_for_ever) as member:
        proxy = await proxied(member.url, hosts=frozenset({b"x"}))
        assert (await proxy.get()).endswith(b"ok")
        answer = await proxy.raw(b"GET / HTTP/1.1\r\nHost: evil:1\r\nConnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 421 ")
        assert b"--host-whitelist" in answer
        for target, host, refused in ((b"http://evil/", b"x", True), (b"http://x/", b"evil", False)):
            answer = await proxy.raw(
                b"GET " + target + b" HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n"
            )
            assert answer.startswith(b"HTTP/1.1 421 ") == refused


# -- bodies and answers of every kind ------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 70_000, BODY_BYTES_MAX, BODY_BYTES_MAX + 1, 3 << 20])
@pytest.mark.parametrize("is_chunked", [False, True])
async def test_bodies_of_every_size_arrive_whole(proxied: Start, size: int, is_chunked: bool) -> None:
    """With a length or in chunks; the next request on the connection is served too."""
    got: list[bytes] = []
    sent = bytes(range(256)) * (size // 256 + 1)
    if is_chunked:
        body = b"%x\r\n%b\r\n" % (size, sent[:size]) if size else b""
        frame, body = b"Transfer-Encoding: chunked", body + b"0\r\n\r\n"
    else:
        frame, body = b"Content-Length: %d" % size, sent[:size]

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        got.append(await reader.readexactly(len(body)))
        writer.write(OK)
        await _serve_for_ever(reader, writer)

    async with ScriptedMember(script) as member:
        proxy = await proxied(member.url)
        answer = await proxy.raw(
            b"PUT /v2/keys/a HTTP/1.1\r\nHost: x\r\n" + frame + b"\r\n\r\n" + body + b"GET / HTTP/1.1\r\nHost: x\r\n"
            b"Connection: close\r\n\r\n"
        )
        assert answer.count(b"200 OK") == 2
        assert got == [body]


async def test_large_body_waits_in_the_kernel_not_in_the_proxy(proxied: Start) -> None:
    """Nothing more is read of the client while the member reads nothing: memory is bounded."""
    may_read = asyncio.Event()
    size = 64 << 20

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await may_read.wait()
        left = size
        while left:
            left -= len(await reader.read(1 << 20))
        writer.write(OK)

    async with ScriptedMember(script) as member:
        proxy = await proxied(member.url)
        reader, writer = await proxy.open()
        writer.write(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(64):
            writer.write(bytes(1 << 20))
        await member.until(lambda: member.connections == 1)
        connection = next(iter(proxy.server._front.connections))
        await until(lambda: connection._held)
        assert writer.transport.get_write_buffer_size() > size // 2
        may_read.set()
        async with asyncio.timeout(WITHIN_S):
            assert (await reader.read(1 << 16)).endswith(b"ok")
        await closed(writer)


@pytest.mark.parametrize(
    ("answer", "framing", "body"),
    [
        (b"Content-Length: 5\r\n\r\nhello", b"Content-Length: 5\r\n", b"hello"),
        (
            b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
        ),
        (b"\r\nhello", b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n0\r\n\r\n"),
    ],
)
async def test_answers_of_every_frame_reach_clients_of_both_versions(
    proxied: Start, answer: bytes, framing: bytes, body: bytes
) -> None:
    """HTTP/1.0 has no chunks: it gets what is in them, and the end of the connection."""
    async with ScriptedMember(says(b"HTTP/1.1 200 OK\r\n" + answer)) as member:
        proxy = await proxied(member.url)
        head, _, got = (await proxy.get()).partition(b"\r\n\r\n")
        assert framing in head + b"\r\n"
        assert got == body
        head, _, got = (await proxy.raw(b"GET / HTTP/1.0\r\n\r\n")).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.0 200 OK")
        assert b"chunked" not in head
        assert got == b"hello"


async def test_http_1_0_connection_is_kept_if_it_asks_and_the_answer_has_a_length(proxied: Start) -> None:
    """And is told so."""
    async with ScriptedMember(_serve_for_ever) as member:
        proxy = await proxied(member.url)
        once = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
        answer = await proxy.raw(once + b"GET / HTTP/1.0\r\n\r\n")
        assert answer.count(b"HTTP/1.0 200 OK") == 2
        assert answer.count(b"Connection: keep-alive\r\n") == 1


async def test_pipelined_requests_are_answered_in_their_order(proxied: Start) -> None:
    """Those to the proxy itself among them; what stands behind the last is not read."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            target = (await read_request(reader)).split()[1]
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(target) + target)

    async with ScriptedMember(script) as member:
        proxy = await proxied(member.url)
        targets = [b"/%d" % number for number in range(30)]
        targets[7] = b"/v2/config/local/proxy"
        sent = b"".join(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % target for target in targets)
        answer = await proxy.raw(sent + b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" + sent)
        found = re.findall(rb"\r\n\r\n(/\d+|/last|\{)", answer)
        assert found == [b"{" if b"proxy" in target else target for target in targets] + [b"/last"]


async def test_head_is_answered_without_a_body(proxied: Start) -> None:
    """Whatever length the member declares; the connection goes on."""
    async with ScriptedMember(says(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", OK)) as member:
        proxy = await proxied(member.url)
        answer = await proxy.raw(
            b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        assert answer.count(b"HTTP/1.1 200 OK") == 2
        assert b"Content-Length: 9\r\n\r\nHTTP/1.1" in answer


async def test_client_that_expects_it_is_told_to_go_on(proxied: Start) -> None:
    """By the proxy, and the member hears nothing of it; another expectation is refused, as by Go."""
    heads: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await read_request(reader))
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" + OK)

    async with ScriptedMember(script) as member:
        proxy = await proxied(member.url)
        reader, writer = await proxy.open()
        writer.write(
            b"PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 7\r\nConnection: close\r\n\r\n"
        )
        async with asyncio.timeout(WITHIN_S):
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"value=1")
            assert (await reader.read()).startswith(b"HTTP/1.1 200 OK")
        await closed(writer)
        assert b"expect" not in heads[0].lower()
        assert heads[0].endswith(b"value=1")
        assert (await proxy.get(lines="Expect: miracles\r\n")).startswith(b"HTTP/1.1 417 ")


# -- watches -------------------------------------------------------------------------------------------------------


async def test_events_are_passed_on_as_they_come(proxied: Start) -> None:
    """Head and each chunk at once, before there is any more; the end too."""
    go_on = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        for part in (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"3\r\none\r\n", b"3\r\ntwo\r\n"):
            writer.write(part)
            await go_on.wait()
            go_on.clear()
        writer.write(b"0\r\n\r\n")
        await reader.read(-1)

    async with ScriptedMember(script) as member:
        proxy = await proxied(member.url)
        reader, writer = await proxy.open()
        writer.write(WATCH)
        async with asyncio.timeout(WITHIN_S):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
            for part in (b"3\r\none\r\n", b"3\r\ntwo\r\n", b"0\r\n\r\n"):
                go_on.set()
                assert await reader.readexactly(len(part)) == part
        await closed(writer)


@pytest.mark.parametrize("ends", ["close", "half close"])
async def test_client_that_goes_takes_its_watch_with_it(proxied: Start, ends: str) -> None:
    """The member sees the connection end."""
    async with ScriptedMember(_never_answer) as member:
        proxy = await proxied(member.url)
        _, writer = await proxy.open()
        writer.write(WATCH)
        await member.until(lambda: member.connections == 1)
        if ends == "close":
            await closed(writer)
        else:
            writer.write_eof()
        await member.until(lambda: member.ended == 1)
        await closed(writer)


async def test_client_that_only_stops_sending_gets_its_answer(proxied: Start) -> None:
    """Unless it watches, as whoever has gone looks the same."""
    async with ScriptedMember(_serve_for_ever) as member:
        proxy = await proxied(member.url)
        answer = await proxy.raw(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", half_close=True)
        assert answer.endswith(b"ok")


@pytest.mark.parametrize(
    "begun",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhel",
    ],
)
async def test_answer_that_breaks_off_does_not_look_complete(proxied: Start, begun: bytes) -> None:
    """The client's connection ends without its end."""
    async with ScriptedMember(says(begun)) as member:
        proxy = await proxied(member.url)
        reader, writer = await proxy.open()
        writer.write(WATCH)
        got = b""
        async with asyncio.timeout(WITHIN_S):
            try:
                while data := await reader.read(1 << 16):
                    got += data
            except ConnectionResetError:
                got += b""
        assert not got.endswith(b"0\r\n\r\n")
        assert b"HTTP/1.1 502" not in got
        await closed(writer)


async def test_slow_client_holds_up_its_member_and_not_the_memory(proxied: Start) -> None:
    """The proxy reads no further than the client does; it gets everything in the end."""
    size = 32 << 20
    written = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size >> 20):
            writer.write(bytes(1 << 20))
            await writer.drain()
            written += 1 << 20

    async with ScriptedMember(script) as member:
        proxy = await proxied(member.url)
        reader, writer = await proxy.open()
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # it is a transport that reads
        writer.write(WATCH)
        await member.until(lambda: member.connections == 1)
        connection = next(iter(proxy.server._front.connections))
        await until(lambda: connection._writing_paused)
        assert written < size
        assert proxy.server._front.unread.bytes < 1 << 20
        writer.transport.resume_reading()  # type: ignore[attr-defined]  # as above
        async with asyncio.timeout(WITHIN_S):
            await reader.readuntil(b"\r\n\r\n")
            assert len(await reader.readexactly(size)) == size
        await closed(writer)


# -- time ----------------------------------------------------------------------------------------------------------


async def test_member_that_says_nothing_is_waited_for_unless_a_time_is_set(proxied: Start) -> None:
    """`--proxy-read-timeout`; it then counts as failed."""
    async with ScriptedMember(_never_answer) as member:
        proxy = await proxied(member.url, read_timeout_ms=50)
        assert (await proxy.get()).endswith(ALL_FAILED % 1)
        assert member.connections == 1
        patient = await proxied(member.url)
        _, writer = await patient.open()
        writer.write(WATCH)
        await member.until(lambda: member.connections == 2)
        await closed(writer)
        await member.until(lambda: member.ended == 2)


async def test_member_that_takes_nothing_counts_as_failed_after_the_write_timeout(proxied: Start) -> None:
    """`--proxy-write-timeout`, over any part of a body."""
    never = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del writer, reader
        await never.wait()

    async with ScriptedMember(script) as member:
        proxy = await proxied(member.url, write_timeout_ms=50)
        reader, writer = await proxy.open()
        writer.write(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (64 << 20))
        writer.write(bytes(64 << 20))
        async with asyncio.timeout(WITHIN_S):
            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 502 ")
        await closed(writer)
        never.set()


# -- strangers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"garbage\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
        (b"GET / HTTP/1.1\nHost: x\n\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"x" * (2 << 20) + b"\r\n\r\n", 431),
        (b"GET /" + b"x" * (3 << 20), 431),
        (b"GET /v2/keys/%zz HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET v2/keys HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET * HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 500),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 2000 + b"\r\n", 431),
    ],
)
async def test_what_is_no_request_gets_one_answer_and_the_end(proxied: Start, sent: bytes, status: int) -> None:
    """And no member hears of it."""
    async with ScriptedMember(_serve_for_ever) as member:
        proxy = await proxied(member.url)
        answer = await proxy.raw(sent + b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert answer.count(b"HTTP/1.1 ") == 1
        assert b"Connection: close\r\n" in answer
        assert member.connections == 0


async def test_upgrade_is_a_request_like_any_other(proxied: Start) -> None:
    """Nobody switches, and what follows is read as HTTP."""
    async with ScriptedMember(_serve_for_ever) as member:
        proxy = await proxied(member.url)
        upgrade = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
        answer = await proxy.raw(upgrade + b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert answer.count(b"200 OK") == 2


async def test_request_that_comes_byte_by_byte_is_served(proxied: Start) -> None:
    """A slow client costs no member a connection until its request is there."""
    async with ScriptedMember(_serve_for_ever) as member:
        proxy = await proxied(member.url)
        reader, writer = await proxy.open()
        sent = b"PUT /v2/keys/a HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\nvalue=1"
        for at in range(len(sent)):
            assert member.connections == 0
            writer.write(sent[at : at + 1])
            await writer.drain()
            await asyncio.sleep(0)
        async with asyncio.timeout(WITHIN_S):
            assert (await reader.readexactly(len(OK))) == OK
        await closed(writer)


@pytest.mark.slow
async def test_half_requests_of_many_clients_do_not_fill_the_memory(proxied: Start) -> None:
    """Beyond the limit the oldest that do not go on are told so, as at a member."""
    proxy = await proxied(unfinished_bytes_max=1 << 20)
    clients = [await proxy.open() for _ in range(12)]
    for _, writer in clients:
        writer.write(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n" + bytes(150_000))
    async with asyncio.timeout(WITHIN_S):
        assert (await clients[0][0].readuntil(b"\r\n")).startswith(b"HTTP/1.1 408 ")
    for _, writer in clients:
        await closed(writer)


async def test_connection_too_many_is_told_so(proxied: Start) -> None:
    """And closed; the others are served."""
    async with ScriptedMember(_serve_for_ever) as member:
        proxy = await proxied(member.url, connections_max=1)
        _, writer = await proxy.open()
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await member.until(lambda: member.connections == 1)
        assert b"503 Service Unavailable" in await proxy.raw(b"")
        await closed(writer)


async def test_early_answer_to_a_large_body_reaches_the_client(proxied: Start) -> None:
    """A member may refuse what it has not read to the end; the connection ends with it."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 3\r\n\r\nbig")
        await reader.read(-1)

    async with ScriptedMember(script) as member:
        proxy = await proxied(member.url)
        reader, writer = await proxy.open()
        writer.write(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n" + bytes(1 << 20))
        async with asyncio.timeout(WITHIN_S):
            answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert answer.endswith(b"Connection: close\r\n\r\nbig")
        await closed(writer)


# -- the members ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_failed_endpoint_has_the_members_asked_at_once(proxied: Start) -> None:
    """However long the interval is: a replaced member is replaced here as well."""
    async with ScriptedMember(_serve_for_ever) as member:
        word = Word((NOBODY,))
        proxy = await proxied(told=word, refresh_interval_ms=3_600_000)
        assert (await proxy.get()).startswith(b"HTTP/1.1 502 ")
        word.client_urls = (member.url,)
        word.changed.clear()
        async with asyncio.timeout(WITHIN_S):
            await word.changed.wait()
        assert (await proxy.get()).endswith(b"ok")


async def test_members_that_do_not_answer_are_kept_as_they_were(proxied: Start) -> None:
    """Etcd forgets them, and answers 503."""
    async with ScriptedMember(_serve_for_ever) as member:
        word = Word((member.url,))
        proxy = await proxied(told=word)
        word.is_silent = True
        assert await proxy.server._refresher.refresh()
        assert word.asked == 2
        assert (await proxy.get()).endswith(b"ok")


async def test_stop_ends_watches_and_lets_requests_finish(proxied: Start) -> None:
    """In order: nobody is accepted any more, who waits for an answer gets it."""
    answer_now = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await read_request(reader)
        if b"wait" in request:
            await reader.read(-1)
        else:
            await answer_now.wait()
            writer.write(OK)

    async with ScriptedMember(script) as member:
        proxy = await proxied(member.url, stop_s=WITHIN_S)
        watcher = await proxy.open()
        watcher[1].write(WATCH)
        asking = asyncio.create_task(proxy.get())
        await member.until(lambda: member.connections == 2)
        stopping = asyncio.create_task(proxy.server.stop())
        await member.until(lambda: member.ended == 1)
        answer_now.set()
        assert (await asking).endswith(b"ok")
        await stopping
        await closed(watcher[1])


# -- what must live --------------------------------------------------------------------------------------------------


async def test_refresh_that_fails_in_a_way_nobody_expected_is_done_again(proxied: Start) -> None:
    """The members that are known serve on, and the next answer is heard."""
    word = Word()
    word.defect = ValueError("of a member's answer")
    async with ScriptedMember(_serve_for_ever) as member:
        proxy = await proxied(member.url, told=word, refresh_interval_ms=1)
        word.client_urls = (member.url,)
        await until_asked(word, 3)
        word.defect = None
        await until_asked(word, word.asked + 2)
        assert (await proxy.get()).endswith(b"ok")


async def test_refresh_that_ends_by_a_stray_cancellation_is_told(proxied: Start) -> None:
    """To the loop's handler, which stops the process; not when the proxy stops."""
    await proxied()
    told: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.set_result(context["exception"]))
    [refresh] = [task for task in asyncio.all_tasks() if "Refresher.run" in repr(task)]
    refresh.cancel()
    async with asyncio.timeout(WITHIN_S):
        assert "refresh of the members" in repr(await told)


async def test_endpoint_whose_dialling_has_a_defect_counts_as_failed(
    proxied: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it raises, its client is answered."""

    async def dial(*_: object) -> object:
        raise ValueError("a defect")

    monkeypatch.setattr(Dialler, "dial", dial)
    proxy = await proxied(NOBODY)
    assert (await proxy.get()).endswith(ALL_FAILED % 1)


async def until_asked(word: Word, times: int) -> None:
    """Wait until the members have been asked so often."""
    async with asyncio.timeout(WITHIN_S):
        while word.asked < times:
            word.changed.clear()
            await word.changed.wait()
