"""Which entries of the log stay for followers that are being fed, by entries or by a snapshot.

Cut off before such a follower, the log would send it a snapshot again and again under load. So what it lacks is kept,
within bounds: a follower that needs more than that gets a snapshot. One whose snapshot took so long, to send or to put
in place, that the log behind it is gone all the same gets a newer one and twice the room, until it has caught up.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, final

from kvraft import logs
from kvraft.member.interfaces import LogStore
from kvraft.member.settings import MemberSettings
from kvraft.raft.core import Raft

_HELD_BACK: Final = 4
"""The usual room: so many times `snapshot_count` and `log_bytes_max`."""
_ROOM_MAX: Final = 16
"""Times the usual room: 6.4 million entries or 4 GiB, by default. Who cannot take a snapshot in that time is written to
faster than it can be fed."""
_SHARE_OF_CAPACITY: Final = 4
"""The log must not come near the end of its environment, whose pages are not filled to the brim."""
_PATIENCE_MS: Final = 60_000
"""A follower that loads a snapshot may be silent for long; one that is silent for longer has gone."""

log = logs.get(__name__)


@final
@dataclass(slots=True)
class _Fed:
    """A follower that has not caught up since it was first given a snapshot."""

    room: int = 1
    """Times the usual one."""
    snapshot_index: int = 0
    """Where the snapshot stands that it is being sent, or was sent last; 0 while it is made."""
    was_sent: bool = False
    """It has arrived whole."""


@final
class LogRoom:
    """The followers' say in compaction."""

    def __init__(
        self, raft: Raft, log_store: LogStore, settings: MemberSettings, has_room: Callable[[int], bool]
    ) -> None:
        """`has_room` tells whether so many bytes more fit on the disk beside all that is owed."""
        self._raft = raft
        self._log_store = log_store
        self._settings = settings
        self._has_room = has_room
        self._fed: dict[int, _Fed] = {}

    def snapshot_wanted(self, server: int) -> None:
        """A follower needs a snapshot. If one has reached it since it last kept up, the log behind that one is gone."""
        fed = self._fed.setdefault(server, _Fed())
        if fed.was_sent and fed.room < _ROOM_MAX and self._has_room(2 * fed.room * self._bytes_usual):
            fed.room *= 2
            log.info("keeping more of the log for a slow member", peer=f"{server:x}", times=fed.room)
        fed.was_sent = False
        fed.snapshot_index = 0

    def snapshot_leaves(self, server: int, index: int) -> None:
        """The snapshot at `index` is on its way: what follows must be there when it has been put in place."""
        self._fed.setdefault(server, _Fed()).snapshot_index = index

    def snapshot_sent(self, server: int) -> None:
        """It has arrived."""
        self._fed.setdefault(server, _Fed()).was_sent = True

    def needed_from(self, durable_index: int, now_ms: int) -> int:
        """The log may be compacted up to this index, not above `durable_index`, as far as followers are concerned."""
        progress = self._raft.progress
        if not progress:
            self._fed.clear()  # Whoever leads now feeds them.
        needed = durable_index
        for server, follower in progress.items():
            fed = self._fed.get(server)
            if fed is not None and follower.match_index >= durable_index:
                del self._fed[server]
            elif fed is not None:
                index = max(follower.match_index, fed.snapshot_index)
                if now_ms - follower.last_contact_ms < _PATIENCE_MS and self._fits(index, durable_index, fed.room):
                    needed = min(needed, index)
            elif follower.recent_active and self._fits(follower.match_index, durable_index, 1):
                needed = min(needed, follower.match_index)
        return needed

    @property
    def _bytes_usual(self) -> int:
        return _HELD_BACK * self._settings.log_bytes_max

    def _fits(self, index: int, durable_index: int, room: int) -> bool:
        """Whether what is behind `index` is no more than the room."""
        if room > 1 and not self._has_room(self._settings.log_bytes_max):
            room = 1
        bytes_max = min(room * self._bytes_usual, self._log_store.capacity_bytes() // _SHARE_OF_CAPACITY)
        entries_max = room * _HELD_BACK * self._settings.snapshot_count
        return index >= durable_index - entries_max and index >= self._log_store.index_leaving(bytes_max)
