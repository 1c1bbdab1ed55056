"""What went to and came from each peer, counted a message at a time, for the metrics."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import final


@final
@dataclass(slots=True)
class Traffic:
    """Counts since the start, by member. Snapshots are not in it."""

    sent_bytes: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    """Of messages that were given to a stream."""
    received_bytes: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    dropped: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    """Frames that found no room or no stream."""

    def forget(self, member_id: int) -> None:
        """It is no longer a peer."""
        for counts in (self.sent_bytes, self.received_bytes, self.dropped):
            counts.pop(member_id, None)
