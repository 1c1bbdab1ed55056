"""What strangers send: every answer is clear, no connection is left in doubt, nothing is read in two ways."""

import asyncio
import contextlib
import time

import pytest

from kvraft.api_v2.go_forms import FORM_BYTES_MAX
from kvraft.keyspace.commands import Set
from kvraft.testing.raw_http import FORM, Connection
from tests.api_v2.conftest import Served

FORM_LINE = f"Content-Type: {FORM}\r\n".encode()
FORM_HEADER = (("Content-Type", FORM),)


async def test_body_of_ten_mebibytes_is_stored_and_one_byte_more_refused(served: Served) -> None:
    """The limit is inclusive; the refusal is 400/210, whatever more the client sends."""
    async with await served.connect() as client:
        body = b"value=".ljust(FORM_BYTES_MAX, b"x")
        stored = await client.request("PUT", "/v2/keys/big?noValueOnSuccess=true", body=body, headers=FORM_HEADER)
        assert stored.status == 201
        refused = await client.request("PUT", "/v2/keys/big", body=body + b"x", headers=FORM_HEADER)
        assert refused.status == 400
        assert refused.json()["cause"] == "http: POST too large"
        # The rest of that body was read and thrown away: the connection can be used again.
        got = await client.request("GET", "/v2/keys/big")
        assert len(got.json()["node"]["value"]) == FORM_BYTES_MAX - 6


async def test_form_of_a_million_parameters_does_not_hold_up_others(served: Served) -> None:
    """It is parsed on a thread: others are answered while it is."""
    async with await served.connect() as client, await served.connect() as other:
        body = b"a&" * 1_000_000 + b"value=x"
        laborious = asyncio.create_task(client.request("PUT", "/v2/keys/k", body=body, headers=FORM_HEADER))
        answered = 0
        while not laborious.done():
            await other.request("GET", "/v2/keys/none")
            answered += 1
        assert answered > 5
        assert (await laborious).json()["node"]["value"] == "x"
        refused = await client.request("PUT", "/v2/keys/k", body=body + b"&ttl=x", headers=FORM_HEADER)
        assert refused.json()["errorCode"] == 202


async def test_request_line_of_two_mebibytes_is_served(client: Connection) -> None:
    """kube-apiserver compares with whole objects in the query (k8s#37994)."""
    value = "x" * (2 << 20)
    answer = await client.request("PUT", f"/v2/keys/k?prevValue={value}", body=b"value=1", headers=FORM_HEADER)
    assert answer.status == 404
    assert answer.json()["errorCode"] == 100


async def test_longer_request_line_and_header_are_refused(served: Served) -> None:
    """431, as from etcd, and the connection ends; what came before them is answered."""
    for data in (
        b"GET /v2/keys/" + b"x" * (3 << 20) + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v2/keys/k HTTP/1.1\r\nHost: x\r\nA: " + b"x" * (2 << 20) + b"\r\n\r\n",
        b"GET /v2/keys/k HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 1001 + b"\r\n",
    ):
        answers = await served.raw(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n" + data)
        assert answers.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b'{"etcdserver":"3.4.23","etcdcluster":"3.4.0"}HTTP/1.1 431 ' in answers


async def test_path_ten_thousand_deep_is_served(client: Connection) -> None:
    """Nothing recurses over a path."""
    path = "/v2/keys" + "/d" * 10_000
    assert (await client.request("PUT", path, body=b"value=1", headers=FORM_HEADER)).status == 201
    assert (await client.request("GET", path)).json()["node"]["value"] == "1"
    assert len((await client.request("GET", "/v2/keys?recursive=true")).body) > 10_000
    assert (await client.request("DELETE", "/v2/keys/d?recursive=true")).status == 200


async def test_chunked_body_is_put_together(client: Connection) -> None:
    """etcd4j sends its forms so."""
    chunks = b"5;ext=1\r\nvalue\r\n3\r\n=ab\r\n0\r\nTrailer: x\r\n\r\n"
    headers = (*FORM_HEADER, ("Transfer-Encoding", "chunked"))
    answer = await client.request("PUT", "/v2/keys/foo", body=chunks, headers=headers)
    assert answer.json()["node"]["value"] == "ab"
    assert (await client.request("GET", "/v2/keys/foo")).status == 200


async def test_body_with_content_encoding_is_not_unpacked(client: Connection) -> None:
    """Etcd does not look at it."""
    headers = (*FORM_HEADER, ("Content-Encoding", "gzip"))
    answer = await client.request("PUT", "/v2/keys/foo", body=b"value=plain", headers=headers)
    assert answer.json()["node"]["value"] == "plain"


async def test_body_of_a_request_that_takes_none_is_skipped(client: Connection) -> None:
    """GET, DELETE and refused methods: the next request is found behind it."""
    for method, status in (("GET", 404), ("DELETE", 404), ("PATCH", 405)):
        answer = await client.request(method, "/v2/keys/foo", body=b"recursive=bad" * 1000, headers=FORM_HEADER)
        assert answer.status == status
    assert (await client.request("GET", "/version")).status == 200


async def test_pipelined_requests_are_answered_in_order(served: Served) -> None:
    """Also across the hand-over from one front to the other, and behind a watch."""
    requests = []
    for number in range(200):
        requests.append(
            b"PUT /v2/keys/k HTTP/1.1\r\nHost: x\r\n%bContent-Length: %d\r\n\r\nvalue=%d"
            % (FORM_LINE, 6 + len(str(number)), number)
        )
        requests.append(b"GET /v2/keys/k HTTP/1.1\r\nHost: x\r\n\r\n")
    requests.append(b"GET /v2/keys/k?wait=true&waitIndex=4 HTTP/1.1\r\nHost: x\r\n\r\n")
    requests.append(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
    requests.append(b"GET /v2/keys/k HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    answers = await served.raw(b"".join(requests))
    assert answers.count(b"HTTP/1.1 ") == 403
    reads = [piece.partition(b'"value":"')[2].partition(b'"')[0] for piece in answers.split(b'{"action":"get"')[1:]]
    assert reads == [b"%d" % number for number in range(200)] + [b"199"]
    tail = answers.rpartition(b"HTTP/1.1 ")[0]
    assert tail.endswith(b'{"etcdserver":"3.4.23","etcdcluster":"3.4.0"}')


async def test_requests_sent_ahead_take_turns_with_those_of_others(served: Served) -> None:
    """Thousands of them in one read: whoever asks meanwhile is answered between two of them, and all are answered."""
    one, count = b"GET /v2/keys/k HTTP/1.1\r\nHost: x\r\n\r\n", 4_000
    last = b"GET /v2/keys/k HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    async with await served.connect() as other:
        await other.request("PUT", "/v2/keys/k", form={"value": "v"})
        greedy = asyncio.create_task(served.raw(one * count + last))
        between = 0
        while not greedy.done():
            await other.request("GET", "/v2/keys/k")
            between += 1
    assert (await greedy).count(b"HTTP/1.1 200") == count + 1
    assert between > 20


@pytest.mark.parametrize("path", ["/v2/keys/k", "/version"])
@pytest.mark.parametrize("before", ["X: a", "Authorization: Basic a", "Transfer-Encoding: chunk", "Content-Length: 0"])
async def test_blanks_in_a_header_line_are_read_once(served: Served, path: str, before: str) -> None:
    """Sixty thousand of them took seconds, a million half an hour, and nobody else was served meanwhile."""
    seconds = []
    for blanks in (25_000, 100_000):
        began = time.process_time()
        await served.raw(
            f"PUT {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{before}{' ' * blanks}b\r\n\r\n".encode()
        )
        seconds.append(time.process_time() - began)
    assert seconds[1] < 0.5 + 4 * seconds[0], "four times as many may take four times as long, not sixteen times"


@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_long_header_lines_end_the_connection(served: Served, method: str) -> None:
    """The parser keeps them until the next request, which may never come; they count until the answer."""
    padding = "x" * 100_000
    answer = await served.raw(
        f"{method} /v2/keys/k HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nX: {padding}\r\n\r\n".encode()
    )
    assert b"\r\nConnection: close\r\n" in answer


async def test_request_in_single_bytes_is_understood(served: Served) -> None:
    """However the network cuts it."""
    data = b"PUT /v2/keys/k HTTP/1.1\r\nHost: x\r\n" + FORM_LINE + b"Content-Length: 8\r\n\r\nvalue=ab"
    async with await served.connect() as client:
        for at in range(len(data)):
            await client.send_raw(data[at : at + 1])
            await asyncio.sleep(0)
        assert (await client.read_answer()).status == 201


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
async def test_half_closed_connection_gets_the_answers_it_is_owed(served: Served, version: bytes) -> None:
    """`printf ... | nc -N` stops sending before it is answered, and so do proxies that pass that on."""
    async with await served.connect() as client:
        head = b"PUT /v2/keys/k HTTP/%b\r\nHost: x\r\nConnection: keep-alive\r\n" % version
        request = head + FORM_LINE + b"Content-Length: 7\r\n\r\nvalue="
        await client.send_raw(request + b"1" + request + b"2")
        client.writer.write_eof()
        assert (await client.read_answer()).status == 201
        assert (await client.read_answer()).status == 200
        assert await client.reader.read() == b""


@pytest.mark.parametrize("target", [b"/v2/keys/k?quorum=true", b"/health", b"/version"])
async def test_half_closed_connection_waits_for_a_late_answer(served: Served, target: bytes) -> None:
    """Whatever front it has."""
    served.backend.has_quorum = False
    async with await served.connect() as client:
        await client.send_raw(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        client.writer.write_eof()
        if target != b"/version":
            while not served.backend.waiting:  # noqa: ASYNC110 -- the loop is what is waited for
                await asyncio.sleep(0)
            served.backend.time_out()
        assert (await client.read_answer()).status == {b"/version": 200, b"/health": 503}.get(target, 500)
        assert await client.reader.read() == b""


async def test_request_cut_off_by_a_half_close_is_not_done(served: Served) -> None:
    """What came whole before it is answered, also where both came at once."""
    request = b"PUT /v2/keys/k HTTP/1.0\r\nConnection: keep-alive\r\n" + FORM_LINE + b"Content-Length: 7\r\n\r\nvalue="
    async with await served.connect() as client:
        await client.send_raw(request + b"1" + request)
        client.writer.write_eof()
        assert (await client.read_answer()).status == 201
        assert await client.reader.read() == b""
    async with await served.connect() as client:
        await client.send_raw(request)
        client.writer.write_eof()
        assert await client.reader.read() == b""
        # The connection ended without an answer, so nobody was told that it was done.
    async with await served.connect() as client:
        assert (await client.request("GET", "/v2/keys/k")).json()["node"]["value"] == "1"


async def test_expectation_is_answered_before_the_body_is_sent(client: Connection) -> None:
    """Curl waits for it with bodies above 1 KiB."""
    await client.send("PUT", "/v2/keys/k", headers=(*FORM_HEADER, ("Expect", "100-continue"), ("Content-Length", "7")))
    assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    await client.send_raw(b"value=1")
    assert (await client.read_answer()).status == 201
    assert (await client.request("GET", "/v2/keys/k", headers=(("Expect", "100-continue"),))).status == 200


async def test_old_client_is_not_told_to_go_on(served: Served) -> None:
    """HTTP/1.0 has no 100 Continue: such a client would take it for the answer."""
    head = b"PUT /v2/keys/k HTTP/1.0\r\nExpect: 100-continue\r\n" + FORM_LINE + b"Content-Length: 7\r\n\r\n"
    assert (await served.raw(head + b"value=1")).startswith(b"HTTP/1.0 201 ")


async def test_unknown_expectation_is_417(served: Served) -> None:
    """As Go answers it."""
    answer = await served.raw(b"PUT /v2/keys/k HTTP/1.1\r\nHost: x\r\nExpect: tea\r\nContent-Length: 7\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 417 Expectation Failed\r\n")


async def test_leave_to_send_a_body_that_nobody_reads_is_not_given(served: Served) -> None:
    """Whether the body follows is not known then, so the connection ends."""
    data = b"PATCH /v2/keys/k HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 7\r\n\r\n"
    answer = await served.raw(data)
    assert answer.startswith(b"HTTP/1.1 405 Method Not Allowed\r\n")
    assert b"Connection: close\r\n" in answer


async def test_old_http_is_answered_and_closed_or_kept_when_asked(served: Served) -> None:
    """HTTP/1.0, with and without keep-alive."""
    answer = await served.raw(b"GET /version HTTP/1.0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.0 200 OK\r\n")
    twice = await served.raw(
        b"GET /v2/keys/k HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /v2/keys/k HTTP/1.0\r\n\r\n"
    )
    assert twice.count(b"HTTP/1.0 404") == 2
    assert twice.count(b"Connection: keep-alive") == 1
    served.backend.apply(Set(b"/k", b"x" * 5_000))
    long = await served.raw(b"GET /v2/keys/k HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert b"Content-Length" not in long
    assert b"Transfer-Encoding" not in long
    assert long.endswith(b'"createdIndex":4}}\n')


PUT_HEAD = b"PUT /v2/keys/smuggled HTTP/1.1\r\nHost: x\r\n" + FORM_LINE
PLAIN_WRITE = b"PUT /v2/keys/smuggled?value=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
CHUNKS = b"5\r\nvalue\r\n2\r\n=1\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    "data",
    [
        PUT_HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS,
        PUT_HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + CHUNKS,
        PUT_HEAD + b"Content-Length: 7\r\nContent-Length: 7\r\n\r\nvalue=1",
        PUT_HEAD + b"Content-Length: 7\r\nContent-Length: 6\r\n\r\nvalue=1",
        PUT_HEAD + b"Content-Length: 7, 7\r\n\r\nvalue=1",
        PUT_HEAD + b"Content-Length: -7\r\n\r\nvalue=1",
        PUT_HEAD + b"Content-Length: +7\r\n\r\nvalue=1",
        PUT_HEAD + b"Content-Length: 0x7\r\n\r\nvalue=1",
        PUT_HEAD + b"Content-Length: \r\n\r\nvalue=1",
        PUT_HEAD + b"Content-Length : 7\r\n\r\nvalue=1",
        PUT_HEAD + b"A: b\r\n Content-Length: 7\r\nContent-Length: 7\r\n\r\nvalue=1",
        PUT_HEAD + b"A: b\r\n\tc\r\nContent-Length: 7\r\n\r\nvalue=1",
        PUT_HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKS,
        PUT_HEAD + b"Transfer-Encoding: identity\r\n\r\nvalue=1",
        PUT_HEAD + b"Transfer-Encoding: xchunked\r\n\r\n" + CHUNKS,
        PUT_HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS,
        PUT_HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + CHUNKS,
        PUT_HEAD.replace(b"HTTP/1.1", b"HTTP/1.0") + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS,
        PUT_HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nvalue\r\n",
        PUT_HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\nvalue\r\n",
        PUT_HEAD + b"Content-Length: 7\r\nA\r\n\r\nvalue=1",
        PUT_HEAD + b"Content-Length: 7\r\nA: \x00\r\n\r\nvalue=1",
        PUT_HEAD + b"Content-Length: 7\r\nA@: b\r\n\r\nvalue=1",
        PUT_HEAD + b"Content-Length: 7\r\nHost: y\r\n\r\nvalue=1",
        PUT_HEAD.replace(b"Host: x\r\n", b"") + b"Content-Length: 7\r\n\r\nvalue=1",
        PUT_HEAD.replace(b"Host: x", b"Host: x y") + b"Content-Length: 7\r\n\r\nvalue=1",
        PUT_HEAD.replace(b"\r\n", b"\n") + b"Content-Length: 7\n\nvalue=1",
        PUT_HEAD.replace(b"HTTP/1.1", b"HTTP/2.0") + b"Content-Length: 7\r\n\r\nvalue=1",
        PUT_HEAD.replace(b"HTTP/1.1", b"HTTP/0.9") + b"Content-Length: 7\r\n\r\nvalue=1",
        PUT_HEAD.replace(b"HTTP/1.1", b"http/1.1") + b"Content-Length: 7\r\n\r\nvalue=1",
        PUT_HEAD.replace(b"smuggled", b"smuggled x") + b"Content-Length: 7\r\n\r\nvalue=1",
        PUT_HEAD.replace(b"smuggled", b"smug\x01gled") + b"Content-Length: 7\r\n\r\nvalue=1",
        PUT_HEAD.replace(b"/v2/keys/smuggled", b"v2/keys/smuggled") + b"Content-Length: 7\r\n\r\nvalue=1",
        PUT_HEAD.replace(b"smuggled", b"smuggled%zz") + b"Content-Length: 7\r\n\r\nvalue=1",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03garbage\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"F@O /v2/keys/smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
        PLAIN_WRITE.replace(b"PUT ", b"PUT  "),
        PLAIN_WRITE.replace(b" HTTP", b"  HTTP"),
        PLAIN_WRITE.replace(b"PUT ", b"PUT\t"),
        PLAIN_WRITE.replace(b" HTTP", b"\tHTTP"),
        PLAIN_WRITE.replace(b"/1.1", b"/1.1 "),
        PLAIN_WRITE.replace(b"/1.1\r", b"/1.1\r\r"),
        PLAIN_WRITE.replace(b"/1.1\r\n", b"/1.1\n"),
        PLAIN_WRITE.replace(b"/1.1\r\n", b"/1.1\r"),
        PLAIN_WRITE.replace(b"=1 ", b"=1\n "),
        PLAIN_WRITE.replace(b"=1 ", b"=\t1 "),
        PLAIN_WRITE.replace(b"=1 ", b"=1\x7f "),
        PLAIN_WRITE.replace(b"0\r\n\r\n", b"0\n\r\n"),
        PLAIN_WRITE.replace(b"0\r\n\r\n", b"0\r\n\n"),
        b" " + PLAIN_WRITE,
        b"\n" + PLAIN_WRITE,
        b"\r" + PLAIN_WRITE,
        b"\r\n\n" + PLAIN_WRITE,
        b"\r\r\n" + PLAIN_WRITE,
        b"\r\n " + PLAIN_WRITE,
    ],
)
async def test_request_in_doubt_is_refused_and_writes_nothing(served: Served, data: bytes) -> None:
    """The connection ends with one 400, without a traceback, and what follows is not read."""
    follower = b"PUT /v2/keys/smuggled HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    answer = await served.raw(data + follower)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert answer.count(b"HTTP/1.") == 1
    assert b"Traceback" not in answer
    assert b"aiohttp" not in answer
    assert served.backend.keyspace.etcd_index == 3


async def test_good_request_is_answered_whatever_comes_behind_it_in_its_packet(served: Served) -> None:
    """As in etcd: the garbage is refused on its own, and is not taken for the good request."""
    answer = await served.raw(b"HEAD /v2 HTTP/1.1\r\nHost: x\r\n\r\n\0")
    assert answer.startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert answer.endswith(b"\r\n\r\n400 Bad Request")
    assert answer.count(b"HTTP/1.1 ") == 2
    foreign = b"DELETE /v2/keys/k HTTP/1.1\r\nHost: x\r\nOrigin: http://evil\r\nUpgrade: x\r\n\r\n\0"
    served.backend.apply(Set(b"/k", b"1"))
    assert (await served.raw(foreign)).startswith(b"HTTP/1.1 403 ")
    assert served.backend.keyspace.etcd_index == 4
    write = b"PUT /v2/keys/k?value=2 HTTP/1.1\r\nHost: x\r\nUpgrade: x\r\n\r\nFOO\r\n\r\n"
    assert (await served.raw(write)).startswith(b"HTTP/1.1 200 ")
    assert served.backend.keyspace.etcd_index == 5


LAST = b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    "lines",
    [
        b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n",
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
    ],
)
async def test_upgrade_is_not_followed_and_the_next_request_is_read(served: Served, lines: bytes) -> None:
    """Etcd serves HTTP/1.1 and nothing else on a plain v2 connection."""
    body = FORM_LINE + b"Content-Length: 7\r\n\r\nvalue=1"
    answers = await served.raw(b"PUT /v2/keys/k HTTP/1.1\r\nHost: x\r\n" + lines + body + LAST)
    assert answers.startswith(b"HTTP/1.1 201 Created\r\n")
    assert answers.endswith(b'{"etcdserver":"3.4.23","etcdcluster":"3.4.0"}')


@pytest.mark.parametrize("method", [b"FOO", b"get", b"M-SEARCH", b"PRI", b"F!#$%&'*+-.^_`|~9", b"X" * 300, b"CONNECT"])
@pytest.mark.parametrize(
    "body", [b"\r\n", b"Content-Length: 3\r\n\r\nabc", b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"]
)
async def test_any_token_is_a_method_wherever_it_comes(served: Served, method: bytes, body: bytes) -> None:
    """Net/http takes every token; also behind another request in the same packet, and with a body."""
    request = method + b" /v2/keys/k HTTP/1.1\r\nHost: x\r\n" + body
    for before in (b"", b"GET /v2/keys HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n"):
        answers = await served.raw(before + request + LAST)
        assert answers.count(b"HTTP/1.1 405 Method Not Allowed\r\n") == 1
        assert answers.count(b"HTTP/1.1 200 OK\r\n") == (2 if before else 1)


@pytest.mark.parametrize(
    ("head", "status", "part"),
    [
        (b"GET /v2\xff HTTP/1.1\r\n", 404, b"404 page not found"),
        (
            b"PUT http://h\xff/v2/keys/r\xc3\xa9?value=\xc3\xa9\xff HTTP/1.1\r\n",
            201,
            '"/ré","value":"é\\ufffd"'.encode(),
        ),
        (b"GET /v2/keys//r\xe9?x=\x80 HTTP/1.1\r\nUpgrade: x\r\n", 301, b"Location: /v2/keys/r%E9?x=%80\r\n"),
        (b"GET /v2/keys//r?x=\x80 HTTP/1.1\r\nUpgrade: x\r\n", 301, b'<a href="/v2/keys/r?x=\x80">'),
        (b"CONNECT a:1 HTTP/1.1\r\n", 404, b"404 page not found"),
    ],
)
async def test_bytes_above_ascii_in_a_target_are_read_as_they_are(
    served: Served, head: bytes, status: int, part: bytes
) -> None:
    """Measured on etcd 3.4.23: in the path, in the host, in the query, and in what a redirect repeats of them."""
    answers = await served.raw(head + b"Host: x\r\n\r\n" + LAST)
    assert answers.startswith(b"HTTP/1.1 %d " % status)
    assert part in answers
    assert answers.endswith(b'{"etcdserver":"3.4.23","etcdcluster":"3.4.0"}')


@pytest.mark.parametrize(
    "chunks",
    [
        b"zz\r\n",
        b"0x1\r\na\r\n",
        b"5\r\nvalueXX",
        b"5\nvalue\n",
        b"1;" + b"e" * 5000,
        b"0\r\nno colon\r\n",
    ],
)
async def test_broken_chunk_ends_the_connection_when_it_comes(served: Served, chunks: bytes) -> None:
    """400 for a write that had begun to arrive, which aiohttp let wait for ever; a read needs no body."""
    for method, status in ((b"PUT", b"400"), (b"GET", b"404")):
        reader, writer = await asyncio.open_connection("127.0.0.1", served.server.ports[0])
        writer.write(method + b" /v2/keys/k HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nva\r\n")
        async with await served.connect() as other:
            # By its answer the server has read what was sent before.
            await other.request("GET", "/v2/keys")
        writer.write(chunks)
        async with asyncio.timeout(20):
            answer = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert answer.count(b"HTTP/1.1 ") == 1
    assert served.backend.keyspace.etcd_index == 3


@pytest.mark.parametrize(
    ("target", "key"),
    [("/v2/keys/a%00b", "/a\0b"), ("/v2/keys/%ef%bf%bd", "/\ufffd"), ("/v2/keys/a;b#c", "/a;b#c")],
)
async def test_odd_key_is_a_key(client: Connection, target: str, key: str) -> None:
    """Bytes are bytes; what of a value is not UTF-8 is shown as U+FFFD."""
    answer = await client.request("PUT", target, body=b"value=%ff%00", headers=FORM_HEADER)
    assert answer.status == 201
    assert answer.json()["node"] == {"key": key, "value": "\ufffd\0", "modifiedIndex": 4, "createdIndex": 4}
    assert (await client.request("GET", target)).status == 200


async def test_client_that_only_writes_is_held_back(served: Served) -> None:
    """Pipelined requests whose answers nobody reads stop being read themselves: memory is bounded."""
    served.backend.apply(Set(b"/k", b"x" * 50_000))
    _, writer = await asyncio.open_connection("127.0.0.1", served.server.ports[0])
    writer.transport.pause_reading()  # type: ignore[attr-defined] # streams name the base class
    request = b"GET /v2/keys/k HTTP/1.1\r\nHost: x\r\n\r\n"
    writer.write(request * 20_000)
    async with await served.connect() as other:
        for _ in range(50):
            assert (await other.request("GET", "/v2/keys/none")).status == 404
        answered = served.backend.keyspace.stats.gets_success
        assert answered < 2_000
        for _ in range(50):
            await other.request("GET", "/v2/keys/none")
        assert served.backend.keyspace.stats.gets_success == answered
    writer.transport.abort()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
