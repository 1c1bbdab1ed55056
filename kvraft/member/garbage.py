"""When Python looks for garbage cycles: young objects often, everything only while nobody waits (design decision 11).

A full collection visits every node of the tree: 0.2 s at a million. Reference counts free nearly everything here; what
is left for the collector are cycles of closed connections and failed tasks, which can wait for a quiet moment.
"""

import gc
from typing import Final, final

YOUNG_ALLOCATIONS: Final = 10_000
"""Allocations between two looks at the youngest: about 0.5 ms each."""
MIDDLE_ROUNDS: Final = 4
"""Then the survivors are looked at once: 40,000 objects at most, some 10 ms. With 20 rounds it was 50."""
NEVER: Final = 1_000_000_000
IDLE_MS: Final = 2_000
"""Without an applied entry for so long, nobody notices a full collection."""
FULL_EVERY_MS: Final = 600_000


def postpone_full_collections() -> None:
    """Call once, when what was loaded at the start is in place: none of that is looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_ALLOCATIONS, MIDDLE_ROUNDS, NEVER)


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
