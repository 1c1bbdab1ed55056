"""Loopback ports for members that are started by tests, and the names of those who hold a port.

A port found by binding to 0 and closing again may be taken before the member binds it, by another test or as the
local end of any outgoing connection. So ports come from below the kernel's ephemeral range, and each is reserved by a
lock on a file named after it, for as long as its `Reservation` lives: across restarts of the member, against every
other process that asks here, and released by the kernel when this process dies.
"""

import contextlib
import dataclasses
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
_LISTEN: Final = "0A"
"""TCP_LISTEN in the `st` column of /proc/net/tcp."""


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


@final
@dataclasses.dataclass(slots=True, frozen=True)
class Holder:
    """The process that listens on a port."""

    pid: int
    command: str
    """Its command line, cut after 120 characters."""

    def __str__(self) -> str:
        """`pid 4711 (etcd --name n1)`."""
        return f"pid {self.pid} ({self.command})"


def holder_of(port: int) -> Holder | None:
    """The process that listens on `port`, on any address; None if nobody does or it may not be seen by this user."""
    inodes = _listening_inodes(port)
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        for descriptor in _descriptors(process):
            if descriptor in inodes:
                return Holder(int(process.name), _command_line(process))
    return None


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


def _listening_inodes(port: int) -> frozenset[str]:
    """`socket:[inode]` of every listener on `port` (proc(5): local address in hex, state, ..., inode)."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(FileNotFoundError):
            for line in pathlib.Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{fields[9]}]")
    return frozenset(inodes)


def _descriptors(process: pathlib.Path) -> Iterator[str]:
    # A process may end while it is looked at, and others' descriptors are closed to us: neither is the one we seek.
    with contextlib.suppress(OSError):
        for descriptor in (process / "fd").iterdir():
            with contextlib.suppress(OSError):
                yield str(descriptor.readlink())


def _command_line(process: pathlib.Path) -> str:
    with contextlib.suppress(OSError):
        words = (process / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        return " ".join(word.decode(errors="replace") for word in words)[:120]
    return "unknown command"
