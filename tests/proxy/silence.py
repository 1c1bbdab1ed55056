"""Addresses at which nobody answers, not even with a refusal."""

import contextlib
import socket
from collections.abc import Iterator
from typing import Final

_ENOUGH: Final = 8
"""Of connections that nobody accepts, for a queue of length 0."""


@contextlib.contextmanager
def silent(host: str, port: int = 0) -> Iterator[tuple[str, int]]:
    """A port that swallows SYNs: the queue of those who wait there to be accepted is full."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind((host, port))
        listening.listen(0)
        address = listening.getsockname()
        for _ in range(_ENOUGH):
            waiting = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            waiting.setblocking(False)
            waiting.connect_ex(address)
        yield address
