"""Who holds a port, so that a member that cannot listen says which process to look at (proc(5))."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Final, final

_LISTEN: Final = "0A"
"""TCP_LISTEN in the `st` column of /proc/net/tcp."""


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
