"""A watch that goes on after a broken connection where it was."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final
from urllib.parse import urlencode

from kvraft.client.connection import Connection, Request, Stream
from kvraft.client.errors import BadAnswer, BrokenOff, Unreachable
from kvraft.client.values import Event, event_of, parsed, refusal

_FIRST_PAUSE_S: Final = 0.05
_LAST_PAUSE_S: Final = 1.0
"""Between two tries to connect again; doubled from the first to the last."""
_SERVER_ERROR: Final = 500
_LINE_BYTES_MAX: Final = 64 << 20
"""Of one event. A value has at most 10 MiB on kvraft, of which JSON may make six times as much."""


async def watch(
    connection: Connection, target: str, *, from_index: int | None, recursive: bool, patience_s: float
) -> AsyncGenerator[Event, None]:
    """Every event at or below a key, in order, each once, from an index on or from now on, without end.

    After a broken connection it asks for the next index, at any endpoint, for as long as `patience_s` seconds.

    Raises:
        EventIndexCleared: the history does not reach back to the index.
        Unreachable: no endpoint could be asked for longer than `patience_s`.
        EtcdError: refused.
        BadAnswer: what came is no event.
    """
    next_index = from_index
    while True:
        began_at = next_index
        try:
            connected = _connected(connection, target, next_index, recursive, patience_s)
            async with contextlib.aclosing(connected):
                async for event, index in connected:
                    next_index = index
                    if event is not None:
                        yield event
        except BrokenOff as error:
            connection.turn_from(error.endpoint)
        if next_index == began_at:
            # Whoever hangs up at once, like a proxy without a server behind it, is not asked in a busy loop.
            await asyncio.sleep(_FIRST_PAUSE_S)


async def _connected(
    connection: Connection, target: str, next_index: int | None, recursive: bool, patience_s: float
) -> AsyncGenerator[tuple[Event | None, int], None]:
    """What one connection brings, and from which index to go on; first the index alone."""
    query = {"wait": "true", "stream": "true"}
    if recursive:
        query["recursive"] = "true"
    if next_index is not None:
        query["waitIndex"] = str(next_index)
    request = Request("GET", f"{target}?{urlencode(query)}", {})
    async with _Opened(connection, request, patience_s) as stream:
        # A watch without an index begins after the index that its answer names.
        yield None, stream.etcd_index + 1 if next_index is None else next_index
        async for line in _lines(stream):
            event = event_of(stream.endpoint, parsed(stream.endpoint, line), 0)
            yield event, event.node.modified_index + 1
        connection.turn_from(stream.endpoint)


class _Opened:
    """A stream that a server agreed to; opened again and again until one does, at most for so long."""

    def __init__(self, connection: Connection, request: Request, patience_s: float) -> None:
        self._connection = connection
        self._request = request
        self._patience_s = patience_s

    async def __aenter__(self) -> Stream:
        pause_s = _FIRST_PAUSE_S
        last: Unreachable | None = None
        try:
            async with asyncio.timeout(self._patience_s):
                while True:
                    self._context = self._connection.stream(self._request)
                    try:
                        stream = await self._context.__aenter__()
                    except Unreachable as error:
                        last = error
                    else:
                        if stream.status < _SERVER_ERROR:
                            break
                        last = Unreachable([stream.endpoint], [str(await self._refused(stream))])
                        self._connection.turn_from(stream.endpoint)
                    await asyncio.sleep(pause_s)
                    pause_s = min(2 * pause_s, _LAST_PAUSE_S)
        except TimeoutError:
            raise (last or Unreachable(self._connection.endpoints[:1], ["no answer in time"])) from None
        if stream.status >= 300:
            raise await self._refused(stream)
        return stream

    async def _refused(self, stream: Stream) -> Exception:
        try:
            return refusal(stream.status, await stream.read(), stream.etcd_index, stream.endpoint)
        except BrokenOff as error:
            return error
        finally:
            await self._context.__aexit__(None, None, None)

    async def __aexit__(self, *_: object) -> None:
        await self._context.__aexit__(None, None, None)


async def _lines(stream: Stream) -> AsyncIterator[bytes]:
    """The events of a stream: etcd ends each with a line feed, which JSON never has inside a text."""
    rest = bytearray()
    async for chunk in stream.chunks():
        searched = len(rest)
        rest += chunk
        begin = 0
        while (end := rest.find(b"\n", max(begin, searched))) >= 0:
            if end > begin:
                yield bytes(rest[begin:end])
            begin = end + 1
        del rest[:begin]
        if len(rest) > _LINE_BYTES_MAX:
            raise BadAnswer(stream.endpoint, f"sent an event of more than {_LINE_BYTES_MAX} bytes")
