"""A network that flips bits: members drop the connection and dial again, and never take in what nobody sent."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvraft.raft.messages import HeartbeatReply
from kvraft.testing import ports
from kvraft.transport.codec import WireError
from kvraft.transport.framing import Splitter, seal
from tests.transport import support

pytestmark = pytest.mark.slow

MESSAGES = 200
TERM = 3
MARK = 1_000_000


def test_a_message_with_any_bit_flipped_or_cut_short_is_none() -> None:
    """No damaged message is taken, and none makes its reader wait for bytes that never come."""
    sealed = seal(b"a message")
    assert Splitter(100).feed(sealed) == [b"a message"]
    for bit in range(8 * len(sealed)):
        damaged = bytearray(sealed)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(WireError):
            Splitter(1 << 40).feed(bytes(damaged))
    for length in range(len(sealed)):
        assert Splitter(100).feed(sealed[:length]) == []


@given(st.lists(st.binary(max_size=50), max_size=8), st.lists(st.integers(1, 40), max_size=40))
def test_messages_are_the_same_however_their_bytes_are_cut(messages: list[bytes], cuts: list[int]) -> None:
    """Empty ones are signs of life, and no messages."""
    stream = b"".join(map(seal, messages))
    splitter, found, start = Splitter(50), [], 0
    for length in [*cuts, len(stream)]:
        found += splitter.feed(stream[start : start + length])
        start += length
    assert found == [message for message in messages if message]


class FlippingProxy:
    """Passes TCP on to a port, and flips a bit of what the client sends now and then."""

    def __init__(self, target: int, seed: int) -> None:
        self._target = target
        self._random = random.Random(seed)
        self._connections: set[asyncio.Task[None]] = set()
        self.flips = 0
        self.flips_wanted = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until either side or the test ends it."""
        serving = asyncio.current_task()
        assert serving is not None
        self._connections.add(serving)
        writers, tasks = [writer], []
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._target)
            writers.append(there_writer)
            ways = (self._pass_on(reader, there_writer, flip=True), self._pass_on(there_reader, writer, flip=False))
            tasks = [asyncio.create_task(way) for way in ways]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)  # whichever side ends it, for both
        finally:
            for each in writers:
                each.transport.abort()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._connections.discard(serving)

    async def end(self) -> None:
        """End every connection, and wait until nothing of them is left: the loop is closed next."""
        connections = list(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, flip: bool) -> None:
        while data := await reader.read(65536):
            if flip and self.flips_wanted and self._random.random() < 0.1:
                damaged = bytearray(data)
                at = self._random.randrange(len(damaged))
                damaged[at] ^= 1 << self._random.randrange(8)
                data = bytes(damaged)
                self.flips += 1
            writer.write(data)
            await writer.drain()


@contextlib.asynccontextmanager
async def _proxied(target: int, seed: int) -> AsyncIterator[tuple[FlippingProxy, int]]:
    proxy = FlippingProxy(target, seed)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    try:
        yield proxy, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()
        await proxy.end()


def _has(number: int, events: support.Events) -> bool:
    return number in _numbers(events)


def _numbers(events: support.Events) -> list[int]:
    """What arrived; every frame has to be of the kind that was sent."""
    replies = [frame for frame in events.frames if isinstance(frame, HeartbeatReply)]
    assert len(replies) == len(events.frames), "a frame of a kind that nobody sent"
    assert all(reply.last_log_index == MARK + reply.read_id and reply.term == TERM for reply in replies)
    return [reply.read_id for reply in replies]


async def test_flipped_bits_between_members_never_become_another_message(caplog: pytest.LogCaptureFixture) -> None:
    """Every frame that arrives is one that was sent, in order; the connection comes back; damage was really met."""
    reservation = ports.reserve(3)
    first, second, nobody = reservation.ports
    async with _proxied(second, seed=7) as (proxy, proxy_port):
        sender = support.make_peer(1, {1: first, 2: proxy_port})
        receiver = support.make_peer(2, {1: nobody, 2: second})  # so that every session is dialled through the proxy
        async with support.running(receiver), support.running(sender):
            for number in range(1, MESSAGES + 1):
                await sender.events.until(lambda events: 2 in events.connected)
                proxy.flips_wanted = number < MESSAGES
                sender.transport.send(2, [HeartbeatReply(TERM, number, MARK + number)])
                arrived = asyncio.create_task(receiver.events.until(partial(_has, number)))
                lost = asyncio.create_task(sender.events.until(lambda events: 2 not in events.connected))
                await asyncio.wait((arrived, lost), return_when=asyncio.FIRST_COMPLETED)
                for task in (arrived, lost):
                    task.cancel()
                await asyncio.gather(arrived, lost, return_exceptions=True)
            numbers = _numbers(receiver.events)
    reservation.release()
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == MESSAGES
    assert proxy.flips > 5
    errors = [str(getattr(record, "kvraft_fields", {}).get("error")) for record in caplog.records]
    assert any("a damaged message" in error for error in errors)
