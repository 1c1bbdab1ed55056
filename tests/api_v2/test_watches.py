"""Watches over sockets, through both fronts."""

import asyncio

import pytest

from kvraft.api_v2.settings import ApiSettings
from kvraft.keyspace.commands import Delete, Set
from kvraft.testing.raw_http import Connection
from tests.api_v2.conftest import Served, start


async def until_watching(served: Served, count: int) -> None:
    """Wait until so many watches are open."""
    async with asyncio.timeout(10), await served.connect() as other:
        while served.backend.watchers.count != count:
            await other.request("GET", "/version")


async def test_headers_leave_at_once_and_the_event_is_one_chunk(served: Served, client: Connection) -> None:
    """X-Etcd-Index is that of the moment when the watch was opened; the connection can be used again."""
    head = await client.stream("/v2/keys/foo?wait=true")
    assert head.status == 200
    assert head.etcd_index == 3
    assert head.header("X-Raft-Index") is not None
    assert head.header("Transfer-Encoding") == "chunked"
    served.backend.apply(Set(b"/foo", b"x" * 5000))
    chunk = await client.read_chunk()
    assert chunk.startswith(b'{"action":"set","node":{"key":"/foo","value":"xxx')
    assert chunk.endswith(b"}\n")
    assert await client.read_chunk() == b""
    assert (await client.request("GET", "/v2/keys/foo")).status == 200


async def test_event_of_the_past_is_answered_from_the_history(served: Served, client: Connection) -> None:
    """The first match at or after waitIndex, with today's X-Etcd-Index."""
    for value in (b"1", b"2", b"3"):
        served.backend.apply(Set(b"/foo", value))
    answer = await client.request("GET", "/v2/keys/foo?wait=true&waitIndex=5")
    assert answer.etcd_index == 6
    assert answer.json()["node"] == {"key": "/foo", "value": "2", "modifiedIndex": 5, "createdIndex": 5}


async def test_index_in_the_future_waits_for_it(served: Served, client: Connection) -> None:
    """Events before it do not count."""
    await client.stream("/v2/keys/foo?wait=true&waitIndex=5")
    served.backend.apply(Set(b"/foo", b"1"))
    served.backend.apply(Set(b"/foo", b"2"))
    assert b'"value":"2"' in await client.read_chunk()


@pytest.mark.parametrize("parameters", ["", "&stream=true&recursive=true"])
@pytest.mark.parametrize("ahead", [101, 5_000, 2**64 - 4])
async def test_index_that_the_cluster_has_not_reached_is_401(
    served: Served, client: Connection, ahead: int, parameters: str
) -> None:
    """It is from before the cluster was founded anew: clients list again, as after a history that was cleared."""
    answer = await client.request("GET", f"/v2/keys/foo?wait=true&waitIndex={3 + ahead}{parameters}")
    assert answer.status == 400
    assert answer.json() == {
        "errorCode": 401,
        "message": "The event in requested index is outdated and cleared",
        "cause": f"the requested index is beyond every event of this cluster [3/{3 + ahead}]",
        "index": 3,
    }
    assert answer.etcd_index == 3
    assert served.backend.watchers.count == 0


@pytest.mark.parametrize("ahead", [1, 2, 100])
async def test_index_soon_to_come_is_waited_for_at_once(served: Served, client: Connection, ahead: int) -> None:
    """Without asking anybody: clients wait for the event after the last one that they know."""
    served.backend.has_quorum = False
    assert (await client.stream(f"/v2/keys/foo?wait=true&waitIndex={3 + ahead}")).status == 200
    for _ in range(ahead):
        served.backend.apply(Set(b"/foo", b"1"))
    assert b'"modifiedIndex":%d,' % (3 + ahead) in await client.read_chunk()


@pytest.mark.parametrize("answers", [True, False])
async def test_member_that_lags_behind_its_client_lets_it_wait(served: Served, answers: bool) -> None:
    """The barrier brings it up to what the client saw elsewhere; without a quorum nobody can tell, and it waits too."""
    served.backend.has_quorum = False
    async with await served.connect() as client:
        await client.send("GET", "/v2/keys/foo?wait=true&waitIndex=504")
        async with asyncio.timeout(10):
            while not served.backend.waiting:  # noqa: ASYNC110 -- the loop is what is waited for
                await asyncio.sleep(0)
        for _ in range(500):
            served.backend.apply(Set(b"/other", b"1"))
        (done,) = served.backend.waiting
        if answers:
            served.backend.waiting.clear()
            done(None)  # type: ignore[arg-type] # the list holds what waits for writes, too
        else:
            served.backend.time_out()
        assert (await client.read_head()).status == 200
        served.backend.apply(Set(b"/foo", b"1"))
        assert b'"modifiedIndex":504,' in await client.read_chunk()


async def test_client_that_leaves_before_its_index_is_checked_leaves_no_watch(served: Served) -> None:
    """Nor does one that only stops sending: its watch ends as any other."""
    served.backend.has_quorum = False
    gone, half_closed = await served.connect(), await served.connect()
    for client in (gone, half_closed):
        await client.send("GET", "/v2/keys/foo?wait=true&waitIndex=504")
    async with asyncio.timeout(10):
        while len(served.backend.waiting) < 2:  # noqa: ASYNC110 -- the loop is what is waited for
            await asyncio.sleep(0)
        gone.writer.transport.abort()
        half_closed.writer.write_eof()
        async with await served.connect() as other:
            for _ in range(5):
                await other.request("GET", "/v2/keys/")
        served.backend.time_out()
        assert (await half_closed.read_head()).status == 200
        assert await half_closed.read_chunk() == b""
    await half_closed.close()
    assert served.backend.watchers.count == 0


async def test_index_below_the_floor_is_401_without_raft_headers(served: Served, client: Connection) -> None:
    """ErrorCode 401 names the oldest index kept and the one asked for."""
    for number in range(1_100):
        served.backend.apply(Set(b"/foo", b"%d" % number))
    answer = await client.request("GET", "/v2/keys/foo?wait=true&waitIndex=7")
    assert answer.status == 400
    assert answer.body == (
        b'{"errorCode":401,"message":"The event in requested index is outdated and cleared",'
        b'"cause":"the requested history has been cleared [104/7]","index":1103}\n'
    )
    assert answer.etcd_index == 1103
    assert answer.header("X-Raft-Index") is None


async def test_stream_replays_the_history_and_goes_on_live_without_a_duplicate(
    served: Served, client: Connection
) -> None:
    """Where etcd stops after the first event of the history and doubles deletes (contract A.7 a, b)."""
    served.backend.apply(Set(b"/foo", b"1"))
    served.backend.apply(Set(b"/foo", b"2"))
    await client.stream("/v2/keys/foo?wait=true&stream=true&waitIndex=4&recursive=true")
    assert b'"value":"1"' in await client.read_chunk()
    assert b'"value":"2"' in await client.read_chunk()
    served.backend.apply(Delete(b"/foo"))
    served.backend.apply(Set(b"/foo", b"3"))
    assert b'"action":"delete"' in await client.read_chunk()
    assert b'"value":"3"' in await client.read_chunk()


async def test_one_event_goes_to_all_its_watchers(served: Served) -> None:
    """Each gets the same bytes."""
    clients = [await served.connect() for _ in range(20)]
    for client in clients:
        await client.stream("/v2/keys/?wait=true&recursive=true")
    served.backend.apply(Set(b"/a/b", b"1"))
    chunks = {await client.read_chunk() for client in clients}
    assert chunks == {b'{"action":"set","node":{"key":"/a/b","value":"1","modifiedIndex":4,"createdIndex":4}}\n'}
    for client in clients:
        await client.close()


@pytest.mark.parametrize("aborting", [True, False])
async def test_disconnect_of_an_idle_watch_is_noticed_at_once(served: Served, aborting: bool) -> None:
    """Reset or closed: the watcher is gone without an event to tell it."""
    client = await served.connect()
    await client.stream("/v2/keys/foo?wait=true")
    assert served.backend.watchers.count == 1
    if aborting:
        client.writer.transport.abort()
    else:
        await client.close()
    await until_watching(served, 0)


@pytest.mark.parametrize("parameters", ["", "&stream=true&recursive=true"])
async def test_half_closed_watch_is_completed(served: Served, parameters: str) -> None:
    """As in Go, a client that stops sending has given up its watch, and gets the end of the body."""
    client = await served.connect()
    await client.stream("/v2/keys/foo?wait=true" + parameters)
    client.writer.write_eof()
    await until_watching(served, 0)
    assert await client.read_chunk() == b""
    assert await client.reader.read() == b""
    await client.close()


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
async def test_watch_that_comes_with_the_end_of_what_its_client_sends_ends(served: Served, version: bytes) -> None:
    """In one packet, so that the end is seen before the watch is open."""
    async with await served.connect() as client:
        await client.send_raw(b"GET /v2/keys/foo?wait=true HTTP/%b\r\nHost: x\r\n\r\n" % version)
        client.writer.write_eof()
        async with asyncio.timeout(5):
            whole = await client.reader.read()
    assert whole.endswith(b"\r\n\r\n0\r\n\r\n" if version == b"1.1" else b"GMT\r\n\r\n")
    await until_watching(served, 0)


async def test_half_closed_connection_is_answered_what_follows_its_watch(served: Served) -> None:
    """Also a watch that begins when the end is known already, behind a write that took its time."""
    watch = b"GET /v2/keys/foo?wait=true HTTP/1.1\r\nHost: x\r\n\r\n"
    quorum = b"GET /v2/keys/?quorum=true HTTP/1.1\r\nHost: x\r\n\r\n"
    async with await served.connect() as client:
        served.backend.has_quorum = False
        await client.send_raw(quorum + watch + watch + b"GET /v2/keys/ HTTP/1.1\r\nHost: x\r\n\r\n")
        client.writer.write_eof()
        async with asyncio.timeout(5):
            while not served.backend.waiting:  # noqa: ASYNC110 -- the loop is what is waited for
                await asyncio.sleep(0)
            served.backend.time_out()
            assert (await client.read_answer()).status == 500
            assert b'"action":"get"' in (rest := await client.reader.read())
        assert rest.count(b"\r\n\r\n0\r\n\r\n") == 2
    assert served.backend.watchers.count == 0


@pytest.mark.parametrize("events", [800, 1200])
async def test_reader_that_pauses_gets_all_events_that_the_history_holds(served: Served, events: int) -> None:
    """The history holds 1,000 here: beyond them its connection ends within the body, so that it sees what it misses."""
    slow = await served.connect()
    await slow.stream("/v2/keys/?wait=true&stream=true&recursive=true")
    transport = slow.writer.transport
    transport.pause_reading()  # type: ignore[attr-defined] # streams name the base class
    async with await served.connect() as quick:
        await quick.stream("/v2/keys/?wait=true&stream=true&recursive=true")
        for number in range(events):
            served.backend.apply(Set(b"/k", b"%d" % number + b"x" * 20_000))
            await quick.read_chunk()
    assert served.server._unread.bytes < 200_000
    transport.resume_reading()  # type: ignore[attr-defined] # streams name the base class
    if events == 800:
        values = [(await slow.read_chunk()).partition(b'"value":"')[2].partition(b"x")[0] for _ in range(events)]
        assert values == [b"%d" % number for number in range(events)]
        served.backend.apply(Set(b"/k", b"live"))
        assert b'"value":"live"' in await slow.read_chunk()
    else:
        rest = await slow.reader.read()
        assert not rest.endswith(b"\r\n0\r\n\r\n")
        assert served.backend.watchers.count == 0
    await slow.close()


async def test_wait_with_quorum_is_an_immediate_quorum_read(served: Served, client: Connection) -> None:
    """A quorum read knows no waiting."""
    served.backend.apply(Set(b"/foo", b"1"))
    answer = await client.request("GET", "/v2/keys/foo?wait=true&quorum=true")
    assert answer.json()["action"] == "get"


async def test_watch_needs_no_quorum(served: Served, client: Connection) -> None:
    """It stays open and silent on a member without a leader."""
    served.backend.has_quorum = False
    assert (await client.stream("/v2/keys/foo?wait=true")).status == 200


async def test_old_http_gets_the_events_unframed_until_the_connection_ends(served: Served) -> None:
    """HTTP/1.0 knows no chunks."""
    served.backend.apply(Set(b"/foo", b"1"))
    answer = await served.raw(b"GET /v2/keys/foo?wait=true&waitIndex=4 HTTP/1.0\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 OK\r\n")
    assert b"Transfer-Encoding" not in head
    assert body == b'{"action":"set","node":{"key":"/foo","value":"1","modifiedIndex":4,"createdIndex":4}}\n'


async def test_stop_breaks_watches_off(settings: ApiSettings) -> None:
    """As with etcd, no last chunk: vulcand and python-etcd take a complete body without an event for an error."""
    served = await start(settings)
    clients = [await served.connect() for _ in range(3)]
    await clients[0].stream("/v2/keys/foo?wait=true")
    await clients[1].stream("/v2/keys/foo?wait=true&stream=true&waitIndex=99")
    stopping = asyncio.create_task(served.server.stop())
    for client in clients[:2]:
        assert await client.reader.read() == b""
    # An idle connection is closed, too.
    assert await clients[2].reader.read() == b""
    await stopping
    for client in clients:
        await client.close()
    assert served.backend.watchers.count == 0


async def test_stop_breaks_off_a_watch_that_is_still_to_be_opened(settings: ApiSettings) -> None:
    """While its index is checked: the stop waits for no leader, and nothing is opened behind it."""
    served = await start(settings)
    served.backend.has_quorum = False
    client = await served.connect()
    await client.send("GET", "/v2/keys/foo?wait=true&waitIndex=504")
    async with asyncio.timeout(settings.stop_s / 2):
        while not served.backend.waiting:  # noqa: ASYNC110 -- the loop is what is waited for
            await asyncio.sleep(0)
        await served.server.stop()
        assert await client.reader.read() == b""
    served.backend.time_out()
    await client.close()
    assert served.backend.watchers.count == 0


async def test_stop_does_not_wait_for_a_watch_that_is_not_read(settings: ApiSettings) -> None:
    """What it has not taken is lost with the connection, and seen to be."""
    served = await start(settings)
    slow = await served.connect()
    await slow.stream("/v2/keys/?wait=true&stream=true&recursive=true")
    slow.writer.transport.pause_reading()  # type: ignore[attr-defined] # streams name the base class
    for _ in range(3):
        served.backend.apply(Set(b"/k", b"x" * (4 << 20)))
        await asyncio.sleep(0)
    async with asyncio.timeout(settings.stop_s / 2):
        await served.server.stop()
    slow.writer.transport.abort()
