import contextlib
import socket
import subprocess
import sys

from kvraft.testing import ports


def test_reserved_port_is_not_given_to_another_process() -> None:
    """Two test runs beside each other never get the same port, even while nobody listens on it."""
    reservation = ports.reserve(3)
    script = "from kvraft.testing import ports; print(*ports.reserve(40).ports)"
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    reservation.release()
    assert len(output.split()) == 40
    assert not {int(word) for word in output.split()} & set(reservation.ports)


def test_taken_port_is_passed_over() -> None:
    """A port on which somebody listens without having asked here is not reserved."""
    first = ports.reserve(1)
    with contextlib.closing(socket.create_server((ports.LOOPBACK, first.ports[0]))):
        first.release()
        second = ports.reserve(1)
        second.release()
    assert second.ports != first.ports


def test_released_port_can_be_reserved_again() -> None:
    """Releasing gives the lock back, and releasing twice is allowed."""
    first = ports.reserve(1)
    first.release()
    first.release()
    second = ports.reserve(1)
    second.release()
    assert second.ports == first.ports
