"""A served proxy, and what can stand behind it."""

import asyncio
import contextlib
import dataclasses
import pathlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final, final

import pytest

from kvraft.api_v2.listening import bind
from kvraft.proxy.cluster_file import ClusterFile
from kvraft.proxy.refresh import Told, UntoldError
from kvraft.proxy.server import ProxyServer, serve
from kvraft.proxy.settings import ProxySettings

WITHIN_S: Final = 20.0
"""Nothing here takes long; a hang is to be told from a slow machine."""
TURNS_MAX: Final = 1_000_000
PEERS: Final = ("http://127.0.0.1:9",)
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class NoTls:
    """No endpoint here is https."""

    async def dial(self, connected: object, host: str, protocol: asyncio.Protocol) -> asyncio.Transport:
        """See `UpstreamTls.dial`."""
        raise AssertionError(f"{host} {connected} {protocol}")


@final
class ScriptedMember:
    """A port at which every connection does what a test says; a context manager."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.connections = 0
        self.ended = 0
        """Connections whose other side has ended."""
        self.changed = asyncio.Event()
        self._server: asyncio.Server
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "ScriptedMember":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds that changes with connections."""
        async with asyncio.timeout(WITHIN_S):
            while not holds():
                self.changed.clear()
                await self.changed.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "streams make one for each connection"
        self._tasks.add(task)
        self.connections += 1
        self.changed.set()
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._script(reader, writer)
        finally:
            self.ended += 1
            self.changed.set()
            await closed(writer)


async def closed(writer: asyncio.StreamWriter) -> None:
    """End a connection, and wait until it has."""
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def until(holds: Callable[[], bool]) -> None:
    """Let the loop go on until something holds that nobody tells of."""
    for _ in range(TURNS_MAX):
        if holds():
            return
        await asyncio.sleep(0)
    raise AssertionError("it does not come about")


def says(*answers: bytes) -> Script:
    """Answers the first requests of a connection with these bytes, one after the other, then ends it."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await read_request(reader)
            writer.write(answer)

    return script


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """A request with its body, if that has a length."""
    head = await reader.readuntil(b"\r\n\r\n")
    _, found, rest = head.lower().partition(b"\r\ncontent-length:")
    return head + (await reader.readexactly(int(rest.partition(b"\r\n")[0])) if found else b"")


@final
@dataclasses.dataclass(slots=True)
class Word:
    """What members say, as a test has it."""

    client_urls: Sequence[str] = ()
    is_silent: bool = False
    defect: Exception | None = None
    asked: int = 0
    changed: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    """Set by each question."""

    async def ask(self, peer_urls: Sequence[str]) -> Told:
        """See `refresh.Ask`."""
        self.asked += 1
        self.changed.set()
        if self.asked > 1 and self.defect is not None:
            raise self.defect
        if self.is_silent:
            raise UntoldError("nobody")
        return Told(tuple(peer_urls), tuple(self.client_urls))


@final
@dataclasses.dataclass(slots=True)
class Proxied:
    """A served proxy."""

    server: ProxyServer
    told: Word
    file: ClusterFile

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server.ports[0]}"

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A client's connection."""
        return await asyncio.open_connection("127.0.0.1", self.server.ports[0])

    async def raw(self, data: bytes, *, half_close: bool = False) -> bytes:
        """Everything the proxy says to these bytes until it closes."""
        reader, writer = await self.open()
        try:
            async with asyncio.timeout(WITHIN_S):
                writer.write(data)
                if half_close:
                    writer.write_eof()
                return await reader.read()
        finally:
            await closed(writer)

    async def get(self, target: str = "/v2/keys/a", method: str = "GET", lines: str = "") -> bytes:
        """The answer to one request on a connection of its own."""
        return await self.raw(f"{method} {target} HTTP/1.1\r\nHost: x\r\n{lines}Connection: close\r\n\r\n".encode())


Start = Callable[..., Awaitable[Proxied]]


@pytest.fixture
async def proxied(tmp_path: pathlib.Path) -> AsyncIterator[Start]:
    """What starts a proxy for a test before endpoints, with fields of `ProxySettings`."""
    running: list[ProxyServer] = []

    async def start(*urls: str, told: Word | None = None, **settings: object) -> Proxied:
        told = told or Word(urls)
        file = ClusterFile(tmp_path)
        chosen = dataclasses.replace(ProxySettings(stop_s=0.5), **settings)  # type: ignore[arg-type]  # its fields
        server = await serve([bind("127.0.0.1", 0)], chosen, PEERS, told.ask, NoTls(), file)
        running.append(server)
        return Proxied(server, told, file)

    yield start
    for server in running:
        await server.stop()
