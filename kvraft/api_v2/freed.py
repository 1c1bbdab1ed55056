"""Memory that a server's clients held and hold no more, given back to the system."""

import asyncio
from typing import Final, final

from kvraft import clock, heap

_TRIM_BYTES: Final = 8 << 20
"""Given back when so much has been let go: less is soon used again."""
_TRIM_MS: Final = 10_000
"""At most once in so long: it takes milliseconds in which nobody gets memory."""


@final
class Freed:
    """Sees how much is held, and gives memory back some time after it has become much less."""

    def __init__(self) -> None:
        self._peak_bytes = 0
        """The most since memory was given back."""
        self._held_bytes = 0
        self._trimmed_ms = -_TRIM_MS
        self.planned: asyncio.TimerHandle | None = None

    def grown(self, held_bytes: int) -> None:
        """So much is held now, more than before."""
        self._held_bytes = held_bytes
        self._peak_bytes = max(self._peak_bytes, held_bytes)

    def shrunk(self, held_bytes: int) -> None:
        """So much is held now, less than before."""
        self._held_bytes = held_bytes
        if self._peak_bytes - held_bytes >= _TRIM_BYTES and self.planned is None:
            wait_s = max(1000, self._trimmed_ms + _TRIM_MS - clock.monotonic_ms()) / 1000
            self.planned = asyncio.get_running_loop().call_later(wait_s, self._trim)

    def close(self) -> None:
        """Plan nothing any more."""
        if self.planned is not None:
            self.planned.cancel()

    def _trim(self) -> None:
        self.planned = None
        self._trimmed_ms = clock.monotonic_ms()
        self._peak_bytes = self._held_bytes
        asyncio.get_running_loop().run_in_executor(None, heap.give_back)
