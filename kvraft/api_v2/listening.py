"""Where clients connect, before anybody serves them there."""

import asyncio
import os
import select
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, final

from kvraft import sockets

_RESET: Final = struct.pack("ii", 1, 0)
"""struct linger: close at once, without the four-way goodbye that would look like an answer."""


class Tls(Protocol):
    """What encrypts a listener's connections; each is then like a plain one."""

    def behind(self, new_protocol: Callable[[], asyncio.Protocol], /) -> Callable[[], asyncio.Protocol]:
        """A factory for the listener, whose connections get these protocols once they are encrypted."""
        ...

    def close(self) -> None:
        """Give up handshakes that are under way."""
        ...


@final
@dataclass(slots=True)
class Listener:
    """Where clients connect."""

    socket: socket.socket
    """Bound and listening, so that nobody else can have the address; closed by the server."""
    tls: Tls | None = None
    """None for plain HTTP."""

    _turning_away: "_TurningAway | None" = None

    def turn_away(self) -> None:
        """Reset who connects, from now on until `open`: clients then ask another member at once."""
        self._turning_away = _TurningAway(self.socket)

    def open(self) -> None:
        """Whoever connects from now on is served."""
        if self._turning_away is not None:
            self._turning_away.end()
            self._turning_away = None

    def close(self) -> None:
        """Nobody can connect any more."""
        self.open()
        self.socket.close()


@final
class _TurningAway:
    """Resets connections in a thread: a start may wait for others, and block, for as long as it takes them to come."""

    _WITHOUT_FILES_MS: Final = 100
    """Before the next attempt to accept where no file could be opened."""
    _RESETS_MAX: Final = 100
    """Before the next look at whether it is over: clients that connect again at once would have it go on for ever."""

    def __init__(self, listening: socket.socket) -> None:
        listening.setblocking(False)
        self._listening = listening
        self._wake = os.eventfd(0)
        self._thread = threading.Thread(target=self._run, name="turning away", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """No connection is touched after this."""
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        os.close(self._wake)

    def _run(self) -> None:
        is_over, both = select.poll(), select.poll()
        is_over.register(self._wake, select.POLLIN)
        both.register(self._wake, select.POLLIN)
        both.register(self._listening, select.POLLIN)
        wait_ms = 0
        while not is_over.poll(wait_ms):
            both.poll()
            wait_ms = 0 if self._reset_some() else self._WITHOUT_FILES_MS

    def _reset_some(self) -> bool:
        """False if no file could be opened for the next one."""
        for _ in range(self._RESETS_MAX):
            try:
                connection, _ = self._listening.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return True
            except OSError:
                return False
            with connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        return True


def bind(host: str, port: int) -> Listener:
    """A listener on a TCP address; port 0 means any free one.

    Raises:
        OSError: The address is taken or not ours; its text does not name the address.
    """
    return Listener(sockets.listen(host, port))
