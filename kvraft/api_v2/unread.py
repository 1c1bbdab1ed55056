"""What clients leave unread, over all connections of a server, and who is cut off when it is too much.

A connection takes part while its transport has more than it likes to hold; nobody gives it anything new then (watchers
go on from the history, listings from the tree, requests wait), so what it holds is what it was last given. Bytes that
several connections were given, an event above all, are there once and count once.
"""

import asyncio
from typing import Final, Protocol, final

from kvraft import clock, logs
from kvraft.api_v2.freed import Freed

log = logs.get(__name__)

TRANSPORT_BYTES: Final = 16 << 10
"""A connection counts as slow with more than this in front of its socket: half of it for most, so that thousands of
slow ones are little, and enough for all the answers that a pipelining client gets in one turn of the loop."""

_GRACE_MS: Final = 1000
"""A fast client takes a large answer in less: only who is slower is cut off, below the hard limit."""
_HARD: Final = 4
"""So many times the limit may be unread at any moment, before the grace is over."""
_LEFT: Final = 0.75
"""Cutting goes on down to this share of the limit, so that it is not done for every answer."""
_SAY_S: Final = 1.0
"""Clients that are cut off within this time are told in one line."""


class Reader(Protocol):
    """A connection."""

    def cut_off(self) -> None:
        """Drop it at once, with what is unread, and let go of what its answer holds."""
        ...


@final
class _Held:
    """What waits in front of one connection."""

    __slots__ = ("parts", "since_ms")

    def __init__(self, since_ms: int) -> None:
        self.parts: list[bytes] = []
        self.since_ms = since_ms


@final
class Unread:
    """Everything that clients of one server leave unread.

    Args:
        bytes_max: How much it may be. Beyond it those are cut off that hold the most for the longest.
    """

    def __init__(self, bytes_max: int) -> None:
        self.bytes = 0
        """Now, without what every connection may hold besides (`TRANSPORT_BYTES`)."""
        self._bytes_max = bytes_max
        self._held: dict[Reader, _Held] = {}
        self._holders: dict[int, int] = {}
        """By the identity of bytes, which are kept alive meanwhile: how often they are held."""
        self._freed = Freed()
        self._cutting: asyncio.TimerHandle | None = None
        self._saying: asyncio.TimerHandle | None = None
        self._cut_count = self._cut_bytes = 0

    def hold(self, connection: Reader, parts: list[bytes]) -> None:
        """A connection that does not keep up was given these parts."""
        held = self._held.get(connection)
        if held is None:
            held = self._held[connection] = _Held(clock.monotonic_ms())
        holders = self._holders
        for part in parts:
            count = holders.get(id(part), 0)
            holders[id(part)] = count + 1
            if not count:
                self.bytes += len(part)
        held.parts += parts
        self._freed.grown(self.bytes)
        if self.bytes > self._bytes_max:
            if self.bytes > _HARD * self._bytes_max:
                self._cut(0, _HARD * self._bytes_max)
            if self._cutting is None:
                self._cutting = asyncio.get_running_loop().call_later(_GRACE_MS / 1000, self._cut_slow)

    def release(self, connection: Reader) -> None:
        """A connection has been read empty, or is gone."""
        held = self._held.pop(connection, None)
        if held is None:
            return
        holders = self._holders
        for part in held.parts:
            count = holders.pop(id(part)) - 1
            if count:
                holders[id(part)] = count
            else:
                self.bytes -= len(part)
        self._freed.shrunk(self.bytes)

    def close(self) -> None:
        """Plan nothing any more: the server has stopped."""
        self._freed.close()
        for planned in (self._cutting, self._saying):
            if planned is not None:
                planned.cancel()
        if self._cut_count:
            self._say()

    def _cut_slow(self) -> None:
        self._cutting = None
        self._cut(_GRACE_MS, self._bytes_max)
        if self.bytes > self._bytes_max:
            self._cutting = asyncio.get_running_loop().call_later(_GRACE_MS / 1000, self._cut_slow)

    def _cut(self, age_ms: int, bytes_max: int) -> None:
        """Cut off those who hold the most for the longest, among those who hold something for so long."""
        if self.bytes <= bytes_max:
            return
        now_ms = clock.monotonic_ms()
        holders = self._holders
        slow = [(connection, held) for connection, held in self._held.items() if now_ms - held.since_ms >= age_ms]
        slow.sort(
            key=lambda one: sum(len(part) / holders[id(part)] for part in one[1].parts) * (now_ms - one[1].since_ms)
        )
        before = self.bytes
        while slow and self.bytes > _LEFT * bytes_max:
            connection, _ = slow.pop()
            self.release(connection)
            connection.cut_off()
            self._cut_count += 1
        self._cut_bytes += before - self.bytes
        if self._cut_count and self._saying is None:
            self._saying = asyncio.get_running_loop().call_later(_SAY_S, self._say)

    def _say(self) -> None:
        self._saying = None
        log.warning("slow clients cut off", connections=self._cut_count, unread_bytes=self._cut_bytes)
        self._cut_count = self._cut_bytes = 0
