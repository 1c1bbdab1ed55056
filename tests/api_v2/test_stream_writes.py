"""What streams are sent in one write: all that a turn of the loop applies."""

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Final, final

import pytest

from kvraft.api_v2.answers import Framing
from kvraft.api_v2.asker import Asker
from kvraft.api_v2.exchange import Exchange
from kvraft.api_v2.guard import Guard
from kvraft.api_v2.key_requests import Watch
from kvraft.api_v2.settings import AuthSettings
from kvraft.api_v2.unread import TRANSPORT_BYTES
from kvraft.api_v2.watches import Grant, Watches
from kvraft.keyspace.commands import Set
from kvraft.keyspace.watchers import CATCH_UP_EVENTS, WATCHER_BYTES_MAX
from kvraft.security.logins import GUEST
from kvraft.security.passwords import Passwords
from tests.api_v2.memory_backend import MemoryBackend

NEW: Final = Framing(http10=False, head=False, keep_alive=True)
OLD: Final = Framing(http10=True, head=False, keep_alive=False)


@final
class _Client:
    """A connection that keeps what is written to it."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.parts: list[bytes] = []
        self.takes_more = True
        self.may_keep_alive = False
        self.is_over = False

    def token(self) -> bytes:
        """Nobody in particular."""
        return b""

    def asker(self) -> Asker:
        """Never asked."""
        raise AssertionError

    def common_headers(self) -> bytes:
        """None."""
        return b""

    def write(self, parts: list[bytes]) -> None:
        """One write, however many parts."""
        self.written.append(b"".join(parts))
        self.parts += parts

    def is_writable(self) -> bool:
        """As the test says."""
        return self.takes_more

    def abort(self) -> None:
        """Never: whoever reads is broken off behind what he was sent."""
        raise AssertionError

    def exchange_over(self, *, keep_alive: bool) -> None:
        """The answer is complete."""
        assert self.may_keep_alive or not keep_alive
        self.is_over = True


def watching(
    watches: Watches, framing: Framing = NEW, path: bytes = b"/", wait_index: int = 0
) -> tuple[_Client, Exchange]:
    """A new stream, and what it has been written behind its head."""
    client = _Client()
    exchange = Exchange(client, framing)
    request = Watch(path, recursive=True, stream=True, wait_index=wait_index)
    assert watches.open(request, exchange, Grant(GUEST, path)) is None
    del client.written[0], client.parts[0]
    return client, exchange


def values(written: list[bytes]) -> list[int]:
    """What the events set, by the first six bytes."""
    return [int(event[:6]) for event in b"".join(written).split(b'"node":{"key":"/k","value":"')[1:]]


async def turns() -> None:
    """More turns of the loop than anything here takes."""
    for _ in range(100):
        await asyncio.sleep(0)


@pytest.fixture
def backend() -> MemoryBackend:
    """A fresh one."""
    return MemoryBackend()


@pytest.fixture
def watches(backend: MemoryBackend) -> Watches:
    """Those of it."""
    return Watches(backend, Guard(backend, AuthSettings(), Passwords()))


async def test_what_a_turn_applies_leaves_in_one_write_as_chunks_of_their_own(
    backend: MemoryBackend, watches: Watches
) -> None:
    """Streams with the same events are given the same bytes, and none is given what is not for it."""
    clients = [watching(watches)[0] for _ in range(3)]
    partial, old = watching(watches, path=b"/b")[0], watching(watches, OLD)[0]
    for key in (b"/a", b"/b", b"/c"):
        backend.apply(Set(key, b"1"))
    assert not any(client.written for client in clients)
    await asyncio.sleep(0)
    (first,), (second,), (third,) = (client.written for client in clients)
    assert first == second == third
    assert all(len(set(map(id, same))) == 1 for same in zip(*(client.parts for client in clients), strict=True))
    assert first.count(b'\r\n{"action":"set"') == 3
    assert len(partial.written) == 1
    assert partial.written[0] in first
    assert old.written[0].count(b"\n") == 3
    assert b"\r" not in old.written[0]
    backend.apply(Set(b"/d", b"1"))
    await asyncio.sleep(0)
    assert [len(client.written) for client in clients] == [2, 2, 2]


@pytest.mark.parametrize("size", [1000, 20_000, WATCHER_BYTES_MAX])
async def test_a_turn_with_much_is_sent_as_it_comes_and_leaves_nobody_behind(
    backend: MemoryBackend, watches: Watches, size: int
) -> None:
    """In few writes, in order, and whoever reads stays live however much a turn brings."""
    clients = [watching(watches)[0] for _ in range(2)]
    count = 5 * WATCHER_BYTES_MAX // size
    for number in range(count):
        backend.apply(Set(b"/k", b"%06d" % number + b"x" * size))
        assert backend.watchers.has_live
    await turns()
    first, second = (client.written for client in clients)
    assert values(first) == list(range(count))
    assert len(first) == len(second) <= min(count, 1 + 3 * count * size // TRANSPORT_BYTES)
    assert first == second
    assert max(map(len, first)) < TRANSPORT_BYTES + 3 * size


async def test_a_large_event_behind_small_ones_leaves_nobody_behind(backend: MemoryBackend, watches: Watches) -> None:
    """What was gathered and not sent is not what a client has left unread."""
    client, _ = watching(watches)
    for number, size in enumerate((10_000, WATCHER_BYTES_MAX, 10)):
        backend.apply(Set(b"/k", b"%06d" % number + b"x" * size))
        assert backend.watchers.has_live
    await turns()
    assert values(client.written) == [0, 1, 2]


async def test_a_long_history_is_sent_in_slices_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of it is not for this stream, what is for it is more than a write, and nothing is planned for ever."""
    loop = asyncio.get_running_loop()
    call_soon, planned = loop.call_soon, list[str]()

    def counted(callback: Callable[..., object], *arguments: object, context: Context | None = None) -> object:
        planned.append(getattr(callback, "__name__", ""))
        return call_soon(callback, *arguments, context=context)

    monkeypatch.setattr(loop, "call_soon", counted)
    backend = MemoryBackend(history_events_max=10_000)
    watches = Watches(backend, Guard(backend, AuthSettings(), Passwords()))
    for number in range(9 * CATCH_UP_EVENTS):
        key = b"/k" if number % 20 == 0 else b"/other"
        backend.apply(Set(key, b"%06d" % number + b"x" * 1000))
    client, _ = watching(watches, path=b"/k", wait_index=1 + backend.keyspace.etcd_index - 9 * CATCH_UP_EVENTS)
    assert values(client.written) != list(range(0, 9 * CATCH_UP_EVENTS, 20)), "a slice is not everything"
    await turns()
    assert values(client.written) == list(range(0, 9 * CATCH_UP_EVENTS, 20))
    backend.apply(Set(b"/k", b"live"))
    await turns()
    assert b'"value":"live"' in client.written[-1]
    assert planned.count("_catch_up") == 8, "the first of nine slices is not planned, but comes at once"


async def test_whoever_leaves_too_much_unread_is_given_nothing_more_until_he_has_read(
    backend: MemoryBackend, watches: Watches
) -> None:
    """One write of a turn may be too much; what follows waits in the history, and comes once."""
    client, exchange = watching(watches)
    client.takes_more = False
    for number in range(3):
        backend.apply(Set(b"/k", b"%d" % number + b"x" * WATCHER_BYTES_MAX))
        await asyncio.sleep(0)
    assert len(client.written) == 1
    client.takes_more = True
    assert exchange.on_writable is not None
    exchange.on_writable()
    await turns()
    assert len(client.written) == 3
    assert [b'"value":"%dx' % number in client.written[number] for number in range(3)] == [True] * 3


async def test_what_slow_clients_are_owed_is_in_memory_once(backend: MemoryBackend, watches: Watches) -> None:
    """Also where they are owed different events."""
    slow = []
    for number in range(3):
        client, _ = watching(watches)
        client.takes_more = False
        slow.append(client)
        backend.apply(Set(b"/k", b"%06d" % number))
    await turns()
    assert [values(client.written) for client in slow] == [[0, 1, 2], [1, 2], [2]]
    assert slow[0].parts[2] is slow[1].parts[1] is slow[2].parts[0]


async def test_what_was_applied_before_a_stop_leaves_before_the_connection_ends(
    backend: MemoryBackend, watches: Watches
) -> None:
    """In the same turn, and not again in the next one."""
    client, _ = watching(watches)
    backend.apply(Set(b"/a", b"1"))
    watches.end_all()
    assert len(client.written) == 1
    assert client.is_over
    await asyncio.sleep(0)
    assert len(client.written) == 1


async def test_what_was_applied_before_a_client_stops_sending_leaves_before_the_end(
    backend: MemoryBackend, watches: Watches
) -> None:
    """The last chunk comes behind the events of the same turn."""
    client, exchange = watching(watches)
    backend.apply(Set(b"/a", b"1"))
    client.may_keep_alive = True
    exchange.last_request()
    assert b"".join(client.written).endswith(b"}\n\r\n0\r\n\r\n")
    assert client.is_over
    await asyncio.sleep(0)
    assert len(client.written) == 2


async def test_whoever_goes_between_an_event_and_its_write_costs_the_others_nothing(
    backend: MemoryBackend, watches: Watches
) -> None:
    """The first of those that are owed the same."""
    client, exchange = watching(watches)
    other, _ = watching(watches)
    backend.apply(Set(b"/a", b"1"))
    exchange.gone()
    await asyncio.sleep(0)
    assert client.written == []
    assert len(other.written) == 1
    assert backend.watchers.count == 1
