"""What changes in a running cluster, as its watches tell it.

One request an event, and not etcd's streams: those lose what comes after the history, and without a word.
"""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, final

from kvraft import clock
from kvraft.client import BrokenOff, Client
from kvraft.client.values import parsed, refusal, understood
from kvraft.migration.changes import Seen
from kvraft.migration.reading import REPLACED, node_of, target_of
from kvraft.migration.writing import Patience

EVENTS_MAX: Final = 5000
"""In one batch; and so many wait at most while one is written."""
_GONE: Final = {"delete", "compareAndDelete", "expire"}
_NEW: Final = {"set", "create"}


@final
class Follower:
    """Watches the root and what is hidden. An async context manager; nobody is asked outside of it."""

    def __init__(self, client: Client, tops: Sequence[bytes], indices: dict[bytes, int], patience: Patience) -> None:
        self._client = client
        self._patience = patience
        self._tops = tops
        self.indices = {top: indices[top] for top in tops}
        """Up to where each was given out by `batches`."""
        self._queue: asyncio.Queue[tuple[bytes, Seen] | BaseException] = asyncio.Queue(EVENTS_MAX)
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Follower":
        self._tasks = [asyncio.create_task(self._watch(top, self.indices[top])) for top in self._tops]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def batches(self) -> AsyncIterator[list[Seen]]:
        """What has come since the last one, in the order of indices, without end.

        Raises:
            EventIndexCleared: the source's history does not reach back so far: the trees have to be compared.
            ClientError: it does not answer, or refuses.
        """
        while True:
            came = [await self._queue.get()]
            while len(came) < EVENTS_MAX and not self._queue.empty():
                came.append(self._queue.get_nowait())
            events = []
            for each in came:
                if isinstance(each, BaseException):
                    raise each
                events.append(each)
            yield sorted((event for _, event in events), key=lambda event: event.index)
            for top, event in events:
                self.indices[top] = max(self.indices[top], event.index)

    async def _watch(self, top: bytes, index: int) -> None:
        try:
            while True:
                told = await self._patience.until_done(functools.partial(self._poll, top, index + 1))
                if told is None:
                    continue
                with understood(self._client.endpoints[0], "event"):
                    event = _seen(told, index)
                index = event.index
                if REPLACED not in event.path:
                    await self._queue.put((top, event))
        except Exception as error:  # noqa: BLE001 -- whatever ends a watch is raised where its events are awaited
            await self._queue.put(error)

    async def _poll(self, top: bytes, wait_index: int) -> dict[str, Any] | None:
        """The next event; None if the connection ended without one."""
        query: dict[str, str | int | bool] = {"wait": True, "recursive": True, "waitIndex": wait_index}
        with contextlib.suppress(BrokenOff):
            async with self._client.stream("GET", target_of(top), query=query) as stream:
                body = await stream.read()
                if stream.status >= 300:
                    raise refusal(stream.status, body, stream.etcd_index, stream.endpoint)
                if body.strip():
                    event: dict[str, Any] = parsed(stream.endpoint, body)
                    return event
        return None


def _seen(told: dict[str, Any], index: int) -> Seen:
    """An event from its JSON, behind the index that was followed to.

    Raises:
        TypeError: it is none.
        LookupError: it is not whole.
        ValueError: it is an older one, and would come again and again.
    """
    action, node = str(told["action"]), node_of(told["node"], clock.wall_ns())
    if node.modified_index <= index:
        raise ValueError("older than what was asked for")
    is_directory = node.is_directory or bool((told.get("prevNode") or {}).get("dir") and action in _GONE)
    return Seen(
        node.path,
        node.modified_index,
        action in _GONE,
        is_directory,
        node.value or b"",
        node.expiration_ns,
        node.created_index,
        action in _NEW,
    )


async def until(stop: asyncio.Event, batches: AsyncIterator[list[Seen]]) -> AsyncIterator[list[Seen]]:
    """Batches until `stop` is set; one that has come is still given out."""
    stopped = asyncio.ensure_future(stop.wait())
    try:
        while not stop.is_set():
            coming = asyncio.ensure_future(anext(batches))
            await asyncio.wait({coming, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                coming.cancel()
                await asyncio.gather(coming, return_exceptions=True)
                return
            yield coming.result()
    finally:
        stopped.cancel()
