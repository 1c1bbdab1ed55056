"""A member in which something goes wrong when it is sent SIGUSR1.

    SPOIL=apply python -m tests.cluster.spoiled_member PYTHON -m kvraft FLAGS...

What goes wrong is a bug of kvraft's own, a lack of memory, or a Python that stands still: nothing that comes from
outside, so nothing from outside can bring it about.
"""

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from kvraft import cli
from kvraft.keyspace.event_history import EventHistory
from kvraft.member.chores import Chores
from kvraft.member.peer_port import PeerPort
from kvraft.storage import failpoints
from kvraft.storage.state_store import StateStore
from kvraft.transport.transport import PeerTransport


class SpoiledError(Exception):
    """The bug."""


def _raising(owner: type, name: str, error: type[BaseException]) -> Callable[[], None]:
    """From now on this method raises; before, it is as ever."""

    def spoil() -> None:
        def method(*_arguments: Any, **_named: Any) -> None:
            raise error("spoiled")

        setattr(owner, name, method)

    return spoil


def _in_callback() -> None:
    def callback() -> None:
        raise SpoiledError

    asyncio.get_running_loop().call_soon_threadsafe(callback)


def _in_task() -> None:
    loop = asyncio.get_running_loop()

    async def task() -> None:
        raise SpoiledError

    def begin() -> None:
        loop.create_task(task()).add_done_callback(lambda done: None)

    loop.call_soon_threadsafe(begin)


def _on_thread(failpoint: str) -> Callable[[], None]:
    def fail() -> None:
        raise MemoryError

    return lambda: failpoints.register(failpoint, fail)


def _stall(seconds: float) -> Callable[[], None]:
    """No Python thread of this process runs for so long: usleep is called without giving up the GIL."""
    library = ctypes.PyDLL(None)
    return lambda: library.usleep(int(seconds * 1_000_000))


SPOILS: Final[dict[str, Callable[[], None]]] = {
    "half an apply": _raising(EventHistory, "add", MemoryError),
    "frames": _raising(PeerPort, "_take_frames", SpoiledError),
    "sending": _raising(PeerTransport, "send", SpoiledError),
    "chores": _raising(Chores, "expire", SpoiledError),
    "log thread": _on_thread("log.before_commit"),
    "state thread": _on_thread("state.before_commit"),
    "flush": _raising(StateStore, "flush", SpoiledError),
    "callback": _in_callback,
    "task": _in_task,
    "short stall": _stall(0.35),
    "long stall": _stall(3.0),
}


def main() -> int:
    """Run kvraft, and spoil it when told to; the first words are the command that it stands for."""
    spoil = SPOILS[os.environ["SPOIL"]]

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        spoil()

    signal.signal(signal.SIGUSR1, on_signal)
    return cli.main(sys.argv[4:])


if __name__ == "__main__":
    sys.exit(main())
