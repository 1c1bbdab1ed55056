"""The disk is looked after before it fails."""

from kvraft.member.disk_watch import FREE_BYTES_FLOOR, SCRUB_ENTRIES, DiskWatch
from kvraft.raft.restored import LogPosition


class ScrubbedLog:
    """A log of a hundred entries that remembers how it was scrubbed."""

    def __init__(self) -> None:
        self.verified: list[int] = []

    def scrub(self, after: LogPosition | None, entries_max: int) -> LogPosition | None:
        first = 1 if after is None else after.index + 1
        last = min(100, first + entries_max - 1)
        self.verified.extend(range(first, last + 1))
        return None if last == 100 else LogPosition(last)


def _watch(log: ScrubbedLog, free: list[int]) -> DiskWatch:
    return DiskWatch(log, lambda: free[0])  # type: ignore[arg-type] # only `scrub` is asked for


def test_writes_are_refused_below_the_floor_and_taken_again_above() -> None:
    """The floor is reached before a commit fails, and leaving it ends the alarm."""
    free = [FREE_BYTES_FLOOR]
    watch = _watch(ScrubbedLog(), free)
    alarms = []
    for free_bytes in (FREE_BYTES_FLOOR, FREE_BYTES_FLOOR - 1, 0, FREE_BYTES_FLOOR):
        free[0] = free_bytes
        watch.look()
        alarms.append(watch.is_full)
    assert alarms == [False, True, True, False]


def test_every_old_entry_is_verified_again_and_again() -> None:
    """Slice by slice from the base to the end, then anew."""
    log = ScrubbedLog()
    watch = _watch(log, [FREE_BYTES_FLOOR])
    for _ in range(2 * (100 // SCRUB_ENTRIES)):
        watch.look()
    assert log.verified == [*range(1, 101), *range(1, 101)]
