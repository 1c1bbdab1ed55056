"""A client of a served memory backend, and servers that misbehave."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import pytest_asyncio

from kvraft.api_v2.settings import ApiSettings
from kvraft.client import Client
from tests.api_v2.conftest import Served, start

Behaviour = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""Gets the head of a request, and answers it or not; the connection is closed afterwards."""
OK: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest_asyncio.fixture
async def served() -> AsyncIterator[Served]:
    running = await start(ApiSettings(stop_s=5.0))
    yield running
    await running.server.stop()


@pytest_asyncio.fixture
async def client(served: Served) -> AsyncIterator[Client]:
    async with Client([served.url]) as made:
        yield made


@contextlib.asynccontextmanager
async def misbehaving(behaviour: Behaviour) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that does so with every connection: its URL, and the first lines of what it was asked."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            head = await reader.readuntil(b"\r\n\r\n")
            asked.append(head.partition(b"\r\n")[0])
            await behaviour(head, reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked


async def hangs_up(_head: bytes, _reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Takes a request and says nothing."""


async def waits(_head: bytes, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Takes a request and says nothing until the client is gone."""
    while await reader.read(4096):
        pass
