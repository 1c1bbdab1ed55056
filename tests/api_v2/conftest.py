"""A served memory backend, through either front."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from typing import final

import pytest
import pytest_asyncio

from kvraft.api_v2.listening import bind
from kvraft.api_v2.server import ApiServer, serve
from kvraft.api_v2.settings import ApiSettings
from kvraft.metrics import Metrics
from kvraft.testing.raw_http import Connection
from tests.api_v2.memory_backend import MemoryBackend


@final
@dataclasses.dataclass(slots=True)
class Served:
    """A running API and what stands behind it."""

    backend: MemoryBackend
    server: ApiServer
    metrics: Metrics

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server.ports[0]}"

    async def connect(self) -> Connection:
        """A fresh connection; close it in the end."""
        return await Connection.open(self.url)

    async def raw(self, data: bytes) -> bytes:
        """Everything the server says to these bytes until it closes: the last request must make it do so."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.ports[0])
        try:
            async with asyncio.timeout(20):
                writer.write(data)
                return await reader.read()
        finally:
            writer.close()


async def start(settings: ApiSettings) -> Served:
    """Serve a fresh memory backend; the caller stops it."""
    backend = MemoryBackend()
    metrics = Metrics()
    return Served(backend, await serve(backend, [bind("127.0.0.1", 0)], settings, metrics), metrics)


@pytest.fixture(params=["fast", "aiohttp"])
def settings(request: pytest.FixtureRequest) -> ApiSettings:
    """Settings for either front."""
    return ApiSettings(fast_front=request.param == "fast", stop_s=5.0)


@pytest_asyncio.fixture
async def served(settings: ApiSettings) -> AsyncIterator[Served]:
    """A served memory backend."""
    running = await start(settings)
    yield running
    await running.server.stop()


@pytest_asyncio.fixture
async def client(served: Served) -> AsyncIterator[Connection]:
    """One connection to `served`."""
    async with await served.connect() as connection:
        yield connection
