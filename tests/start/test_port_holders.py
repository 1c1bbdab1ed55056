import contextlib
import os
import socket

from kvraft.start import port_holders
from kvraft.testing import ports


def test_holder_of_a_port_is_named() -> None:
    """The process that listens is found by its socket, with its command line."""
    with contextlib.closing(socket.create_server((ports.LOOPBACK, 0))) as server:
        holder = port_holders.holder_of(server.getsockname()[1])
    assert holder is not None
    assert holder.pid == os.getpid()
    assert "python" in holder.command or "pytest" in holder.command


def test_port_without_listener_has_no_holder() -> None:
    """Nobody is blamed for a port that is free."""
    reservation = ports.reserve(1)
    reservation.release()
    assert port_holders.holder_of(reservation.ports[0]) is None
