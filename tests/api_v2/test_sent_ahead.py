"""What one client sends ahead of its answers is read a little at a time, forgotten when it is served, and answered."""

import asyncio

import pytest

from kvraft.api_v2.fast_protocol import FastProtocol
from kvraft.api_v2.settings import ApiSettings
from tests.api_v2.conftest import Served

MIB = 1 << 20
FORM_LINE = b"Content-Type: application/x-www-form-urlencoded\r\n"
GET = b"GET /v2/keys/k HTTP/1.1\r\nHost: x\r\n\r\n"


def put(size: int) -> bytes:
    """A write of a value of so many bytes."""
    body = b"value=".ljust(6 + size, b"v")
    return b"PUT /v2/keys/k HTTP/1.1\r\nHost: x\r\n%bContent-Length: %d\r\n\r\n%b" % (FORM_LINE, len(body), body)


@pytest.fixture
def settings() -> ApiSettings:
    """The fast front's own."""
    return ApiSettings(stop_s=5.0)


def only_connection(served: Served) -> FastProtocol:
    """The one that is open."""
    assert served.server._fast is not None
    [connection] = served.server._fast.connections
    return connection


async def test_little_is_read_ahead_however_much_is_sent(served: Served) -> None:
    """Each answer of a hundred bytes let a quarter of a megabyte more in."""
    _, writer = await asyncio.open_connection("127.0.0.1", served.server.ports[0])
    writer.write(put(10) * 80_000)
    most = 0
    while served.backend.keyspace.etcd_index < 500:
        await asyncio.sleep(0)
        if served.server._fast is not None and served.server._fast.connections:
            most = max(most, len(only_connection(served)._buffer))
    writer.transport.abort()
    assert most < MIB


async def test_what_is_served_counts_no_more(served: Served) -> None:
    """A connection that was charged for it for good was given up when others sent much."""
    async with await served.connect() as client:
        await client.send_raw(put(10) + GET * 5000)
        for _ in range(5001):
            assert (await client.read_answer()).status in {200, 201}
        assert len(served.server._unfinished) == 0
        assert served.server._unfinished.bytes == 0


async def test_who_only_stopped_sending_gets_every_answer(served: Served) -> None:
    """As `nc -N` does it, also when he reads so slowly that writing stops again and again."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.server.ports[0])
    async with asyncio.timeout(30):
        writer.write(put(20_000))
        await reader.readuntil(b"\r\n\r\n")
        writer.write(GET * 1500)
        writer.write_eof()
        connection = only_connection(served)
        while not (connection._writing_paused and connection._eof):  # noqa: ASYNC110 -- the server's own state
            await asyncio.sleep(0)
        answers = await reader.read()
    writer.close()
    assert answers.count(b"HTTP/1.1 200 OK\r\n") == 1500
