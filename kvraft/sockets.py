"""Sockets that listen, for clients and for peers."""

import socket
from typing import Final

BACKLOG: Final = 4096
"""Connections that may wait to be accepted: a cluster's clients all come back at once after a restart.

An event loop that is given the socket listens once more, and has to be told this number."""


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on a TCP address; port 0 means any free one.

    Raises:
        OSError: The address is taken or not ours; its text does not name the address.
    """
    everywhere = host in {"::", "0.0.0.0"} and socket.has_dualstack_ipv6()  # noqa: S104 -- as the operator asked
    if everywhere:
        host = "::"  # IPv4 and IPv6 for both, as in Go (net/ipsock_posix.go, favoriteAddrFamily)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not everywhere)
        listening.bind((host, port))
        # Two sockets with SO_REUSEADDR can both be bound until one of them listens (socket(7)).
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening
