"""A socket that listens for peers."""

import socket
from typing import final

from kvraft import sockets


@final
class ListenError(Exception):
    """A peer address cannot be listened on. The text names it."""


def listen(address: str) -> socket.socket:
    """A listening socket on `host:port`; an IPv6 host in brackets, port 0 for a free one.

    Raises:
        ListenError: the address is taken or not ours.
    """
    host, _, port = address.rpartition(":")
    try:
        return sockets.listen(host.strip("[]"), int(port))
    except OSError as error:
        raise ListenError(f"cannot listen for peers on {address}: {error.strerror or error}") from None
