"""Starting, stopping, and the loop it runs on, through both fronts."""

import asyncio
import contextlib
import dataclasses
import socket
import ssl
import struct
from pathlib import Path
from typing import Final

import pytest
import uvloop

from kvraft.api_v2.aiohttp_connection import Handler
from kvraft.api_v2.listening import bind
from kvraft.api_v2.server import serve
from kvraft.api_v2.settings import ApiSettings
from kvraft.keyspace.commands import Set
from kvraft.metrics import Metrics
from kvraft.security.credentials import Credentials
from kvraft.security.files import TlsFiles
from kvraft.security.tls_door import TlsDoor
from kvraft.testing.raw_http import FORM, Connection
from tests.api_v2.conftest import Served, start
from tests.api_v2.memory_backend import MemoryBackend

FORM_HEADER = (("Content-Type", FORM),)
TLS: Final = Path(__file__).parents[1] / "data" / "tls"
"""A self-signed certificate for 127.0.0.1, valid for a hundred years, and its key: worth nothing elsewhere."""


def has_ipv6() -> bool:
    """Whether this machine's loopback has IPv6."""
    addresses = Path("/proc/net/if_inet6")
    return addresses.exists() and "00000000000000000000000000000001 " in addresses.read_text(encoding="ascii")


async def begin_write(served: Served) -> Connection:
    """A connection whose write waits for a quorum."""
    served.backend.has_quorum = False
    client = await served.connect()
    await client.send("PUT", "/v2/keys/k", body=b"value=1", headers=FORM_HEADER)
    async with await served.connect() as other:
        while not served.backend.waiting:
            await other.request("GET", "/v2/keys/k")
    return client


async def test_stop_lets_a_write_under_way_finish_and_then_closes(settings: ApiSettings) -> None:
    """Its client gets the answer, then the end of the connection."""
    served = await start(settings)
    client = await begin_write(served)
    stopping = asyncio.create_task(served.server.stop())
    with pytest.raises(ConnectionError):
        await served.connect()
    assert not stopping.done()
    served.backend.time_out()
    assert (await client.read_answer()).status == 500
    assert await client.reader.read() == b""
    await stopping
    await client.close()


def test_answer_that_comes_while_its_client_goes_is_thrown_away(
    settings: ApiSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is raised to whoever answers, who may be the member itself; uvloop's transports raise once closed."""
    told: list[Handler] = []

    async def story() -> None:
        served = await start(settings)
        lose = Handler.connection_lost

        def connection_lost(handler: Handler, exc: BaseException | None) -> None:
            lose(handler, exc)
            told.append(handler)
            served.backend.time_out()

        monkeypatch.setattr(Handler, "connection_lost", connection_lost)
        served.backend.has_quorum = False
        for target in (b"/health", b"/v2/keys/k?quorum=true"):
            client = socket.create_connection(("127.0.0.1", served.server.ports[0]))
            client.sendall(b"GET " + target + b" HTTP/1.0\r\n\r\n")
            while not served.backend.waiting:  # noqa: ASYNC110 -- the loop is what is waited for
                await asyncio.sleep(0)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()  # with a reset: after a mere end of what it sends it would still wait for its answer
            while served.backend.waiting:  # noqa: ASYNC110 -- see above
                await asyncio.sleep(0)
        await served.server.stop()

    problems: list[dict[str, object]] = []
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.get_loop().set_exception_handler(lambda _loop, context: problems.append(context))
        runner.run(story())
    assert len(told) == 2
    assert not problems


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
async def test_every_address_means_both_families(host: str, settings: ApiSettings) -> None:
    """As with etcd. Without IPv6 on this machine its half cannot be asked for."""
    listener = bind(host, 0)
    port = listener.socket.getsockname()[1]
    server = await serve(MemoryBackend(), [listener], settings, Metrics())
    for address in ("127.0.0.1", "[::1]") if has_ipv6() else ("127.0.0.1",):
        async with await Connection.open(f"http://{address}:{port}") as client:
            assert (await client.request("GET", "/version")).status == 200
    await server.stop()


async def test_stop_cuts_off_what_does_not_finish_in_time(settings: ApiSettings) -> None:
    """A stop is bounded; an answer that comes after it goes nowhere."""
    served = await start(dataclasses.replace(settings, stop_s=0.1))
    client = await begin_write(served)
    async with asyncio.timeout(5):
        await served.server.stop()
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await client.read_answer()
    served.backend.time_out()
    await client.close()


async def test_connection_that_sends_half_a_request_does_not_hold_up_a_stop(settings: ApiSettings) -> None:
    """Nothing is owed to it."""
    served = await start(dataclasses.replace(settings, stop_s=20.0))
    async with await served.connect() as client:
        await client.send_raw(b"PUT /v2/keys/k HTTP/1.1\r\nHost: x\r\nContent-Le")
        async with await served.connect() as other:
            await other.request("GET", "/v2/keys/k")
        async with asyncio.timeout(5):
            await served.server.stop()
        assert await client.reader.read() == b""


async def test_several_listeners_serve_the_same_member(settings: ApiSettings) -> None:
    """Bare kvraft listens on 2379 and on 4001."""
    backend = MemoryBackend()
    server = await serve(backend, [bind("127.0.0.1", 0), bind("127.0.0.1", 0)], settings, Metrics())
    assert len(set(server.ports)) == 2
    for port in server.ports:
        async with await Connection.open(f"http://127.0.0.1:{port}") as client:
            assert (await client.request("GET", "/v2/keys/")).status == 200
    await server.stop()


async def test_connection_too_many_is_answered_and_closed(settings: ApiSettings) -> None:
    """500/300, and as soon as another client has gone, the next one is served."""
    served = await start(dataclasses.replace(settings, connections_max=2))
    first, second, third = [await served.connect() for _ in range(3)]
    assert (await first.request("GET", "/version")).status == 200
    assert (await second.request("GET", "/v2/keys/")).status == 200
    refusal = await third.read_answer()
    assert refusal.status == 500
    assert refusal.json()["cause"] == "etcdserver: too many requests"
    assert await third.reader.read() == b""
    await second.close()
    while True:
        async with await served.connect() as next_one:
            await next_one.send("GET", "/v2/keys/")
            if (await next_one.read_answer()).status == 200:
                break
    for client in (first, third):
        await client.close()
    await served.server.stop()


def test_taken_port_is_an_error_at_once() -> None:
    """Before anything else has happened."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="in use"):
            bind("127.0.0.1", taken.getsockname()[1])


async def _first_byte(port: int) -> None:
    """Connect and wait for what the server says."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.closing(writer):
        await reader.readexactly(1)


async def test_port_is_held_from_bind_on_and_clients_are_turned_away_until_it_is_served() -> None:
    """Both could be bound until one listened. A client of a member that starts goes on to the next member at once."""
    listener = bind("127.0.0.1", 0)
    port = listener.socket.getsockname()[1]
    with pytest.raises(OSError, match="in use"):
        bind("127.0.0.1", port)
    listener.turn_away()
    for _ in range(2):
        with pytest.raises(ConnectionResetError):
            await _first_byte(port)
    server = await serve(MemoryBackend(), [listener], ApiSettings(), Metrics())
    async with await Connection.open(f"http://127.0.0.1:{port}") as client:
        assert (await client.request("GET", "/version")).status == 200
    await server.stop()


def test_client_is_turned_away_while_a_start_blocks() -> None:
    """No event loop runs: a member that waits for the others by `--discovery` may wait for hours."""
    listener = bind("127.0.0.1", 0)
    address = listener.socket.getsockname()
    listener.turn_away()
    for _ in range(2):
        with pytest.raises(ConnectionResetError), socket.create_connection(address, timeout=20) as client:
            client.recv(1)
    listener.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=20)


async def test_idle_connection_is_closed_and_a_watching_one_is_not() -> None:
    """Idle means: no word from the client and no answer owed to it."""
    served = await start(ApiSettings(fast_front=True))
    async with await served.connect() as idle, await served.connect() as watching:
        assert (await idle.request("GET", "/v2/keys/")).status == 200
        await watching.stream("/v2/keys/k?wait=true")
        fast = served.server._fast
        assert fast is not None
        for _ in range(3):
            fast.close_idle(2)
        assert await idle.reader.read() == b""
        served.backend.apply(Set(b"/k", b"1"))
        assert b'"value":"1"' in await watching.read_chunk()
    await served.server.stop()


async def test_listener_with_tls_serves_the_same(settings: ApiSettings) -> None:
    """Through both fronts; refused bytes and watches included."""
    files = TlsFiles(cert_file=str(TLS / "localhost.crt"), key_file=str(TLS / "localhost.key"))
    trust = ssl.create_default_context(cafile=str(TLS / "localhost.crt"))
    backend = MemoryBackend()
    listener = bind("127.0.0.1", 0)
    listener.tls = TlsDoor(Credentials(files), "client")
    server = await serve(backend, [listener], settings, Metrics())

    async def connect() -> Connection:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.ports[0], ssl=trust)
        return Connection(reader, writer, "127.0.0.1")

    client, watcher, refused = [await connect() for _ in range(3)]
    assert (await client.request("PUT", "/v2/keys/k", body=b"value=1", headers=FORM_HEADER)).status == 201
    assert (await client.request("GET", "/v2/keys/k")).json()["node"]["value"] == "1"
    await watcher.stream("/v2/keys/k?wait=true")
    backend.apply(Set(b"/k", b"2"))
    assert b'"value":"2"' in await watcher.read_chunk()
    await refused.send_raw(b"garbage\r\n\r\n")
    assert (await refused.read_answer()).status == 400
    for connection in (client, watcher, refused):
        await connection.close()
    await server.stop()


@pytest.mark.parametrize("fast_front", [True, False])
def test_all_ways_work_on_uvloop(fast_front: bool) -> None:
    """Production runs on uvloop, whose transports behave differently in places: writes, hand-over, watches, stop."""

    async def scenario() -> None:
        served = await start(ApiSettings(fast_front=fast_front))
        async with await served.connect() as client, await served.connect() as watcher:
            await watcher.stream("/v2/keys/k?wait=true&stream=true")
            body = b"value=" + b"x" * 100_000
            answer = await client.request("PUT", "/v2/keys/k", body=body, headers=FORM_HEADER)
            assert answer.status == 201
            assert len(answer.json()["node"]["value"]) == 100_000
            assert len(await watcher.read_chunk()) > 100_000
            # The first request that is not plain moves the connection to aiohttp.
            assert (await client.request("GET", "/version")).status == 200
            assert (await client.request("GET", "/v2/keys/k")).status == 200
            gone = await served.connect()
            await gone.stream("/v2/keys/k?wait=true")
            gone.writer.transport.abort()
            while served.backend.watchers.count != 1:
                await client.request("GET", "/v2/keys/k")
            refused = await served.raw(b"garbage\r\n\r\n")
            assert refused.startswith(b"HTTP/1.1 400 ")
            stopping = asyncio.create_task(served.server.stop())
            assert await watcher.reader.read() == b""
            await stopping

    uvloop.run(scenario())
