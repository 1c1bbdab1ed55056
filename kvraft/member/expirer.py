"""Proposes a `Sync` when a key is due: the only way in which time removes keys (design decision 7)."""

from typing import Final, final

from kvraft.keyspace.commands import Sync

IN_FLIGHT_LOOK_MS: Final = 100
"""While a sync is under way nothing else is due: its end is looked for this often."""


@final
class Expirer:
    """Decides on the leader when the log needs a sync. Holds no clock and no timer."""

    def __init__(self, idle_sync_ms: int) -> None:
        self._idle_sync_ms = idle_sync_ms
        self._in_flight = False

    def reset(self) -> None:
        """Another leadership begins or ends: whatever was proposed is no longer ours to wait for."""
        self._in_flight = False

    def applied(self) -> None:
        """A sync of ours was applied or lost; the next one may go."""
        self._in_flight = False

    def due(self, log_clock_ms: int, last_entry_clock_ms: int, next_deadline_ms: int | None) -> Sync | None:
        """A command to propose now, or None.

        Args:
            log_clock_ms: the log clock now.
            last_entry_clock_ms: the clock of the last applied entry.
            next_deadline_ms: the earliest deadline of any key, None if no key has a TTL.
        """
        if self._in_flight or next_deadline_ms is None:
            return None
        idle_ms = log_clock_ms - last_entry_clock_ms
        if next_deadline_ms > log_clock_ms and idle_ms < self._idle_sync_ms:
            return None
        self._in_flight = True
        return Sync()

    def wait_ms(self, log_clock_ms: int, last_entry_clock_ms: int, next_deadline_ms: int | None) -> int | None:
        """How long until `due` may answer otherwise; None while no key has a TTL."""
        if next_deadline_ms is None:
            return None
        if self._in_flight:
            return IN_FLIGHT_LOOK_MS
        until_idle_ms = last_entry_clock_ms + self._idle_sync_ms - log_clock_ms
        return max(1, min(next_deadline_ms - log_clock_ms, until_idle_ms))
