"""Passwords hashed and compared, on threads of their own: one takes some 60 ms of a core.

bcrypt, as etcd does it: cost 10, and no more than the first 72 bytes count. The library is imported when auth is on, or
with the first one: a member without auth never has it.
"""

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar, final

from kvraft import clock

COST: Final = 10
"""etcd's (bcrypt.DefaultCost): 2**10 rounds."""
BYTES_MAX: Final = 72
"""What bcrypt looks at."""
WAITING_MAX: Final = 256
"""Passwords that wait for their turn or have it, about 15 s of work. One more is refused."""
_T = TypeVar("_T")
_NICENESS: Final = 10
"""Whoever tries passwords must not slow down those who need none."""
_PAUSES: Final = 10
"""One that comes when none waits is not put behind the others' work, so that a first login is no slower than etcd's on
a busy machine; then for so many times as long as it took they all are, so that guesses get a tenth of a core."""


@final
class Passwords:
    """Hashes and compares for one member. Everything is called, and calls back, on the event loop."""

    def __init__(self, cost: int = COST) -> None:
        self._cost = cost
        self._waiting = 0
        self._threads: ThreadPoolExecutor | None = None
        self._quick: ThreadPoolExecutor | None = None
        """One thread as urgent as all others."""
        self._quick_from_ns = 0

    def get_ready(self) -> None:
        """Load the library beside the loop: passwords are about to come."""
        self._quick_thread().submit(_load)

    def hash(self, password: bytes, done: Callable[[bytes | None], None]) -> None:
        """Hash a new password; `done` gets bcrypt's text, or None if too many wait."""
        self._start(lambda: _hash(password, self._cost), done)

    def check(self, password: bytes, password_hash: bytes | None, done: Callable[[bool | None], None]) -> None:
        """Compare a password with a stored hash, or with nobody's; `done` gets None if too many wait.

        An unknown user takes as long as a known one, so that nobody can find out who is there.
        """
        self._start(lambda: _is_right(password, password_hash, self._cost), done)

    def _start(self, work: Callable[[], _T], done: Callable[[_T | None], None]) -> None:
        loop = asyncio.get_running_loop()
        if self._waiting >= WAITING_MAX:
            loop.call_soon(done, None)
            return
        begun_ns = clock.monotonic_ns()
        is_quick = not self._waiting and begun_ns >= self._quick_from_ns
        self._waiting += 1

        def finished(future: asyncio.Future[_T]) -> None:
            self._waiting -= 1
            if is_quick:
                ended_ns = clock.monotonic_ns()
                self._quick_from_ns = ended_ns + _PAUSES * (ended_ns - begun_ns)
            if not future.cancelled():
                done(future.result())

        threads = self._quick_thread() if is_quick else self._other_threads()
        loop.run_in_executor(threads, work).add_done_callback(finished)

    def _quick_thread(self) -> ThreadPoolExecutor:
        if self._quick is None:
            self._quick = ThreadPoolExecutor(1, "passwords-quick")
        return self._quick

    def _other_threads(self) -> ThreadPoolExecutor:
        if self._threads is None:
            workers = max(1, (os.cpu_count() or 1) // 2)
            self._threads = ThreadPoolExecutor(workers, "passwords", _step_back)
        return self._threads

    def close(self) -> None:
        """Let go of the threads; what waits is dropped."""
        for threads in (self._quick, self._threads):
            if threads is not None:
                threads.shutdown(wait=False, cancel_futures=True)


def _step_back() -> None:
    """Give way to the other threads (on Linux a thread has a niceness of its own)."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


def _load() -> None:
    import bcrypt  # noqa: F401, PLC0415 -- see the module


def _hash(password: bytes, cost: int) -> bytes:
    import bcrypt  # noqa: PLC0415 -- see the module

    return bcrypt.hashpw(password[:BYTES_MAX], bcrypt.gensalt(cost))


def _is_right(password: bytes, password_hash: bytes | None, cost: int) -> bool:
    import bcrypt  # noqa: PLC0415 -- see the module

    if password_hash is None:
        bcrypt.hashpw(password[:BYTES_MAX], bcrypt.gensalt(cost))
        return False
    try:
        return bcrypt.checkpw(password[:BYTES_MAX], password_hash)
    except ValueError:
        return False  # no hash of bcrypt's: nothing matches it
