"""Where clients connect, before anybody serves them there."""

import asyncio
import contextlib
import socket
import struct
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

    def turn_away(self) -> None:
        """Reset who connects, from now on until the listener is served: clients then ask another member at once."""
        self.socket.setblocking(False)
        asyncio.get_running_loop().add_reader(self.socket, self._reset_all)

    def _reset_all(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                connection, _ = self.socket.accept()
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                connection.close()


def bind(host: str, port: int) -> Listener:
    """A listener on a TCP address; port 0 means any free one.

    Raises:
        OSError: The address is taken or not ours; its text does not name the address.
    """
    return Listener(sockets.listen(host, port))
