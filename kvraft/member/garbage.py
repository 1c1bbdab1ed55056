"""When memory is cleared of what nobody needs, and given back.

Python looks for cycles among young objects now and then, among all only while nobody waits (design decision 11).
A full collection visits every node of the tree: 0.2 s at a million. Reference counts free nearly everything here; what
is left for the collector are cycles of closed connections and failed tasks, which can wait for a quiet moment.
"""

import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, final

YOUNG_ALLOCATIONS: Final = 50_000
"""So many more made than freed, and Python looks at the youngest by itself, whatever is under way: some 40 ms, as
nearly all of them live. Housekeeping is there first, see `collect_young`."""
NEVER: Final = 1_000_000_000
IDLE_MS: Final = 2_000
"""Without an applied entry for so long, nobody notices a full collection."""
FULL_EVERY_MS: Final = 600_000


def postpone_full_collections() -> None:
    """Call once, when what was loaded at the start is in place: none of that is looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_ALLOCATIONS, NEVER, NEVER)


def collect_young() -> None:
    """Look for cycles among what was made since the last look; ten times a second that is a millisecond or two.

    Python's own count goes down with every old object that is freed, so it says nothing of how many young ones there
    are. What survives is not looked at again before a full collection.
    """
    gc.collect(0)


@final
class FullCollections:
    """Chooses the moment of a full collection. Holds no clock."""

    def __init__(self, now_ms: int) -> None:
        self._applied_index = 0
        self._applied_ms = now_ms
        self._collected_ms = now_ms

    def is_due(self, applied_index: int, now_ms: int) -> bool:
        """Whether to collect now: it is long ago, and nothing was written for a while."""
        if applied_index != self._applied_index:
            self._applied_index, self._applied_ms = applied_index, now_ms
        if now_ms - self._applied_ms < IDLE_MS or now_ms - self._collected_ms < FULL_EVERY_MS:
            return False
        self._collected_ms = now_ms
        return True


GIVE_BACK_EVERY_MS: Final = 5_000
"""At most so often: malloc is locked for some milliseconds, with a million nodes for some tens."""
IDLE_GIVE_BACK_EVERY_MS: Final = 60_000
"""An idle member's memory may shrink without a sign: watchers leave, answers are read."""
LOOK_EVERY_MS: Final = 1_000
"""At how much memory is held: the system is asked, and the answer read as text."""
GROWN_BYTES_MIN: Final = 32 << 20
CHANGED_BYTES_MIN: Final = 8 << 20
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


def anonymous_bytes() -> int:
    """Memory of this process that is no file's: what it has allocated, freed or not."""
    _, resident, shared, *_ = Path("/proc/self/statm").read_bytes().split()
    return (int(resident) - int(shared)) * _PAGE_BYTES


@final
class GivingBack:
    """Chooses the moment to give back freed memory, and free pages of the files. Holds no clock.

    While the member is at work: when it has grown by a part of itself, most of which may be freed again. When it has
    become idle: once, and seldom after that.
    """

    def __init__(self, now_ms: int, held_bytes: Callable[[], int]) -> None:
        """`held_bytes` is the memory that the process holds now."""
        self._ask = held_bytes
        self._looked_ms = now_ms
        self._applied_index = 0
        self._applied_ms = now_ms
        self._given_back_ms = now_ms
        self._held_bytes = held_bytes()
        self._was_idle = False

    def is_due(self, applied_index: int, now_ms: int) -> bool:
        """Whether now; `is_idle` says how much to give back."""
        if applied_index != self._applied_index:
            self._applied_index, self._applied_ms = applied_index, now_ms
        if now_ms - self._given_back_ms < GIVE_BACK_EVERY_MS or now_ms - self._looked_ms < LOOK_EVERY_MS:
            return False
        self._looked_ms = now_ms
        held_bytes = self._ask()
        if self.is_idle(now_ms):
            due = (
                not self._was_idle
                or abs(held_bytes - self._held_bytes) >= CHANGED_BYTES_MIN
                or now_ms - self._given_back_ms >= IDLE_GIVE_BACK_EVERY_MS
            )
        else:
            self._held_bytes = min(self._held_bytes, held_bytes)
            due = held_bytes - self._held_bytes >= max(GROWN_BYTES_MIN, self._held_bytes // 4)
            self._was_idle = False
        if due:
            self._given_back_ms = now_ms
            self._held_bytes = held_bytes
            self._was_idle = self.is_idle(now_ms)
        return due

    def is_idle(self, now_ms: int) -> bool:
        """Whether nothing was applied for a while."""
        return now_ms - self._applied_ms >= IDLE_MS
