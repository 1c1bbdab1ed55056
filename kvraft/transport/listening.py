"""A socket that listens for peers."""

import socket
from typing import Final, final

_BACKLOG: Final = 128


@final
class ListenError(Exception):
    """A peer address cannot be listened on. The text names it."""


def listen(address: str) -> socket.socket:
    """A listening socket on `host:port`; an IPv6 host in brackets, port 0 for a free one.

    Raises:
        ListenError: the address is taken or not ours.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    everywhere = host in {"::", "0.0.0.0"} and socket.has_dualstack_ipv6()  # noqa: S104 -- as the operator asked
    if everywhere:
        host = "::"  # IPv4 and IPv6 for both, as in Go (net/ipsock_posix.go, favoriteAddrFamily)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not everywhere)
        listening.bind((host, int(port)))
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise ListenError(f"cannot listen for peers on {address}: {error.strerror or error}") from None
    return listening
