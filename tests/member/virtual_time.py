"""An event loop whose clock jumps to the next timer: seconds of a cluster's life in milliseconds, the same each time.

No thread and no socket takes part, so the order of callbacks is a function of the code and the seed alone.
"""

import asyncio
import selectors
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeVar, final

import pytest

from kvraft import clock

T = TypeVar("T")

_NS: Final = 1_000_000_000
_START_NS: Final = 1_000 * _NS


@final
class StalledError(Exception):
    """Everything waits and nothing is due: something will never end."""


@final
class _Jump(selectors.BaseSelector):
    """Waits for nothing: time goes on instead."""

    def __init__(self) -> None:
        self.now_ns = _START_NS

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise StalledError
        if timeout > 0:
            self.now_ns += max(1, round(timeout * _NS))
        return []

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return selectors.SelectorKey(fileobj, 0, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return selectors.SelectorKey(fileobj, 0, 0, None)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return {}


@final
class VirtualLoop(asyncio.SelectorEventLoop):
    """Single-threaded; keeps what nobody handled in `unhandled`."""

    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)
        self.unhandled: list[str] = []
        self.set_exception_handler(self._keep)

    def time(self) -> float:
        return self._jump.now_ns / _NS

    @property
    def now_ns(self) -> int:
        """The monotonic clock of everybody here."""
        return self._jump.now_ns

    def spend(self, milliseconds: int) -> None:
        """Let time pass within a callback, as work does."""
        self._jump.now_ns += milliseconds * 1_000_000

    def _keep(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.unhandled.append(f"{context.get('message')}: {context.get('exception')!r}")

    def _write_to_self(self) -> None:
        """Nobody sleeps in a selector here."""


@contextmanager
def clocks_of(loop: VirtualLoop) -> Iterator[None]:
    """`kvraft.clock` shows this loop's time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "monotonic_ms", lambda: loop.now_ns // 1_000_000)
        patch.setattr(clock, "monotonic_ns", lambda: loop.now_ns)
        patch.setattr(clock, "wall_ns", lambda: 1_700_000_000 * _NS + loop.now_ns)
        yield


def run(story: Coroutine[Any, Any, T], *, unhandled: list[str] | None = None) -> T:
    """Run a coroutine in virtual time. Exceptions that nobody handled are an error, unless a list takes them."""
    loop = VirtualLoop()
    try:
        with clocks_of(loop):
            asyncio.set_event_loop(None)
            result = loop.run_until_complete(story)
            rest = asyncio.all_tasks(loop)
            for task in rest:
                task.cancel()
            if rest:
                loop.run_until_complete(asyncio.wait(rest))
    finally:
        loop.close()
    if unhandled is not None:
        unhandled.extend(loop.unhandled)
    else:
        assert loop.unhandled == []
    return result


async def turns(count: int = 20) -> None:
    """Let the loop come round some times without any time passing."""
    for _ in range(count):
        await asyncio.sleep(0)
