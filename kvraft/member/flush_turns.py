"""When a member writes its state behind: members take turns, so that a majority of them is free of a flush.

A flush is a tenth of a second in which the loop shares the interpreter and the log shares the disk. Members apply the
same entries at the same time: by counting for itself, each would flush together with all the others, and every write
would wait for it. So each has a place of its own between two multiples of what is counted, which all read off the log.
"""

from collections.abc import Sequence
from typing import final

from kvraft.member.settings import MemberSettings
from kvraft.raft.restored import LogPosition


@final
class FlushTurns:
    """Says whether it is this member's turn. Holds no clock."""

    def __init__(self, own_id: int, settings: MemberSettings, now_ms: int) -> None:
        self._own_id = own_id
        self._settings = settings
        self._flushed_ms = now_ms

    def flushed(self, now_ms: int) -> None:
        """A flush has come to its end."""
        self._flushed_ms = now_ms

    def is_due(self, flushed: LogPosition, applied: LogPosition, servers: Sequence[int], now_ms: int) -> bool:
        """Whether to flush what lies between the two positions, `servers` being those of the configuration.

        Once for each `flush_commands_max` entries and, unless that was within the last half of it, each
        `flush_interval_ms` of the log's clock. Where that one stands still, since nobody writes any more, one and a
        half intervals after the last flush: sooner, and those who have once flushed together would go on together.
        """
        settings = self._settings
        every_ms = settings.flush_interval_ms
        if now_ms - self._flushed_ms >= every_ms * 3 // 2:
            return True
        share = servers.index(self._own_id) / len(servers) if self._own_id in servers else 0

        def has_come(before: int, now: int, every: int) -> bool:
            own_place = int(every * share)
            return (before + own_place) // every != (now + own_place) // every

        return has_come(flushed.index, applied.index, settings.flush_commands_max) or (
            applied.clock_ms - flushed.clock_ms >= every_ms // 2
            and has_come(flushed.clock_ms, applied.clock_ms, every_ms)
        )
