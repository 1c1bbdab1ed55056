"""Work beside everything else, whose end somebody hears of: threads that nobody waits for, tasks that must live."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from typing import TypeVar, final

T = TypeVar("T")


def in_a_thread(name: str, work: Callable[[], T]) -> asyncio.Future[T]:
    """Begin it. The future ends as the work does, with what it raises too: whoever waits hears of every end.

    The thread holds up neither other work nor the end of the process. What it does when the loop has closed, or
    whoever waited has given up, is nobody's. Where the system gives no more threads the future ends with RuntimeError.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def finish(found: T | None, error: Exception | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(found)  # type: ignore[arg-type]  # without an error it is what the work has returned
        else:
            future.set_exception(error)

    def run() -> None:
        found, failure = None, None
        try:
            found = work()
        except Exception as error:  # noqa: BLE001 -- whatever it is, the one who waits is told
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop has closed meanwhile: nobody waits any more
            loop.call_soon_threadsafe(finish, found, failure)

    try:
        threading.Thread(target=run, name=name, daemon=True).start()
    except RuntimeError as error:
        future.set_exception(error)
    return future


@final
class Lasting:
    """A task that must live until its owner ends it.

    Any other end is a defect: the loop's exception handler is told of it, as of one in a callback, and stops the
    process. Without this a task that is dead is noticed when somebody misses what it did.
    """

    def __init__(self, work: Coroutine[None, None, None], name: str, *, may_return: bool = False) -> None:
        """Begin.

        Args:
            work: what to do.
            name: for the handler.
            may_return: it is done some time, but must not fail.
        """
        self._may_return = may_return
        self._is_over = False
        self.task = asyncio.get_running_loop().create_task(work, name=name)
        self.task.add_done_callback(self._on_ended)

    def end(self) -> None:
        """It is not needed any more."""
        self._is_over = True
        self.task.cancel()

    def _on_ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if self._is_over or (error is None and self._may_return and not task.cancelled()):
            return
        defect = RuntimeError(f"what must live has ended: {task.get_name()}: {error!r}")
        defect.__cause__ = error
        task.get_loop().call_exception_handler({"message": str(defect), "exception": defect, "task": task})
