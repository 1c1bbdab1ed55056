"""Where members will be by entries that are not applied here yet, as long as nobody leads.

Whoever can be elected holds every committed entry, and may not know which those are (etcd's candidates are told with
the votes: raft, `maybeCommitByVote`). If one of them moved a voter that it needs, it would look for that one at its old
address for ever, and nobody would lead. So it looks there, too: to be dialled in vain costs nobody anything.
"""

from collections.abc import Mapping
from typing import Final, final

from kvraft.keyspace.command_codec import place_told
from kvraft.member.waiters import REQUEST_ID_BYTES
from kvraft.raft.core import Raft
from kvraft.raft.entries import EntryKind

_SLICE_BYTES: Final = 256 << 10
"""Read at one look. Entries that nobody has committed are few as a rule."""


@final
class PendingUrls:
    """One member's."""

    def __init__(self, raft: Raft) -> None:
        self._raft = raft
        self._urls: dict[int, tuple[str, ...]] = {}
        self._term = 0
        """When the entries were looked at: those of an earlier term may have been replaced since."""
        self._looked_index = 0
        """Up to where."""

    @property
    def urls(self) -> Mapping[int, tuple[str, ...]]:
        """By member. Entries that are applied meanwhile may still be in it."""
        return self._urls

    def look(self) -> bool:
        """Look at entries that are new since the last look; whether anything is otherwise."""
        raft, before = self._raft, self._urls
        if raft.last_applied >= self._looked_index and before:
            self._urls = {}
        if not raft.leader_id:
            if raft.current_term != self._term:
                self._term, self._looked_index = raft.current_term, raft.last_applied
            self._read_on()
        return self._urls != before

    def _read_on(self) -> None:
        self._looked_index = max(self._looked_index, self._raft.last_applied)
        for entry in self._raft.entries_behind(self._looked_index, _SLICE_BYTES):
            self._looked_index = entry.index
            if entry.kind is not EntryKind.COMMAND:
                continue
            told = place_told(entry.payload[REQUEST_ID_BYTES:])
            if told is not None:
                self._urls = {**self._urls, told.member_id: told.peer_urls}
