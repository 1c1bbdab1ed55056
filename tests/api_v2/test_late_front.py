"""Requests that need aiohttp, while it is still being imported."""

import asyncio
import errno
import itertools
import os
import threading

import pytest

from kvraft.api_v2 import late_front
from kvraft.api_v2.settings import ApiSettings
from tests.api_v2.conftest import Served, start

_ODD = b"POST /v2/members HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
"""Not for the short way."""


@pytest.fixture
def may_import(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """The import ends once this is set."""
    allowed = threading.Event()
    import_it = late_front._front_class

    def import_when_allowed() -> object:
        assert allowed.wait(20)
        return import_it()

    monkeypatch.setattr(late_front, "_front_class", import_when_allowed)
    return allowed


async def _early() -> Served:
    return await start(ApiSettings(fast_front=True, stop_s=5.0))


async def test_odd_request_waits_for_its_front_and_is_answered(may_import: threading.Event) -> None:
    """Plain ones are answered meanwhile; one whose client has stopped sending is answered, too."""
    served = await _early()
    waiting = await served.connect()
    waiting.writer.write(_ODD)
    half_closed = await served.connect()
    half_closed.writer.write(_ODD)
    half_closed.writer.write_eof()
    async with await served.connect() as plain:
        while len(served.server._aiohttp.parked) < 2:
            assert (await plain.request("GET", "/version")).status == 200
    may_import.set()
    for client in (waiting, half_closed):
        assert (await client.reader.read()).startswith(b"HTTP/1.1 415 ")
        await client.close()
    await served.server.stop()


async def test_client_that_goes_before_its_front_is_there_is_forgotten(may_import: threading.Event) -> None:
    """And counts no longer as a connection."""
    served = await _early()
    client = await served.connect()
    client.writer.write(_ODD)
    async with await served.connect() as plain:
        while not served.server._aiohttp.parked:
            assert (await plain.request("GET", "/version")).status == 200
    client.writer.transport.abort()
    may_import.set()
    await served.server.stop()
    assert not served.server._aiohttp.parked
    assert served.server._aiohttp.connection_count == 0
    await client.close()


async def test_stop_during_the_import_closes_who_waits(may_import: threading.Event) -> None:
    """Its request has not been begun: the connection ends without an answer, and another member is asked."""
    served = await _early()
    client = await served.connect()
    client.writer.write(_ODD)
    async with await served.connect() as plain:
        while not served.server._aiohttp.parked:
            assert (await plain.request("GET", "/version")).status == 200
    stopping = asyncio.create_task(served.server.stop())
    assert await client.reader.read() == b""
    may_import.set()
    await stopping
    await client.close()


async def test_server_that_is_given_up_during_the_import_says_nothing(may_import: threading.Event) -> None:
    """As by a member that fails: that its front was not there yet is no defect."""
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    served = await _early()
    loading = served.server._loading
    assert loading is not None
    served.server.give_up()
    loading.task.cancel()  # as everything is at the end of the loop
    await asyncio.wait((loading.task,))
    await asyncio.sleep(0)
    assert told == []
    may_import.set()
    await served.server.stop()


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EMFILE, os.strerror(errno.EMFILE), "/lib/aiohttp/http.py"),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
        ImportError("/lib/_multidict.so: cannot open shared object file: " + os.strerror(errno.ENFILE)),
        MemoryError(),
        RuntimeError("can't start new thread"),
    ],
    ids=["file", "memory", "shared object", "Python's memory", "thread"],
)
@pytest.mark.parametrize("ends", [True, False])
async def test_import_that_lacks_what_others_hold_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, error: Exception, ends: bool
) -> None:
    """Clients may hold them all; who needs that front waits, and nothing else does, a stop least of all."""
    import_it, tries = late_front._front_class, itertools.count(1)
    failed = asyncio.Event()
    loop = asyncio.get_running_loop()

    def import_at_the_third_time() -> object:
        if next(tries) < 3 or not ends:
            loop.call_soon_threadsafe(failed.set)
            raise error
        return import_it()

    monkeypatch.setattr(late_front, "AGAIN_S", 0.01)
    monkeypatch.setattr(late_front, "_front_class", import_at_the_third_time)
    served = await _early()
    async with await served.connect() as waiting, await served.connect() as plain:
        waiting.writer.write(_ODD)
        await failed.wait()
        assert (await plain.request("GET", "/version")).status == 200
        if ends:
            assert (await waiting.reader.read()).startswith(b"HTTP/1.1 415 ")
    async with asyncio.timeout(20):
        await served.server.stop()


async def test_import_that_fails_is_told_and_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the loop's handler, which stops the member: nobody would ever answer what needs that front."""

    def no_import() -> object:
        raise OSError("the disk is gone")

    monkeypatch.setattr(late_front, "_front_class", no_import)
    told: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.set_result(context["exception"]))
    served = await _early()
    async with asyncio.timeout(20):
        assert "the disk is gone" in repr(await told)
    await served.server.stop()
