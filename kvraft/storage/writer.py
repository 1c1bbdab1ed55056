"""The two threads that write, and how a failure on either of them ends everything.

LMDB accepts the next commit after a failed sync, and the kernel may report a lost write only once. So the first error
is remembered for good: it is told to the member once, and no later write is attempted, let alone acknowledged.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final, TypeVar, final

from kvraft.storage.errors import StorageError, StorageFailedError

T = TypeVar("T")


@final
class FailureLatch:
    """Remembers the first error of either environment, and tells the member of it on its event loop."""

    def __init__(self) -> None:
        self.failure: StorageError | None = None
        """What went wrong first; never replaced."""
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_failure: Callable[[StorageError], None] | None = None

    def bind(self, loop: asyncio.AbstractEventLoop, on_failure: Callable[[StorageError], None]) -> None:
        """From now on failures are told to `on_failure` on `loop`."""
        self._loop = loop
        self._on_failure = on_failure

    def report(self, doing: str, error: BaseException) -> None:
        """Record that something failed. Only the first one counts. Any thread may call it."""
        with self._lock:
            if self.failure is not None:
                return
            detail = f"{type(error).__name__}: {error}"
            self.failure = (
                error if isinstance(error, StorageError) else StorageFailedError(f"{doing} failed: {detail}; stopping")
            )
            self.failure.__cause__ = error if error is not self.failure else None
        assert self._loop is not None
        assert self._on_failure is not None
        self._call(self._on_failure, self.failure)

    def tell(self, callback: Callable[[T], None], fact: T) -> None:
        """Call back on the loop, from any thread, unless something has failed by then.

        What succeeded on one thread is not acknowledged either once the other one has failed.
        """
        self._call(self._unless_failed, (callback, fact))

    def _unless_failed(self, told: tuple[Callable[[T], None], T]) -> None:
        callback, fact = told
        if self.failure is None:
            callback(fact)

    def _call(self, callback: Callable[[T], None], fact: T) -> None:
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits for the fact any more
            self._loop.call_soon_threadsafe(callback, fact)


@final
class StorageThread:
    """Runs jobs one after the other. A job that raises fails the latch; later jobs are then dropped."""

    def __init__(self, name: str, latch: FailureLatch) -> None:
        self._latch = latch
        self._jobs: SimpleQueue[tuple[str, Callable[[], None]] | None] = SimpleQueue()
        self._thread: Final = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, doing: str, job: Callable[[], None]) -> None:
        """Queue a job; `doing` names it should it fail."""
        self._jobs.put((doing, job))

    def finish(self) -> None:
        """Do what is queued, then end."""
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (work := self._jobs.get()) is not None:
            if self._latch.failure is not None:
                continue
            doing, job = work
            try:
                job()
            except Exception as error:  # noqa: BLE001 -- whatever it is, nothing written after it could be trusted
                self._latch.report(doing, error)
