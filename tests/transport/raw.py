"""A stranger or a member that speaks the peer protocol by hand, message by message."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import final

from kvraft.transport.codec import Word, encode_word
from kvraft.transport.envelope import decode_answer, encode_answer
from kvraft.transport.framing import MAGIC, Splitter, seal
from kvraft.transport.handshake import LANES, Greeting, Lane
from tests.transport import support

ACCEPTED = encode_word(Word.ACCEPTED)


@final
class Raw:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._splitter = Splitter(8 << 20)
        self._messages: list[bytes] = []

    def say(self, *messages: bytes) -> None:
        """Send messages."""
        for message in messages:
            self.writer.write(seal(message))

    async def hear(self) -> bytes | None:
        """The next message; None once the connection has ended."""
        async with asyncio.timeout(support.WAIT_S):
            while not self._messages:
                try:
                    data = await self.reader.read(65536)
                except ConnectionError:
                    return None
                if not data:
                    return None
                self._messages += self._splitter.feed(data)
        return self._messages.pop(0)

    async def ended(self) -> list[bytes]:
        """Wait for the end; what came before it."""
        heard = []
        while (message := await self.hear()) is not None:
            heard.append(message)
        return heard


@asynccontextmanager
async def connected(port: int, first: bytes = MAGIC) -> AsyncIterator[Raw]:
    """A connection that has begun with these bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(first)
    try:
        yield Raw(reader, writer)
    finally:
        writer.transport.abort()


@asynccontextmanager
async def greeted(port: int, greeting: Greeting) -> AsyncIterator[Raw]:
    """A connection whose greeting was accepted; the dialler has not said so yet."""
    async with connected(port) as raw:
        raw.say(encode_answer(greeting))
        answer = await raw.hear()
        assert answer is not None
        assert isinstance(decode_answer(answer), Greeting)
        yield raw


@asynccontextmanager
async def session(
    port: int, from_member: int = 2, to_member: int = 1, instance: bytes = b"stranger", number: int = 1
) -> AsyncIterator[dict[Lane, Raw]]:
    """Both lanes of a session, up."""
    control, entries = (Greeting(support.hello(from_member), to_member, lane, instance, number) for lane in LANES)
    async with greeted(port, control) as first, greeted(port, entries) as second:
        for raw in (first, second):
            raw.say(ACCEPTED)
        yield {Lane.CONTROL: first, Lane.ENTRIES: second}
