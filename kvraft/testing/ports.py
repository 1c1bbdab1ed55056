"""Loopback ports for members that are started by tests.

A port found by binding to 0 and closing again may be taken before the member binds it, by another test or as the
local end of any outgoing connection. So ports come from below the kernel's ephemeral range, and each is reserved by a
lock on a file named after it, for as long as its `Reservation` lives: across restarts of the member, against every
other process that asks here, and released by the kernel when this process dies.
"""

import contextlib
import errno
import fcntl
import itertools
import os
import pathlib
import socket
import tempfile
from collections.abc import Iterator
from typing import Final, final

LOOPBACK: Final = "127.0.0.1"
_RANGE: Final = range(10_000, 20_000)
"""Below `net.ipv4.ip_local_port_range` (32768 and up) and clear of the ports of `make run` and of the benchmarks."""


class NoFreePortError(Exception):
    """Every port of the range is reserved or taken."""


@final
class Reservation:
    """Some ports that are ours until `release`, or until this process ends."""

    def __init__(self, ports: tuple[int, ...], locks: tuple[int, ...]) -> None:
        self.ports: Final = ports
        self._locks = locks

    def release(self) -> None:
        """Let others have the ports. May be called twice."""
        for lock in self._locks:
            os.close(lock)
        self._locks = ()


def reserve(count: int) -> Reservation:
    """Reserve `count` ports on which nobody listens now.

    Raises:
        NoFreePortError: fewer than `count` ports are left.
    """
    ports: list[int] = []
    locks: list[int] = []
    for port in _candidates():
        lock = _lock(port)
        if lock is None:
            continue
        if not is_free(port):
            os.close(lock)
            continue
        ports.append(port)
        locks.append(lock)
        if len(ports) == count:
            return Reservation(tuple(ports), tuple(locks))
    for lock in locks:
        os.close(lock)
    raise NoFreePortError(f"{count} ports wanted of {_RANGE.start}-{_RANGE.stop - 1}, {len(ports)} are free")


def may_listen(port: int, host: str = LOOPBACK) -> bool:
    """Whether this user may open such a listener at all: ports below 1024 are root's."""
    with contextlib.closing(socket.socket()) as probe:
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.errno != errno.EACCES
    return True


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether a listener could be opened here now. A port in TIME_WAIT counts as free, as it does for servers."""
    with contextlib.closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno in {errno.EADDRINUSE, errno.EACCES}:
                return False
            raise
    return True


def _candidates() -> Iterator[int]:
    """Every port of the range once; processes start at different places, so that they rarely try the same."""
    start = (os.getpid() * 37) % len(_RANGE)
    return itertools.chain(_RANGE[start:], _RANGE[:start])


def _lock(port: int) -> int | None:
    directory = pathlib.Path(tempfile.gettempdir()) / f"kvraft-ports.{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    lock = os.open(directory / str(port), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock
