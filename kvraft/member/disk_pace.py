"""Whether the disk is quick enough for commits on the event loop, or stalls and has to be waited for elsewhere."""

from collections import deque
from typing import Final, final

_SLOW_FOR_MS: Final = 10_000
"""A disk that stalled once may do so again: so long the log thread commits, and as long as its last commit was slow."""


@final
class DiskPace:
    """Times the commits of one log. One on the loop holds up heartbeats too: one of seconds costs the leadership."""

    def __init__(self, slow_ms: int) -> None:
        """A commit that takes `slow_ms` or longer is slow."""
        self._slow_ms = slow_ms
        self._was_slow = False
        self._slow_until_ms = 0
        self._handed_over: deque[tuple[int, int]] = deque()
        """(batch id, when it was given to the log thread), ascending."""

    def is_quick(self, now_ms: int) -> bool:
        """Whether a commit may be expected to take no time that anybody notices."""
        return not self._was_slow and now_ms >= self._slow_until_ms

    def took(self, milliseconds: int, now_ms: int) -> None:
        """A commit has ended."""
        self._was_slow = milliseconds >= self._slow_ms
        if self._was_slow:
            self._slow_until_ms = now_ms + _SLOW_FOR_MS

    def handed_over(self, batch_id: int, now_ms: int) -> None:
        """The log thread is to commit a batch."""
        self._handed_over.append((batch_id, now_ms))

    def durable(self, batch_id: int, now_ms: int) -> None:
        """The log thread has committed batches up to this one."""
        while self._handed_over and self._handed_over[0][0] <= batch_id:
            self.took(now_ms - self._handed_over.popleft()[1], now_ms)
