"""Passwords hashed and compared, on threads of their own: one takes some 50 ms of a core.

bcrypt, as etcd does it: cost 10, and no more than the first 72 bytes count. The library is imported when auth is on, or
with the first one: a member without auth never has it.
"""

import asyncio
import functools
import hmac
import os
import re
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar, final

from kvraft import clock, logs

log = logs.get(__name__)

COST: Final = 10
"""etcd's (bcrypt.DefaultCost): 2**10 rounds."""
BYTES_MAX: Final = 72
"""What bcrypt looks at."""
WAITING_MAX: Final = 256
"""Passwords that wait for their turn or have it, about 15 s of work. One more is refused."""
_HASH: Final = re.compile(rb"\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}")
_SETTING_BYTES: Final = 29
"""Of a hash: how it was made, the salt included."""
_T = TypeVar("_T")
_NICENESS: Final = 10
"""Whoever tries passwords must not slow down those who need none."""
_QUICK_SHARE: Final = 10
_QUICK_MAX_NS: Final = 10**9
"""What comes when none waits is not put behind the others' work, so that a first login is no slower than etcd's on a
busy machine: for a second of a core at once, and a tenth of the time for good, so that guesses get no more. What the
machine gives to others meanwhile does not count: a thread that steps back may wait for its 60 ms for a minute there."""


@final
class Passwords:
    """Hashes and compares for one member. Everything is called, and calls back, on the event loop."""

    def __init__(self, cost: int = COST) -> None:
        self._cost = cost
        self._waiting = 0
        self._is_closed = False
        self._threads: ThreadPoolExecutor | None = None
        self._quick: ThreadPoolExecutor | None = None
        """One thread as urgent as all others."""
        self._quick_left_ns = _QUICK_MAX_NS
        self._counted_ns = clock.monotonic_ns()

    def get_ready(self) -> None:
        """Load the library beside the loop: passwords are about to come."""
        self._submit(_load, is_quick=True)

    def hash(self, password: bytes, done: Callable[[bytes | None], None]) -> None:
        """Hash a new password; `done` gets bcrypt's text, or None if too many wait or it could not be done."""
        self._start(lambda: _hash(password, self._cost), done)

    def check(self, password: bytes, password_hash: bytes | None, done: Callable[[bool | None], None]) -> None:
        """Compare a password with a stored hash, or with nobody's; `done` gets None as from `hash`.

        An unknown user takes as long as a known one, so that nobody can find out who is there.
        """
        self._start(lambda: _is_right(password, password_hash, self._cost), done)

    def _start(self, work: Callable[[], _T], done: Callable[[_T | None], None]) -> None:
        loop = asyncio.get_running_loop()
        if self._waiting >= WAITING_MAX:
            loop.call_soon(done, None)
            return
        now_ns = clock.monotonic_ns()
        earned_ns = (now_ns - self._counted_ns) // _QUICK_SHARE
        self._quick_left_ns = min(_QUICK_MAX_NS, self._quick_left_ns + earned_ns)
        self._counted_ns = now_ns
        is_quick = not self._waiting and self._quick_left_ns > 0
        used_ns = 0

        def counted() -> _T:
            nonlocal used_ns
            before_ns = clock.thread_cpu_ns()
            try:
                return work()
            finally:
                used_ns = clock.thread_cpu_ns() - before_ns

        def finished(future: asyncio.Future[_T]) -> None:
            self._waiting -= 1
            if is_quick:
                self._quick_left_ns -= used_ns
            if future.cancelled():
                if not self._is_closed:
                    done(None)  # it waited in a pool that another one has found without threads
                return
            error = future.exception()
            if error is None:
                done(future.result())
            else:
                log.error("a password could not be hashed", exc_info=error)
                done(None)

        running = self._submit(counted, is_quick=is_quick)
        if running is None:
            loop.call_soon(done, None)
            return
        self._waiting += 1
        asyncio.wrap_future(running, loop=loop).add_done_callback(finished)

    def _submit(self, work: Callable[[], _T], *, is_quick: bool) -> Future[_T] | None:
        """Begin it on a thread; None if the system has none left for it."""
        threads = self._quick_thread() if is_quick else self._other_threads()
        try:
            return threads.submit(work)
        except RuntimeError as error:
            log.error("a password could not be hashed", error=str(error))  # noqa: TRY400 -- no bug of ours to trace
            # It is in the pool's queue all the same, with its password, and the next one would wait for it.
            threads.shutdown(wait=False, cancel_futures=True)
            if not self._is_closed:
                self._quick, self._threads = (
                    None if pool is threads else pool for pool in (self._quick, self._threads)
                )
            return None

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
        self._is_closed = True
        for threads in (self._quick, self._threads):
            if threads is not None:
                threads.shutdown(wait=False, cancel_futures=True)


def _step_back() -> None:
    """Give way to the other threads (on Linux a thread has a niceness of its own)."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


def _load() -> None:
    import bcrypt  # noqa: F401, PLC0415 -- see the module

    _system()


@functools.cache
def _system() -> Callable[[bytes, bytes], bytes] | None:
    from kvraft.security import system_bcrypt  # noqa: PLC0415 -- with ctypes, for passwords alone

    return system_bcrypt.find()


def _hash(password: bytes, cost: int) -> bytes:
    import bcrypt  # noqa: PLC0415 -- see the module

    return bcrypt.hashpw(password[:BYTES_MAX], bcrypt.gensalt(cost))


def _is_right(password: bytes, password_hash: bytes | None, cost: int) -> bool:
    """Whoever has no hash, or none of bcrypt's, is compared with one that nobody has."""
    is_hash = password_hash is not None and _HASH.fullmatch(password_hash) is not None
    compared = password_hash if is_hash and password_hash is not None else b"$2b$%02d$" % cost + 53 * b"."
    # $2a$ is Go's name for what is $2b$ elsewhere, and with libxcrypt something of its own.
    found = _hash_again(password[:BYTES_MAX], b"$2b" + compared[3:])
    return hmac.compare_digest(found[3:], compared[3:]) and is_hash


def _hash_again(password: bytes, compared: bytes) -> bytes:
    """The hash of a password, made as another one was."""
    hashed = _system()
    if hashed is not None and b"\0" not in password:
        return hashed(password, compared[:_SETTING_BYTES])
    import bcrypt  # noqa: PLC0415 -- see the module

    try:
        return bcrypt.hashpw(password, compared[:_SETTING_BYTES])
    except ValueError:
        return b""  # it says that it was made in a way in which none can be
