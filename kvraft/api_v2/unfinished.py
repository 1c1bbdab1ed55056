"""What clients have sent of requests that are not whole, over all connections of a server, and who has to stop.

The counterpart of `unread` for input. A connection takes part while it holds more than a small request needs: a head or
a body whose end has not come, or requests sent ahead of an answer. While all of them together hold too much, whoever
sends more is read no further, but for the oldest, so that one after the other is done; and those that could go on and
do not are given up, the oldest first. So a client that sends as fast as it is read is delayed, never refused. The
newest are read, too, a little at each look: who comes behind hundreds that never end is not kept until all of these are
given up.
"""

import asyncio
from itertools import islice
from typing import Final, Protocol, final

from kvraft import logs
from kvraft.api_v2.freed import Freed

log = logs.get(__name__)

SMALL_BYTES: Final = 16 << 10
"""A connection that holds no more takes no part: most requests are smaller, and thousands of these are little."""

_LEFT: Final = 0.25
"""Giving up goes on down to this share of the limit."""
_FILLED: Final = 0.75
"""Up to this share of the limit those that were held back are read again."""
_OLDEST: Final = 16
"""So many are read however much is held: each ends or is given up."""
_NEWEST: Final = 4
"""And a read each of so many at every look: they are not what keeps others waiting, and hundreds may be before them."""
_READ_BYTES: Final = 256 << 10
"""What one read of a connection may bring."""
_LOOK_S: Final = 0.25
_QUIET_LOOKS_MAX: Final = 4
"""Looks in a row at which a client had sent next to nothing. Looks, not time: a loop that was held up read nobody."""
_QUIET_BYTES: Final = 16 << 10
"""Next to nothing: 64 KiB a second is slower than any line that carries large values."""
_SAY_S: Final = 1.0
"""Those that are given up within this time are told in one line."""


class Sender(Protocol):
    """A connection."""

    def hold_back(self) -> None:
        """Read no more of it until `go_on`."""
        ...

    def go_on(self) -> None:
        """Read it again."""
        ...

    def give_up(self) -> None:
        """Tell the client that its request is not waited for any longer, and let go of what it has sent."""
        ...


@final
class _Held:
    """What one connection has sent."""

    __slots__ = ("bytes", "held_back", "quiet_looks", "seen_bytes")

    def __init__(self) -> None:
        self.bytes = 0
        self.seen_bytes = 0
        """At the last look at which it had gone on."""
        self.quiet_looks = 0
        self.held_back = False


@final
class Unfinished:
    """All requests of one server's clients that are not whole.

    Args:
        bytes_max: How much they may be. Each connection may have one read more.
    """

    def __init__(self, bytes_max: int) -> None:
        self.bytes = 0
        """Now, without those that hold no more than `SMALL_BYTES`."""
        self._bytes_max = bytes_max
        self._held: dict[Sender, _Held] = {}
        """The oldest first."""
        self._freed = Freed()
        self._looking: asyncio.TimerHandle | None = None
        self._saying: asyncio.TimerHandle | None = None
        self._given_up = self._given_up_bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, connection: Sender, size: int) -> None:
        """A connection holds so many bytes now. To be told at each change while it is more than `SMALL_BYTES`."""
        if size <= SMALL_BYTES:
            self.release(connection)
            return
        held = self._held.get(connection)
        if held is None:
            held = self._held[connection] = _Held()
        self.bytes += size - held.bytes
        held.bytes = size
        held.seen_bytes = min(held.seen_bytes, size)
        self._freed.grown(self.bytes)
        if self.bytes > self._bytes_max:
            if not held.held_back and connection not in islice(self._held, _OLDEST):
                held.held_back = True
                connection.hold_back()
            if self._looking is None:
                self._looking = asyncio.get_running_loop().call_later(_LOOK_S, self._look)

    def release(self, connection: Sender) -> None:
        """A connection holds little again, or is gone."""
        held = self._held.pop(connection, None)
        if held is None:
            return
        self.bytes -= held.bytes
        self._freed.shrunk(self.bytes)
        if held.held_back:
            connection.go_on()

    def close(self) -> None:
        """Plan nothing any more: the server has stopped."""
        self._freed.close()
        for planned in (self._looking, self._saying):
            if planned is not None:
                planned.cancel()
        if self._given_up:
            self._say()

    def _look(self) -> None:
        """Give up those that do not go on, and read those again for whom there is room. Comes back while needed."""
        self._looking = None
        quiet = []
        for connection, held in self._held.items():
            if held.bytes - held.seen_bytes >= _QUIET_BYTES or held.held_back:
                held.seen_bytes = held.bytes
                held.quiet_looks = 0
            else:
                held.quiet_looks += 1
                if held.quiet_looks >= _QUIET_LOOKS_MAX:
                    quiet.append(connection)
        if self.bytes > self._bytes_max:
            self._give_up(quiet)
        self._read_again()
        if self.bytes > self._bytes_max or any(held.held_back for held in self._held.values()):
            self._looking = asyncio.get_running_loop().call_later(_LOOK_S, self._look)

    def _give_up(self, quiet: list[Sender]) -> None:
        for connection in quiet:
            if self.bytes <= _LEFT * self._bytes_max:
                break
            self._given_up += 1
            self._given_up_bytes += self._held[connection].bytes
            self.release(connection)
            connection.give_up()
        if self._given_up and self._saying is None:
            self._saying = asyncio.get_running_loop().call_later(_SAY_S, self._say)

    def _read_again(self) -> None:
        """The oldest and the newest in any case, then by age as many as there is room for, if each brings a read."""
        room = max(0, int(_FILLED * self._bytes_max) - self.bytes) // _READ_BYTES
        may = [connection for connection in islice(self._held, _OLDEST) if self._held[connection].held_back]
        rest = [connection for connection in islice(self._held, _OLDEST, None) if self._held[connection].held_back]
        may += rest[-_NEWEST:]
        may += rest[:-_NEWEST][: max(0, room - len(may))]
        for connection in may:
            held = self._held.get(connection)
            if held is not None and held.held_back:
                held.held_back = False
                connection.go_on()

    def _say(self) -> None:
        self._saying = None
        log.warning("unfinished requests given up", connections=self._given_up, bytes=self._given_up_bytes)
        self._given_up = self._given_up_bytes = 0
