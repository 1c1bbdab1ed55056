"""Virtual time: actions run in order of their time, ties in order of their scheduling."""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import final


class StormError(Exception):
    """Far more events than time could explain: something answers itself for ever."""


class DiskStopError(Exception):
    """A server's process ends in the middle of what it does, because of its disk."""

    def __init__(self, server_id: int, reason: str) -> None:
        super().__init__(reason)
        self.server_id = server_id
        self.reason = reason


@final
class Scheduler:
    """A queue of actions. Time is in whole microseconds and starts at 0."""

    def __init__(self) -> None:
        self.now_us = 0
        self.events_run = 0
        self.events_max = 1 << 62
        """`run_until` raises `StormError` beyond so many events in all."""
        self.on_disk_stop: Callable[[DiskStopError], None] = _unexpected
        """Called when the disk of a server has ended what the server was doing."""
        self._heap: list[tuple[int, int, Callable[..., None], tuple[object, ...]]] = []
        self._sequence = 0

    @property
    def now_ms(self) -> int:
        """Virtual time in whole milliseconds."""
        return self.now_us // 1000

    def at(self, when_us: int, action: Callable[..., None], *arguments: object) -> None:
        """Run `action(*arguments)` at `when_us`, or now if that has passed."""
        self._sequence += 1
        when_us = max(when_us, self.now_us)
        heappush(self._heap, (when_us, self._sequence, action, arguments))

    def after(self, delay_us: int, action: Callable[..., None], *arguments: object) -> None:
        """Run `action(*arguments)` after `delay_us`."""
        self._sequence += 1
        when_us = self.now_us + delay_us if delay_us > 0 else self.now_us
        heappush(self._heap, (when_us, self._sequence, action, arguments))

    def run_until(self, end_us: int, done: Callable[[], bool] | None = None) -> bool:
        """Run everything due by `end_us` and set the time to it; stop early, at the time reached, once `done()` holds.

        Returns:
            Whether `done()` held; False without `done`.
        """
        heap = self._heap
        while heap and heap[0][0] <= end_us:
            when_us, _, action, arguments = heappop(heap)
            self.now_us = when_us
            self.events_run += 1
            if self.events_run > self.events_max:
                raise StormError(f"{self.events_run} events by {self.now_ms} ms")
            try:
                action(*arguments)
            except DiskStopError as stop:
                self.on_disk_stop(stop)
            if done is not None and done():
                return True
        self.now_us = end_us
        return False


def _unexpected(stop: DiskStopError) -> None:
    raise AssertionError(stop)
