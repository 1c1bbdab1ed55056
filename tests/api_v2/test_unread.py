"""What slow clients leave unread: counted once however many wait for it, and bounded for all of them together."""

import asyncio
import logging
import socket
from typing import Final, final

import pytest

from kvraft import clock, heap
from kvraft.api_v2.settings import ApiSettings
from kvraft.api_v2.unread import Unread
from kvraft.keyspace.commands import Set
from tests.api_v2.conftest import Served, start

MIB: Final = 1 << 20
VALUE_BYTES: Final = 6 * MIB
"""More than the sockets of both sides take."""


@final
class Client:
    """A connection that nobody reads from."""

    def __init__(self) -> None:
        self.is_cut_off = False

    def cut_off(self) -> None:
        """See `unread.Reader`."""
        assert not self.is_cut_off
        self.is_cut_off = True


@pytest.fixture
def now_ms(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The time; change the one number to let it pass."""
    now = [1_000_000]
    monkeypatch.setattr(clock, "monotonic_ms", lambda: now[0])
    return now


async def test_what_several_clients_wait_for_counts_once() -> None:
    """The same bytes object, held as long as anybody waits for it."""
    pending = Unread(10 * MIB)
    event, own = b"x" * MIB, b"y" * 1000
    clients = [Client() for _ in range(100)]
    for client in clients:
        pending.hold(client, [event])
    pending.hold(clients[0], [own, event])
    assert pending.bytes == MIB + 1000
    for client in clients[:99]:
        pending.release(client)
    assert pending.bytes == MIB
    pending.release(clients[99])
    pending.release(clients[99])
    assert pending.bytes == 0
    assert not any(client.is_cut_off for client in clients)
    pending.close()


async def test_those_that_leave_the_most_for_the_longest_are_cut_off_first(
    now_ms: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    """Beyond four times the limit, at once and down to three quarters of that; and one line tells of all."""
    pending = Unread(4 * MIB)
    old_small, old_large, young = Client(), Client(), [Client() for _ in range(15)]
    sharing = [Client() for _ in range(50)]
    event = b"e" * MIB
    for client in sharing:
        pending.hold(client, [event])
    pending.hold(old_small, [b"s" * 1000])
    pending.hold(old_large, [b"l" * MIB])
    now_ms[0] += 600
    for number, client in enumerate(young):
        pending.hold(client, [bytes([number]) * MIB])
        now_ms[0] += 10
    assert old_large.is_cut_off
    assert not old_small.is_cut_off
    assert not any(client.is_cut_off for client in sharing)
    cut = [client.is_cut_off for client in young]
    assert cut == [True] * 4 + [False] * 11
    assert pending.bytes == 12 * MIB + 1000
    with caplog.at_level(logging.WARNING):
        pending.close()
    assert caplog.text.count("slow clients cut off") == 1


async def test_a_client_has_a_second_for_a_large_answer(now_ms: list[int]) -> None:
    """Fast clients that happen to ask for much at once lose nothing."""
    pending = Unread(4 * MIB)
    clients = [Client() for _ in range(8)]
    for client in clients:
        pending.hold(client, [bytes(MIB)])
    pending._cut_slow()
    assert not any(client.is_cut_off for client in clients)
    now_ms[0] += 1000
    pending._cut_slow()
    assert sum(client.is_cut_off for client in clients) == 5
    assert pending.bytes == 3 * MIB
    pending.close()


async def test_memory_is_given_back_once_much_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a thread, and not for little."""
    given_back = asyncio.Event()
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(heap, "give_back", lambda: loop.call_soon_threadsafe(given_back.set))
    pending = Unread(100 * MIB)
    client = Client()
    pending.hold(client, [bytes(7 * MIB)])
    pending.release(client)
    assert pending._freed.planned is None
    pending.hold(client, [bytes(20 * MIB)])
    pending.release(client)
    async with asyncio.timeout(10):
        await given_back.wait()
    pending.close()


async def slow_client(served: Served, key: bytes) -> socket.socket:
    """A client that has asked for a key and takes the first byte only."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, ("127.0.0.1", served.server.ports[0]))
    await loop.sock_sendall(client, b"GET /v2/keys%b HTTP/1.1\r\nHost: x\r\n\r\n" % key)
    async with asyncio.timeout(10):
        assert await loop.sock_recv(client, 1)
    return client


async def test_clients_of_large_values_are_cut_off_and_let_go(settings: ApiSettings) -> None:
    """Values that nobody takes, each larger than the sockets of both sides: no more than the limit is left of them."""
    served = await start(ApiSettings(fast_front=settings.fast_front, unread_bytes_max=3 * MIB))
    for number in range(5):
        served.backend.apply(Set(b"/%d" % number, b"x" * VALUE_BYTES))
    clients = [await slow_client(served, b"/%d" % number) for number in range(5)]
    assert len(served.server._unread._held) <= 2
    assert served.server._unread.bytes <= 13 * MIB
    async with await served.connect() as other:
        assert (await other.request("GET", "/v2/keys/none")).status == 404
    for client in clients:
        client.close()
    await served.server.stop()


async def test_readers_of_one_large_value_share_it(served: Served) -> None:
    """Those that do not read cost what one costs, also those of a listing."""
    served.backend.apply(Set(b"/large/value", b"x" * VALUE_BYTES))
    clients = [await slow_client(served, target) for target in (b"/large/value", b"/large?recursive=true") * 5]
    assert len(served.server._unread._held) == 10
    assert VALUE_BYTES < served.server._unread.bytes < VALUE_BYTES + MIB
    for client in clients:
        client.close()
