"""Clients are reset while a start waits, and served as soon as it is done."""

import os
import socket
import threading
from typing import final

from kvraft.api_v2.listening import Listener

ENDLESS = 10_000
"""Many more than are reset between two looks at whether it is over."""


@final
class Besieged(socket.socket):
    """Listens where there is always somebody more to accept."""

    def __init__(self) -> None:
        super().__init__()
        self.accepted = 0
        self.came = threading.Event()
        self.go_on = threading.Event()

    def accept(self) -> tuple[socket.socket, object]:
        self.accepted += 1
        self.came.set()
        assert self.go_on.wait(20)
        if self.accepted >= ENDLESS:
            raise BlockingIOError
        return socket.socket(), None


def test_clients_that_come_back_at_once_hold_up_no_start() -> None:
    """Whoever has connected after a start is done is served, however many are reset and come again."""
    besieged = Besieged()
    besieged.bind(("127.0.0.1", 0))
    besieged.listen()
    listener = Listener(besieged)
    with socket.create_connection(besieged.getsockname()):
        listener.turn_away()
        assert besieged.came.wait(20)
        assert listener._turning_away is not None
        os.eventfd_write(listener._turning_away._wake, 1)
        besieged.go_on.set()
        listener.open()
    assert besieged.accepted < ENDLESS
    listener.close()
