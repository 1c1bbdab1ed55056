"""Requests that are never sent to their end: bounded for all clients together, and told so; others are not harmed."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Final, final

import pytest

from kvraft.api_v2.settings import ApiSettings
from kvraft.api_v2.unfinished import Unfinished
from kvraft.testing.raw_http import Connection
from tests.api_v2.conftest import Served, start

MIB: Final = 1 << 20
LIMIT: Final = 2 * MIB
FORM: Final = b"Host: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
PART: Final = b"x" * 200_000
WITHIN_S: Final = 20.0

STUCK: Final = {
    "a short body": b"PUT /v2/keys/a HTTP/1.1\r\n" + FORM + b"Content-Length: 250000\r\n\r\nvalue=" + PART,
    "a long body": b"PUT /v2/keys/a HTTP/1.1\r\n" + FORM + b"Content-Length: 9000000\r\n\r\nvalue=" + PART,
    "a chunk": b"PUT /v2/keys/a HTTP/1.1\r\n" + FORM + b"Transfer-Encoding: chunked\r\n\r\n100000\r\nvalue=" + PART,
    "a body after an answer": b"GET /v2/keys/none HTTP/1.1\r\n"
    + FORM
    + b"\r\nPUT /v2/keys/a HTTP/1.1\r\n"
    + FORM
    + b"Content-Length: 9000000\r\n\r\nvalue="
    + PART,
    "a head": b"GET /v2/keys/a HTTP/1.1\r\nHost: x\r\nX-Long: " + PART,
    "a request line": b"GET /v2/keys/" + PART,
}
"""Requests whose end does not come."""
OWED: Final = {
    "ahead of an answer": b"GET /v2/keys/a?wait=true HTTP/1.1\r\n" + FORM + b"\r\n" + b"PUT /v2/keys/" + PART,
    "the body of a watch": b"GET /v2/keys/a?wait=true HTTP/1.1\r\n" + FORM + b"Content-Length: 9000000\r\n\r\n" + PART,
}
"""What is sent while an answer is owed."""


@final
class Client:
    """A connection."""

    def __init__(self) -> None:
        self.is_read = True
        self.is_given_up = False

    def hold_back(self) -> None:
        """See `unfinished.Sender`."""
        assert self.is_read
        self.is_read = False

    def go_on(self) -> None:
        """See `unfinished.Sender`."""
        assert not self.is_read
        self.is_read = True

    def give_up(self) -> None:
        """See `unfinished.Sender`."""
        assert not self.is_given_up
        self.is_given_up = True


async def test_the_oldest_that_do_not_go_on_are_given_up(caplog: pytest.LogCaptureFixture) -> None:
    """Down to a quarter of the limit, told in one line; who is behind hundreds of them comes next."""
    unfinished = Unfinished(10 * MIB)
    clients = [Client() for _ in range(20)]
    for client in clients:
        unfinished.hold(client, MIB // 2)
    small = Client()
    unfinished.hold(small, 1000)
    for _ in range(10):
        unfinished._look()
    assert not any(client.is_given_up for client in clients)
    unfinished.hold(clients[3], MIB)
    unfinished._look()
    # The fourth has just gone on.
    assert [client.is_given_up for client in clients] == [True] * 3 + [False] + [True] * 13 + [False] * 3
    assert unfinished.bytes == 5 * MIB // 2
    assert not small.is_given_up
    with caplog.at_level(logging.WARNING):
        unfinished.close()
    assert caplog.text.count("unfinished requests given up") == 1


async def test_the_newest_is_done_behind_hundreds_that_never_end() -> None:
    """It is read again with the first room that there is, and not after all of those before it."""
    unfinished = Unfinished(16 * MIB)
    stuck, sent = [Client() for _ in range(400)], dict[Client, int]()

    def send(client: Client) -> None:
        while client.is_read and not client.is_given_up and sent[client] < MIB:
            sent[client] += MIB // 4
            unfinished.hold(client, sent[client])

    newest = Client()
    for client in (*stuck, newest):
        sent[client] = 0
        send(client)
    looks = 0
    while sent[newest] < MIB:
        unfinished._look()
        for client in (*stuck, newest):
            send(client)
        looks += 1
        assert looks <= 6
    assert sum(client.is_given_up for client in stuck) < 40
    assert unfinished.bytes <= 16 * MIB + 400 * MIB // 4
    unfinished.close()


async def test_who_sends_as_fast_as_it_is_read_is_never_given_up() -> None:
    """Twice as much as the limit at the same time: some wait, all are done."""
    unfinished = Unfinished(10 * MIB)
    clients = [Client() for _ in range(100)]
    sent = dict.fromkeys(clients, 0)
    looks = 0
    while sent:
        for client in list(sent):
            if client.is_read:
                sent[client] += MIB // 20
                unfinished.hold(client, sent[client])
            if sent[client] >= MIB // 5:
                del sent[client]
                unfinished.release(client)
        assert unfinished.bytes <= 17 * MIB  # the limit, and two pieces of each that is read before the next look
        looks += 1
        unfinished._look()
        assert looks < 100
    assert not any(client.is_given_up for client in clients)
    assert (unfinished.bytes, len(unfinished)) == (0, 0)
    unfinished.close()


async def test_who_sends_a_little_now_and_then_is_given_up() -> None:
    """Trickling is no way to hold memory for ever."""
    unfinished = Unfinished(10 * MIB)
    clients = [Client() for _ in range(12)]
    for number in range(6):
        for client in clients:
            if not client.is_given_up:
                unfinished.hold(client, MIB + 100 * number)
        unfinished._look()
    assert sum(client.is_given_up for client in clients) >= 4
    unfinished.close()


@pytest.fixture
async def served_little(settings: ApiSettings) -> AsyncIterator[Served]:
    """A server with a small limit."""
    served = await start(ApiSettings(fast_front=settings.fast_front, stop_s=5.0, unfinished_bytes_max=LIMIT))
    yield served
    await served.server.stop()


@contextlib.asynccontextmanager
async def sent(served: Served, data: bytes, count: int) -> AsyncIterator[list[asyncio.StreamReader]]:
    """So many clients have sent this and send nothing more."""
    readers, writers = [], []
    for _ in range(count):
        reader, writer = await asyncio.open_connection("127.0.0.1", served.server.ports[0])
        writer.write(data)
        readers.append(reader)
        writers.append(writer)
    try:
        yield readers
    finally:
        for writer in writers:
            writer.close()


@pytest.mark.parametrize("data", [pytest.param(data, id=name) for name, data in STUCK.items()])
async def test_clients_that_never_finish_are_told(served_little: Served, data: bytes) -> None:
    """408 and the end for the oldest, which see it whole; the limit holds; nothing is left when all are gone."""
    unfinished = served_little.server._unfinished
    async with sent(served_little, data, 12) as readers:
        async with asyncio.timeout(WITHIN_S):
            answer = await readers[0].read()
        assert b"HTTP/1.1 408 Request Timeout\r\n" in answer
        assert b"Connection: close\r\n" in answer
        assert answer.endswith(b"send all of it again")
        assert 0 < unfinished.bytes <= LIMIT
        async with await Connection.open(served_little.url) as other:
            assert (await other.request("PUT", "/v2/keys/large", form={"value": b"y" * MIB})).status == 201
    await served_little.server.stop()
    assert (unfinished.bytes, len(unfinished)) == (0, 0)


@pytest.mark.parametrize("data", [pytest.param(data, id=name) for name, data in OWED.items()])
async def test_clients_that_send_ahead_are_cut_off(served_little: Served, data: bytes) -> None:
    """They wait for an answer that does not come, and have sent more than a server can keep."""
    async with sent(served_little, data, 40) as readers:
        async with asyncio.timeout(WITHIN_S):
            for reader in readers[:10]:
                with contextlib.suppress(ConnectionResetError):
                    assert b"408" not in await reader.read()


async def test_many_large_values_at_once_are_all_written(served_little: Served) -> None:
    """Ten times the limit, by clients that send as fast as they are read."""

    async def put(number: int) -> int:
        async with await Connection.open(served_little.url) as client:
            return (await client.request("PUT", f"/v2/keys/{number}", form={"value": b"y" * MIB})).status

    async with asyncio.timeout(60):
        assert await asyncio.gather(*(put(number) for number in range(20))) == [201] * 20
    assert served_little.server._unfinished.bytes == 0
