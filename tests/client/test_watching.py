"""Watches: in order, each event once, also over broken connections."""

import asyncio
import contextlib

import pytest

from kvraft.api_v2.settings import ApiSettings
from kvraft.client import BadAnswer, Client, EtcdError, EventIndexCleared, Unreachable
from tests.api_v2.conftest import Served, start
from tests.client.conftest import OK, hangs_up, misbehaving


async def test_watch_brings_history_then_what_comes(client: Client) -> None:
    """From an index on, in order, without end."""
    first = await client.set("/d/a", "1")
    await client.set("/d/b", "2")
    await client.set("/other", "x")
    async with contextlib.aclosing(client.watch("/d", from_index=first.node.modified_index, recursive=True)) as events:
        assert [(await anext(events)).node.value for _ in range(2)] == ["1", "2"]
        await client.delete("/d/a")
        gone = await anext(events)
    assert (gone.action, gone.node.key, gone.etcd_index) == ("delete", "/d/a", gone.node.modified_index)
    assert gone.prev_node is not None and gone.prev_node.value == "1"


async def test_large_events_come_whole(client: Client) -> None:
    """Values of a megabyte, many in one stream."""
    first = await client.set("/a", "0" * 1_000_000)
    for digit in "12":
        await client.set("/a", digit * 1_000_000)
    async with contextlib.aclosing(client.watch("/a", from_index=first.node.modified_index)) as events:
        values = [(await anext(events)).node.value for _ in range(3)]
    assert values == [digit * 1_000_000 for digit in "012"]


async def test_watch_goes_on_after_its_server_has_gone() -> None:
    """At the next endpoint, with the next index: nothing twice, nothing left out."""
    one, two = await start(ApiSettings(stop_s=0.1)), await start(ApiSettings())
    async with Client([one.url, two.url]) as client, Client([two.url]) as other:
        for value in "123":
            await client.set("/a", value)
            await other.set("/a", value)
        first = (await client.get("/a")).node.modified_index - 2
        async with contextlib.aclosing(client.watch("/a", from_index=first)) as events:
            seen = [(await anext(events)).node.value for _ in range(2)]
            await one.server.stop()
            seen += [(await anext(events)).node.value]
            await other.set("/a", "4")
            seen += [(await anext(events)).node.value]
    await two.server.stop()
    assert seen == ["1", "2", "3", "4"]


async def test_watch_from_now_keeps_its_place(served: Served) -> None:
    """What was written while it had no connection is not lost, though it named no index and had seen no event."""
    asked: list[bytes] = []

    async def breaks(head: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(head.partition(b"\r\n")[0])
        writer.write(OK + b"X-Etcd-Index: %d\r\nTransfer-Encoding: chunked\r\n\r\n" % index)
        await client.set("/a", "missed")

    async with Client([served.url]) as client:
        index = (await client.set("/a", "before")).etcd_index
        async with (
            misbehaving(breaks) as (url, _),
            Client([url, served.url]) as watcher,
            contextlib.aclosing(watcher.watch("/a")) as events,
        ):
            event = await anext(events)
    assert (event.node.value, event.node.modified_index) == ("missed", index + 1)
    assert asked == [b"GET /v2/keys/a?wait=true&stream=true HTTP/1.1"]


async def test_index_that_the_history_lost_is_a_typed_error(client: Client, served: Served) -> None:
    """A thousand events are kept here; the error tells from where a watch can start."""
    first = await client.set("/a", "0")
    for number in range(1100):
        await client.set("/b", str(number))
    with pytest.raises(EventIndexCleared) as error:
        await anext(client.watch("/a", from_index=first.node.modified_index))
    assert (error.value.code, error.value.status, error.value.index) == (401, 400, served.backend.keyspace.etcd_index)


async def test_watch_gives_up_when_nobody_answers_for_long() -> None:
    """With the last reason."""
    async with misbehaving(hangs_up) as (url, asked), Client([url]) as client:
        with pytest.raises(Unreachable, match="closed without an answer"):
            await anext(client.watch("/a", patience_s=0.3))
    assert len(asked) > 2


async def test_refused_watch_is_told_at_once() -> None:
    """What is no trouble of the server's is not tried again; what is, is."""

    async def refuses(_head: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = b'{"message":"Insufficient credentials"}'
        status = b"503 Service Unavailable" if len(asked) < 3 else b"401 Unauthorized"
        writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    async with misbehaving(refuses) as (url, asked), Client([url]) as client:
        with pytest.raises(EtcdError, match="Insufficient credentials") as error:
            await anext(client.watch("/a"))
    assert error.value.status == 401
    assert len(asked) == 3


async def test_something_else_than_events_is_told() -> None:
    """And not taken for the end of a connection."""

    async def babbles(_head: bytes, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK + b"Content-Length: 5\r\n\r\nwhat\n")

    async with misbehaving(babbles) as (url, _), Client([url]) as client:
        with pytest.raises(BadAnswer, match="what"):
            await anext(client.watch("/a"))
