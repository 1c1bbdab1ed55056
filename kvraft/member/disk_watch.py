"""Looks after the disk before it fails: a floor of free space, and old log records read again.

A full disk fails a commit, and a member whose commit failed must stop. So below the floor a member takes no more
writes from its clients, and a leader hands over, while what is in flight still fits (design decision 4).
"""

from collections.abc import Callable
from typing import Final, final

from kvraft import logs
from kvraft.member.interfaces import LogStore
from kvraft.raft.restored import LogPosition

FREE_BYTES_FLOOR: Final = 32 << 20
"""Room for the log batches and the flush that may be under way."""
SCRUB_ENTRIES: Final = 25
"""Old entries verified in one look: about 0.1 ms, a million entries in an hour and a half."""

log = logs.get(__name__)


@final
class DiskWatch:
    """Called now and then by the member's housekeeping."""

    def __init__(self, log_store: LogStore, free_bytes: Callable[[], int]) -> None:
        self._log_store = log_store
        self._free_bytes = free_bytes
        self._scrubbed: LogPosition | None = None
        self.is_full = False
        """Whether clients' writes are refused."""

    def look(self) -> None:
        """Measure free space, and verify the next few entries.

        Raises:
            Exception: what storage raises for a damaged record; the member stops.
        """
        self._scrubbed = self._log_store.scrub(self._scrubbed, SCRUB_ENTRIES)
        free_bytes = self._free_bytes()
        if free_bytes < FREE_BYTES_FLOOR and not self.is_full:
            log.error("disk nearly full: client writes are refused until space is freed", free_bytes=free_bytes)
        elif free_bytes >= FREE_BYTES_FLOOR and self.is_full:
            log.info("disk has room again: client writes are taken", free_bytes=free_bytes)
        self.is_full = free_bytes < FREE_BYTES_FLOOR
