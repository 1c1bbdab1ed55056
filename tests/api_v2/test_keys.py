"""/v2/keys over sockets, through both fronts."""

import asyncio
import gc
import json
import socket
import struct

import pytest

from kvraft.api_v2.exchange import Exchange
from kvraft.keyspace.commands import Set
from kvraft.keyspace.errors import ErrorCode, EtcdError
from kvraft.testing.raw_http import FORM, Answer, Connection
from tests.api_v2.conftest import Served

FORM_HEADER = (("Content-Type", FORM),)
KEY_HEADERS = {"Content-Type", "X-Etcd-Cluster-Id", "X-Etcd-Index", "X-Raft-Index", "X-Raft-Term", "Date"}


async def put(client: Connection, target: str, body: bytes = b"value=1") -> Answer:
    """PUT a form."""
    return await client.request("PUT", target, body=body, headers=FORM_HEADER)


async def test_first_write_has_etcds_status_headers_and_body(client: Connection) -> None:
    """Header names with etcd's capitals: cetcd compares them so."""
    answer = await put(client, "/v2/keys/foo", b"value=bar")
    assert answer.status == 201
    assert answer.reason == "Created"
    assert {name for name, _ in answer.headers} == KEY_HEADERS | {"Content-Length"}
    assert answer.header("X-Etcd-Cluster-Id") == "a511a62ef3d4eb6a"
    assert answer.header("X-Etcd-Index") == "4"
    assert answer.body == b'{"action":"set","node":{"key":"/foo","value":"bar","modifiedIndex":4,"createdIndex":4}}\n'


async def test_error_names_no_raft_index(client: Connection) -> None:
    """Errors of the store carry their own index; errors of the parser carry 0."""
    missing = await client.request("GET", "/v2/keys/a/b")
    assert missing.status == 404
    assert missing.body == b'{"errorCode":100,"message":"Key not found","cause":"/a","index":3}\n'
    assert {name for name, _ in missing.headers} == KEY_HEADERS - {"X-Raft-Index", "X-Raft-Term"} | {"Content-Length"}
    refused = await client.request("GET", "/v2/keys/a?recursive")
    assert refused.status == 400
    assert refused.etcd_index == 0
    assert refused.json()["cause"] == 'invalid value for "recursive"'


async def test_head_is_a_get_without_body(client: Connection) -> None:
    """Same status and Content-Length; the connection goes on."""
    await put(client, "/v2/keys/foo")
    got = await client.request("GET", "/v2/keys/foo")
    head = await client.request("HEAD", "/v2/keys/foo?quorum=true")
    assert head.status == 200
    assert head.header("Content-Length") == str(len(got.body))
    missing = await client.request("HEAD", "/v2/keys/nope")
    assert missing.status == 404
    assert (await client.request("GET", "/v2/keys/foo")).body == got.body


@pytest.mark.parametrize("size", [2047, 2048, 2049, 70_000])
async def test_length_is_declared_up_to_gos_buffer_and_the_body_chunked_beyond(
    served: Served, client: Connection, size: int
) -> None:
    """Go's net/http declares 2048 bytes and no more, and sends a longer body as one chunk."""
    frame = len(b'{"action":"get","node":{"key":"/k","value":"","modifiedIndex":4,"createdIndex":4}}\n')
    served.backend.apply(Set(b"/k", b"x" * (size - frame)))
    answer = await client.stream("/v2/keys/k")
    if size <= 2048:
        assert answer.header("Content-Length") == str(size)
        assert len(await client.reader.readexactly(size)) == size
    else:
        assert answer.header("Content-Length") is None
        assert answer.header("Transfer-Encoding") == "chunked"
        assert len(await client.read_chunk()) == size
        assert await client.read_chunk() == b""
    head = await client.request("HEAD", "/v2/keys/k")
    assert head.header("Content-Length") == (str(size) if size <= 2048 else None)
    assert head.header("Transfer-Encoding") is None


async def test_quiet_success_answers_the_action_alone(client: Connection) -> None:
    """NoValueOnSuccess shortens set, create, update and compareAndSwap, not delete."""
    created = await put(client, "/v2/keys/foo?noValueOnSuccess=true")
    assert (created.status, created.body) == (201, b'{"action":"set"}\n')
    replaced = await put(client, "/v2/keys/foo?noValueOnSuccess=true")
    assert (replaced.status, replaced.body) == (200, b'{"action":"set"}\n')
    deleted = await client.request("DELETE", "/v2/keys/foo?noValueOnSuccess=true")
    assert deleted.json()["prevNode"]["value"] == "1"


async def test_key_is_decoded_cleaned_and_plus_is_a_plus(client: Connection) -> None:
    """`%2F` separates, a trailing slash does not count, `+` is itself in a path and a space in a form."""
    await put(client, "/v2/keys/d%2Fa%20b+c/", b"value=x+y%2B%00")
    answer = await client.request("GET", "/v2/keys/d/a%20b+c")
    assert answer.json()["node"]["key"] == "/d/a b+c"
    assert answer.json()["node"]["value"] == "x y+\0"


@pytest.mark.parametrize(
    ("method", "target", "location"),
    [
        ("GET", "/v2/keys//foo", "/v2/keys/foo"),
        ("GET", "/v2/keys/a/%2e%2e/foo?x=%zz&y", "/v2/keys/foo?x=%zz&y"),
        ("GET", "/v2/keys/foo/.", "/v2/keys/foo"),
        ("GET", "//v2/keys/foo", "/v2/keys/foo"),
        ("GET", "/v2/../..", "/"),
        ("PUT", "/v2/keys/foo//", "/v2/keys/foo/"),
        ("HEAD", "/v2/keys//foo", "/v2/keys/foo"),
    ],
)
async def test_unclean_path_is_redirected(client: Connection, method: str, target: str, location: str) -> None:
    """Go's ServeMux, for every method; only GET has a body."""
    answer = await client.request(method, target)
    assert answer.status == 301
    assert answer.header("Location") == location
    if method == "GET":
        link = location.replace("&", "&amp;")
        assert answer.body == f'<a href="{link}">Moved Permanently</a>.\n\n'.encode()
    else:
        assert answer.body == b""


@pytest.mark.parametrize("method", ["PATCH", "TRACE", "PROPFIND", "CONNECT"])
async def test_other_method_on_keys_is_405(client: Connection, method: str) -> None:
    """The list of methods is etcd's, to the comma."""
    answer = await client.request(method, "/v2/keys/foo")
    assert answer.status == 405
    assert answer.header("Allow") == "HEAD,GET,PUT,POST,DELETE"
    assert answer.header("X-Content-Type-Options") == "nosniff"
    assert answer.body == b"Method Not Allowed\n"


async def test_word_that_is_no_method_is_405_and_404_where_nothing_is(served: Served) -> None:
    """Etcd takes any word for a method; also on a connection that has moved to aiohttp."""
    for method in ("FOO", "put"):
        async with await served.connect() as client:
            answer = await client.request(method, "/v2/keys/foo")
            assert (answer.status, answer.header("Allow")) == (405, "HEAD,GET,PUT,POST,DELETE")
        async with await served.connect() as client:
            assert (await client.request("GET", "/version")).status == 200
            answer = await client.request(method, "/v2/keys/foo")
            assert (answer.status, answer.header("Allow")) == (405, "HEAD,GET,PUT,POST,DELETE")
            assert answer.header("Date") is not None
            assert (await client.request("GET", "/version")).status == 200
            assert (await client.request(method, "/nothing")).status == 404
        pipelined = f"{method} /v2/keys/foo HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        answers = await served.raw(
            pipelined + pipelined + b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        assert answers.count(b"HTTP/1.1 405 ") == 2
        assert answers.count(b"HTTP/1.1 200 ") == 1


async def test_write_and_quorum_read_without_quorum_are_500_300_and_local_reads_go_on(served: Served) -> None:
    """A.13: nothing but the answer's time is different for the client."""
    served.backend.apply(Set(b"/k", b"v"))
    served.backend.has_quorum = False
    async with await served.connect() as writer, await served.connect() as quorum, await served.connect() as local:
        writing = asyncio.create_task(put(writer, "/v2/keys/k"))
        reading = asyncio.create_task(quorum.request("GET", "/v2/keys/k?quorum=true"))
        while len(served.backend.waiting) < 2:
            assert (await local.request("GET", "/v2/keys/k")).status == 200
        served.backend.time_out()
        for answer in (await writing, await reading):
            assert answer.status == 500
            assert answer.body == (
                b'{"errorCode":300,"message":"Raft Internal Error","cause":"etcdserver: request timed out","index":0}\n'
            )


async def test_answer_that_comes_after_its_client_has_left_is_dropped(served: Served) -> None:
    """The member's callback must not fail, and the server goes on."""
    served.backend.has_quorum = False
    leaver = await served.connect()
    await leaver.send("PUT", "/v2/keys/k", body=b"value=1", headers=FORM_HEADER)
    async with await served.connect() as client:
        while not served.backend.waiting:
            await client.request("GET", "/v2/keys/k")
        leaver.writer.transport.abort()
        # A later connection is served, so the loop has seen the abort.
        await client.request("GET", "/v2/keys/k")
        served.backend.time_out()
        assert (await client.request("GET", "/v2/keys/k")).status == 404


@pytest.mark.pure
@pytest.mark.parametrize("asked", [("PUT", "/v2/keys/k", b"value=1"), ("GET", "/v2/keys/k?quorum=true", b"")])
async def test_answer_that_cannot_be_made_ends_its_connection_alone(
    served: Served, asked: tuple[str, str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client need not wait for what never comes. The backend is told, and logs it as a bug of that request."""
    served.backend.has_quorum = False
    async with await served.connect() as client, await served.connect() as other:
        method, target, body = asked
        await client.send(method, target, body=body, headers=FORM_HEADER)
        while not served.backend.waiting:
            await other.request("GET", "/v2/keys/k")
        [done] = served.backend.waiting
        served.backend.waiting.clear()

        def broken(*_arguments: object) -> Answer:
            raise RuntimeError("no answer")

        with monkeypatch.context() as patch:
            patch.setattr("kvraft.api_v2.keys.error_answer", broken)
            with pytest.raises(RuntimeError, match="no answer"):
                done(EtcdError(ErrorCode.RAFT_INTERNAL, b"etcdserver: request timed out"))
        with pytest.raises((ConnectionError, EOFError)):
            async with asyncio.timeout(5):
                await client.read_answer()
        assert (await other.request("GET", "/v2/keys/k")).status == 404


async def test_listing_of_many_keys_is_complete_and_of_one_moment(served: Served) -> None:
    """A long listing is sent in fragments; what is written meanwhile does not show in it."""
    for number in range(5_000):
        served.backend.apply(Set(b"/many/%05d" % number, b"x" * 100))
    async with await served.connect() as client:
        head = await client.stream("/v2/keys/many?recursive=true&sorted=true")
        assert head.etcd_index == served.backend.keyspace.etcd_index
        chunks = [await client.read_chunk()]
        served.backend.apply(Set(b"/many/00000x", b"later"))
        while chunk := await client.read_chunk():
            chunks.append(chunk)
        node = json.loads(b"".join(chunks))["node"]
        assert [child["key"] for child in node["nodes"]] == [f"/many/{number:05d}" for number in range(5_000)]
        assert len(chunks) > 2
        head = await client.request("HEAD", "/v2/keys/many?recursive=true")
        assert head.header("Content-Length") is None
        assert (await client.request("GET", "/v2/keys/many/00000x")).json()["node"]["value"] == "later"


async def test_listing_whose_reader_pauses_and_leaves_is_let_go(served: Served) -> None:
    """A listing larger than any buffer waits for its reader; one whose reader has gone is closed."""
    for number in range(3_000):
        served.backend.apply(Set(b"/big/%05d" % number, b"x" * 8_000))
    client = await served.connect()
    client.writer.transport.pause_reading()  # type: ignore[attr-defined] # streams name the base class
    await client.send("GET", "/v2/keys/big?recursive=true")
    async with await served.connect() as other:
        # Other requests are served while the listing waits.
        for _ in range(20):
            assert (await other.request("GET", "/v2/keys/big/00000")).status == 200
        assert [listing.open for listing in served.backend.keyspace._tree._listings] == [True]
        client.writer.transport.abort()
        async with asyncio.timeout(10):
            while served.backend.keyspace._tree._listings[0].open:
                await other.request("GET", "/v2/keys/big/00000")


async def test_half_closed_client_gets_all_of_a_listing(served: Served) -> None:
    """However much it is: stopping to send is not leaving."""
    for number in range(2_000):
        served.backend.apply(Set(b"/big/%05d" % number, b"x" * 5_000))
    async with await served.connect() as client:
        await client.send("GET", "/v2/keys/big?recursive=true")
        client.writer.write_eof()
        assert len((await client.read_answer()).json()["node"]["nodes"]) == 2_000
        assert await client.reader.read() == b""


async def test_slow_reader_of_a_listing_gets_all_of_it(served: Served) -> None:
    """After a pause the rest follows."""
    for number in range(2_000):
        served.backend.apply(Set(b"/big/%05d" % number, b"x" * 5_000))
    async with await served.connect() as client:
        transport = client.writer.transport
        transport.pause_reading()  # type: ignore[attr-defined] # streams name the base class
        await client.send("GET", "/v2/keys/big?recursive=true")
        async with await served.connect() as other:
            for _ in range(20):
                await other.request("GET", "/v2/keys/big/00000")
        transport.resume_reading()  # type: ignore[attr-defined] # streams name the base class
        assert len((await client.read_answer()).json()["node"]["nodes"]) == 2_000


@pytest.mark.parametrize("reset", [True, False])
@pytest.mark.parametrize(
    "request_bytes",
    [
        b"PUT /v2/keys/a?value=1 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"DELETE /v2/keys/a HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v2/keys/a?quorum=true HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v2/keys/a?wait=true&waitIndex=9999 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
async def test_client_that_goes_away_leaves_nothing_that_waits(
    served: Served, request_bytes: bytes, *, reset: bool
) -> None:
    """Its request would otherwise be kept for its whole time, and count against the limit of those that wait."""
    served.backend.has_quorum = False
    _, writer = await asyncio.open_connection("127.0.0.1", served.server.ports[0])
    writer.write(request_bytes)
    async with await served.connect() as other:
        assert (await other.request("GET", "/version")).status == 200
    assert len(served.backend.waiting) == 1
    if reset:
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.close()
    async with asyncio.timeout(10):
        await served.backend.nobody_waits.wait()
    assert served.server._app.keys._unopened == set()


async def test_answered_requests_leave_nothing_for_the_collector(served: Served) -> None:
    """What a write or quorum read was waited for with goes with its answer, large values above all."""
    async with await served.connect() as client:
        assert (
            await client.request("PUT", "/v2/keys/a", body=b"value=1", headers=(("Content-Type", FORM),))
        ).status == 201
        gc.collect()
        gc.disable()
        try:
            await client.request("PUT", "/v2/keys/a", body=b"value=2", headers=(("Content-Type", FORM),))
            await client.request("GET", "/v2/keys/a?quorum=true")
            found = [kind for kind in map(type, gc.get_objects()) if kind is Exchange]
            unreachable = gc.collect()
            left = [kind for kind in map(type, gc.get_objects()) if kind is Exchange]
        finally:
            gc.enable()
    assert len(found) == len(left), f"{unreachable} objects were waiting for the collector"


async def test_client_that_stops_sending_has_a_second_for_its_answer(served: Served) -> None:
    """`nc -N` is there still, and is told; one that has closed its connection looks the same."""
    served.backend.has_quorum = False
    reader, writer = await asyncio.open_connection("127.0.0.1", served.server.ports[0])
    writer.write(b"PUT /v2/keys/a?value=1 HTTP/1.1\r\nHost: x\r\n\r\n")
    writer.write_eof()
    async with asyncio.timeout(10):
        answer = await reader.read()
    assert b"HTTP/1.1 500 " in answer
    assert b"etcdserver: request timed out" in answer
    assert served.backend.waiting == []
    writer.close()
