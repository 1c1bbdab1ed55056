"""The door with a server of its own behind it: whatever is sent, it holds nothing and lets the next one in."""

import asyncio
import contextlib
import random
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from kvraft.security.certificates import Certificate
from kvraft.security.credentials import Credentials
from kvraft.security.engine import Engine
from kvraft.security.files import TlsFiles
from kvraft.security.tls_door import TlsDoor
from kvraft.testing.certificates import Authority, append_odd
from kvraft.transport.listening import listen
from tests.security.changing_keys import key_update

WAIT_S = 20.0


class Echo(asyncio.Protocol):
    """Says what it hears."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


@asynccontextmanager
async def echoing(directory: Path, **options: Any) -> AsyncIterator[tuple[TlsDoor, int, ssl.SSLContext]]:
    """A door, its port, and a client that is let in."""
    ca = Authority(directory)
    server, client = ca.issue("server"), ca.issue("client")
    door = TlsDoor(Credentials(TlsFiles("", server.cert_file, server.key_file, ca.ca_file)), "test", **options)
    served = await asyncio.get_running_loop().create_server(door.behind(Echo), "127.0.0.1", 0)
    context = ssl.create_default_context(cafile=ca.ca_file)
    context.load_cert_chain(client.cert_file, client.key_file)
    try:
        yield door, served.sockets[0].getsockname()[1], context
    finally:
        served.close()
        door.close()


async def echo(port: int, context: ssl.SSLContext, data: bytes) -> bytes:
    """What comes back."""
    async with asyncio.timeout(WAIT_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        try:
            writer.write(data)
            return await reader.readexactly(len(data))
        finally:
            writer.close()


def hello(context: ssl.SSLContext) -> bytes:
    """The first bytes of a client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()


async def test_any_bytes_end_in_peace(tmp_path: Path) -> None:
    """Hellos with bits flipped, cut, repeated or followed by noise, in pieces: no exception, and nobody is kept."""
    rng = random.Random(5)
    unhandled: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: unhandled.append(context))
    async with echoing(tmp_path) as (door, port, context):

        async def attack() -> None:
            data = bytearray(hello(context))
            for _ in range(rng.randrange(4)):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            data = data[: rng.randrange(1, len(data) + 1)] + rng.randbytes(rng.choice((0, 0, 5, 3000)))
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.suppress(ConnectionError):
                while data:
                    size = rng.choice((1, 100, 10_000))
                    writer.write(data[:size])
                    await writer.drain()
                    data = data[size:]
                    await asyncio.sleep(0)
                writer.write_eof()
                await reader.read()
            writer.close()

        async with asyncio.timeout(WAIT_S):
            for _ in range(15):
                await asyncio.gather(*(attack() for _ in range(20)))
        assert await echo(port, context, b"good") == b"good"
        assert unhandled == []
        assert door.unfinished == 0


async def test_certificate_that_cannot_be_read_ends_its_own_connection_alone(tmp_path: Path) -> None:
    """One that a client of ours sends along, which nobody has signed: no exception reaches the loop."""
    unhandled: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: unhandled.append(context))
    async with echoing(tmp_path) as (door, port, context):
        append_odd(str(tmp_path / "client.pem"))
        odd = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        odd.load_cert_chain(tmp_path / "client.pem", tmp_path / "client.key")
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await echo(port, odd, b"odd")
        assert await echo(port, context, b"good") == b"good"
        assert unhandled == []
        assert door.unfinished == 0


async def test_what_comes_behind_the_handshake_is_not_lost(tmp_path: Path) -> None:
    """A client sends at once, more than the door holds, and more than the buffers between."""
    data = random.Random(6).randbytes(3_000_000)
    async with echoing(tmp_path) as (_, port, context):
        assert await echo(port, context, data) == data


async def test_many_at_once_are_all_let_in(tmp_path: Path) -> None:
    """They take turns; fewer are unfinished than there is room for."""
    async with echoing(tmp_path) as (door, port, context):
        answers = await asyncio.gather(*(echo(port, context, b"%d" % number) for number in range(200)))
        assert answers == [b"%d" % number for number in range(200)]
        assert door.unfinished == 0


async def test_the_oldest_goes_in_a_crowd_and_everybody_in_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One line for both, and a good client comes in meanwhile."""
    async with echoing(tmp_path, unfinished_max=3, timeout_ms=3000) as (door, port, context):
        stalled = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        assert await echo(port, context, b"good") == b"good"
        async with asyncio.timeout(WAIT_S):
            for reader, writer in stalled:
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
                writer.close()
        assert door.unfinished == 0
        assert caplog.text.count("too many unfinished TLS handshakes") == 1
        assert caplog.text.count("rejected connection") == 1


async def test_flood_of_changes_of_keys_is_told_in_a_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of whoever was let in; it ends, and others go on."""
    async with echoing(tmp_path) as (door, port, context), asyncio.timeout(WAIT_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        client = Engine(context, "localhost")
        while not client.shake_hands():
            writer.write(client.outgoing.read())
            client.incoming.write(await reader.read(1 << 16))
        writer.write(client.outgoing.read() + b"".join(key_update(client) for _ in range(3000)))
        with contextlib.suppress(ConnectionError):
            while await reader.read(1 << 16):
                pass
        writer.close()
        assert await echo(port, context, b"good") == b"good"
        assert door.unfinished == 0
        assert caplog.text.count("rejected connection") == 1
        (record,) = caplog.records
        said = vars(record)["kvraft_fields"]
        assert said["error"] == "64 KiB of TLS records without data in them"
        assert said["address"].startswith("127.0.0.1:")


async def test_client_by_ipv4_comes_from_an_ipv4_address_wherever_it_is_served(tmp_path: Path) -> None:
    """A listener for every address is one of IPv6, which shows it as `::ffff:127.0.0.1`."""
    asked: list[str] = []

    async def check_origin(certificate: Certificate, address: str) -> str:
        asked.append(address)
        return "" if certificate.covers(address) else "foreign"

    async with echoing(tmp_path, check_origin=check_origin) as (door, _, context):
        listening = listen("0.0.0.0:0")
        served = await asyncio.get_running_loop().create_server(door.behind(Echo), sock=listening)
        assert await echo(listening.getsockname()[1], context, b"good") == b"good"
        assert asked == ["127.0.0.1"]
        served.close()
