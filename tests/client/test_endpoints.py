"""Several endpoints, some of them dead, slow or no etcd at all."""

import asyncio
import base64
import contextlib
import ssl
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from kvraft.client import BadAnswer, BrokenOff, Client, EtcdError, UnknownOutcome, Unreachable, connection
from kvraft.testing import ports
from tests.api_v2.conftest import Served
from tests.client.conftest import OK, Behaviour, hangs_up, misbehaving, waits


@pytest.fixture
def nobody() -> Iterator[str]:
    """An endpoint at which nobody listens."""
    reservation = ports.reserve(1)
    yield f"http://127.0.0.1:{reservation.ports[0]}"
    reservation.release()


async def test_dead_endpoint_is_passed_over_and_the_living_remembered(served: Served, nobody: str) -> None:
    """Reads and writes alike: where no connection comes about nothing can have been done."""
    async with Client([nobody, served.url]) as client:
        assert client.endpoints[0] == nobody
        await client.set("/a", "1")
        assert client.endpoints == (served.url, nobody)
        assert (await client.get("/a")).node.value == "1"


async def test_nobody_is_told_with_each_reason(nobody: str) -> None:
    """One line that names every endpoint."""
    async with Client([nobody, "http://nobody.invalid:1"]) as client:
        with pytest.raises(Unreachable) as error:
            await client.set("/a", "1")
    assert error.value.endpoints == (nobody, "http://nobody.invalid:1")
    assert error.value.reasons == ("connection refused", "cannot find the host nobody.invalid")
    assert str(error.value) == f"{nobody}: connection refused; http://nobody.invalid:1: {error.value.reasons[1]}"


Write = Callable[[Client], Coroutine[Any, Any, object]]
WRITES: list[Write] = [
    lambda client: client.set("/a", "1"),
    lambda client: client.delete("/a"),
    lambda client: client.create_in_order("/a", "1"),
]


@pytest.mark.parametrize("behaviour", [hangs_up, waits])
@pytest.mark.parametrize("write", WRITES, ids=["PUT", "DELETE", "POST"])
async def test_write_that_left_is_never_sent_again(served: Served, behaviour: Behaviour, write: Write) -> None:
    """Neither here nor at the next endpoint: it may have been done."""
    async with misbehaving(behaviour) as (url, asked), Client([url, served.url], timeout_s=0.3) as client:
        with pytest.raises(UnknownOutcome) as error:
            await write(client)
    assert error.value.endpoint == url
    assert len(asked) == 1


async def test_write_on_a_kept_connection_is_sent_once() -> None:
    """A server that answers once and then hangs up on the same connection gets the second write one time."""

    async def once(_head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = b'{"action":"get","node":{"key":"/a","value":"1"}}'
        writer.write(OK + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        asked.append((await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")[0])

    async with misbehaving(once) as (url, asked), Client([url]) as client:
        await client.get("/a")
        with pytest.raises(UnknownOutcome, match="not known whether"):
            await client.set("/a", "1")
    assert asked == [b"GET /v2/keys/a HTTP/1.1", b"PUT /v2/keys/a HTTP/1.1"]


async def test_read_goes_on_to_the_next_endpoint(served: Served) -> None:
    """After one more try where the connection had ended, and at once where it was slow."""
    async with misbehaving(hangs_up) as (url, asked), Client([url, served.url]) as client:
        assert (await client.get("/")).node.is_directory
        assert len(asked) == 2
    async with misbehaving(waits) as (url, asked), Client([url, served.url], timeout_s=0.3) as client:
        assert (await client.get("/")).node.is_directory
        assert len(asked) == 1


async def test_read_that_nobody_answers_says_so() -> None:
    """With the time that it waited."""
    async with misbehaving(waits) as (url, _), Client([url], timeout_s=0.3) as client:
        with pytest.raises(Unreachable, match=r"no answer within 0\.3 s"):
            await client.get("/")


async def test_refusal_is_an_answer(served: Served, nobody: str) -> None:
    """What the server refuses is not asked of the next one."""
    async with Client([served.url, nobody]) as client:
        with pytest.raises(EtcdError):
            await client.get("/nothing")


async def answers_html(_head: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    page = b"<html>\n  <body>Welcome to nginx!" + b"!" * 500
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(page) + page)


async def test_something_else_than_etcd_is_shown() -> None:
    """The beginning of what it said, on one line."""
    async with misbehaving(answers_html) as (url, _), Client([url]) as client:
        with pytest.raises(BadAnswer, match="else than JSON: <html> <body>Welcome to nginx!") as error:
            await client.get("/")
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 300


@pytest.mark.parametrize("body", [b"[]", b'{"node":7,"action":"get"}', b'{"action":"get"}', b"7"])
async def test_json_that_is_no_event_is_shown(body: bytes) -> None:
    """It is said who answered so."""

    async def answers(_head: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK + b"Content-Length: %d\r\n\r\n" % len(body) + body)

    async with misbehaving(answers) as (url, _), Client([url]) as client:
        with pytest.raises(BadAnswer, match="else than an event"):
            await client.get("/")


async def test_tree_too_deep_for_python_is_refused_clearly(served: Served) -> None:
    """5,000 directories in one another."""
    async with Client([served.url]) as client:
        await client.set("/a" * 5000, "v")
        with pytest.raises(BadAnswer, match="too deep"):
            await client.get("/", recursive=True)


async def test_no_http_is_told() -> None:
    """As when the port is another program's."""

    async def greets(_head: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.org ESMTP\r\n\r\n")

    async with misbehaving(greets) as (url, _), Client([url]) as client:
        with pytest.raises(Unreachable, match="does not speak HTTP"):
            await client.get("/")


async def test_plain_server_at_an_https_endpoint_is_told(served: Served) -> None:
    """The handshake fails, so nothing was sent."""
    async with Client([served.url.replace("http:", "https:")], tls=ssl.create_default_context()) as client:
        with pytest.raises(Unreachable, match="TLS"):
            await client.set("/a", "1")


async def test_user_and_body_are_sent_as_etcd_reads_them() -> None:
    """Basic, of UTF-8; a form with Go's true."""
    heads: list[bytes] = []

    async def notes(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = next(line for line in head.split(b"\r\n") if line.startswith(b"Content-Length"))
        heads.append(head + await reader.readexactly(int(length.split()[1])))
        writer.write(OK + b"Content-Length: 2\r\n\r\n{}")

    async with misbehaving(notes) as (url, _), Client([url + "/"], user=("rööt", "a:b")) as client:
        await client.request("PUT", "/v2/keys/x", query={"prevExist": True}, form={"value": b"\xfe", "dir": False})
    (head,) = heads
    assert head.startswith(b"PUT /v2/keys/x?prevExist=true HTTP/1.1\r\n")
    assert b"Authorization: Basic " + base64.b64encode("rööt:a:b".encode()) in head
    assert head.endswith(b"\r\n\r\nvalue=%FE&dir=false")


async def test_stream_brings_a_body_as_it_comes(served: Served) -> None:
    """With status and headers first."""
    async with Client([served.url]) as client:
        await client.set("/a", "x" * 300_000)
        async with client.stream("GET", "/v2/keys/a") as stream:
            assert (stream.status, stream.etcd_index > 0) == (200, True)
            pieces = [chunk async for chunk in stream.chunks()]
        assert len(pieces) > 1
        assert sum(map(len, pieces)) > 300_000
        assert (await client.get("/a")).node.value == "x" * 300_000


async def test_stream_that_ends_early_is_told() -> None:
    """A body is never short without a word."""

    async def stops(_head: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")

    async with misbehaving(stops) as (url, _), Client([url]) as client, client.stream("GET", "/backup") as stream:
        with pytest.raises(BrokenOff, match="in the middle"):
            await stream.read()


async def test_answer_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server may send for ever: what is held of it has a limit, asked at once or read as a stream."""
    monkeypatch.setattr(connection, "ANSWER_BYTES_MAX", 1 << 20)

    async def never_ends(_head: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
                await writer.drain()

    async with misbehaving(never_ends) as (url, _), Client([url]) as client:
        with pytest.raises(BadAnswer, match="more than 1048576 bytes"):
            await client.request("GET", "/v2/stats/self")
        async with client.stream("GET", "/backup") as stream:
            with pytest.raises(BadAnswer, match="more than 1048576 bytes"):
                await stream.read()


async def test_stream_whose_head_does_not_come_is_given_up() -> None:
    """The head has a limit of time, the body none."""
    async with misbehaving(waits) as (url, _), Client([url], timeout_s=0.2) as client:
        with pytest.raises(Unreachable, match="no answer"):
            async with client.stream("GET", "/backup"):
                pass


@pytest.mark.parametrize(
    "endpoint", ["", "127.0.0.1:2379", "ftp://h:1", "http://", "http://h:x", "http://h:1/v2", "http://u:p@h:1"]
)
def test_endpoint_that_is_none_is_refused(endpoint: str) -> None:
    """In a line that says what one looks like."""
    with pytest.raises(ValueError, match="is no endpoint: http://HOST:PORT"):
        Client([endpoint])
    with pytest.raises(ValueError, match="at least one"):
        Client([])


async def test_many_requests_share_connections(served: Served) -> None:
    """A thousand at once, none lost."""
    async with Client([served.url]) as client:
        await asyncio.gather(*(client.set(f"/many/{n}", str(n)) for n in range(1000)))
        assert len((await client.get("/many")).node.nodes) == 1000
