"""Looks after the disk before it fails: room for all that is still to be written, and old log records read again.

A full disk fails a commit, and a member whose commit failed must stop. So a member adds up what it owes to the disk and
stays away from the end by that much, in two steps (design decision 4):

- *full*: what a leader may have accepted and not yet stored (`uncommitted_bytes_max`) still fits beside the debt. No
  more writes from clients, this member's own or forwarded by others, but those that free space or change the members;
  a leader hands over.
- *exhausted*: the debt itself only just fits. Nothing from clients, and entries of a leader are not heard, as if they
  had been lost on the way: the others go on without this member, which is fed again once there is room.

The debt is the next flush: what has been applied and is not in the state environment yet. It is counted rather than
assumed at its worst, so that a small disk is as good as a large one until it has something to hold.
"""

from collections.abc import Callable, Sequence
from typing import Final, final

from kvraft import logs
from kvraft.keyspace.commands import Authorized, Command, CompareAndDelete, Delete, MembershipCommand, Sync
from kvraft.member.interfaces import LogStore
from kvraft.raft.entries import Entry
from kvraft.raft.restored import LogPosition

MARGIN_BYTES: Final = 32 << 20
"""What is not counted: pages of LMDB's own and of its free list, which a commit writes anew, the watermark files, and
what other programs write until the next look. Free space has to grow by this much more before the alarm ends."""
LOOK_BYTES: Final = 4 << 20
"""So many bytes of new entries make a look due, however little time has passed since the last one."""
SCRUB_ENTRIES: Final = 25
"""Old entries verified in one look: about 0.1 ms, a million entries in an hour and a half."""
_TAKEN_WHEN_FULL: Final = (Delete, CompareAndDelete, Sync, MembershipCommand)
"""What frees space, and what is small and may be how an operator helps: a member with a larger disk comes."""

log = logs.get(__name__)


@final
class DiskWatch:
    """Asked before each step of the loop, and now and then by the member's housekeeping."""

    def __init__(
        self,
        log_store: LogStore,
        free_bytes: Callable[[], int],
        owed_bytes: Callable[[], int],
        uncommitted_bytes_max: int,
    ) -> None:
        self._log_store = log_store
        self._free_bytes = free_bytes
        self._owed_bytes = owed_bytes
        """What the next flush will take of the disk."""
        self._uncommitted_bytes_max = uncommitted_bytes_max
        self._scrubbed: LogPosition | None = None
        self._written_bytes = 0
        """Of entries, since the last look."""
        self.is_full = False
        """Whether clients' writes are refused, but for those that free space."""
        self.is_exhausted = False
        """Whether nothing that needs the disk is taken, from clients or from a leader."""

    def refuses(self, command: Command) -> bool:
        """Whether there is no room for this command of a client."""
        asked = command.command if isinstance(command, Authorized) else command
        return self.is_exhausted or (self.is_full and not isinstance(asked, _TAKEN_WHEN_FULL))

    def scrub(self) -> None:
        """Verify the next few entries.

        Raises:
            Exception: what storage raises for a damaged record; the member stops.
        """
        self._scrubbed = self._log_store.scrub(self._scrubbed, SCRUB_ENTRIES)

    def wrote(self, entries: Sequence[Entry]) -> None:
        """Measure before a burst of entries can use up the room within two looks of the housekeeping."""
        self._written_bytes += sum([len(entry.record) for entry in entries])
        if self._written_bytes >= LOOK_BYTES:
            self.look()

    def has_room(self, size_bytes: int) -> bool:
        """Whether so much more can be written without coming near the end."""
        return self._free_bytes() >= self._owed_bytes() + MARGIN_BYTES + self._uncommitted_bytes_max + size_bytes

    def look(self) -> None:
        """Measure free space against what is owed."""
        self._written_bytes = 0
        free_bytes, owed_bytes = self._free_bytes(), self._owed_bytes() + MARGIN_BYTES
        room = free_bytes - owed_bytes
        was_full = self.is_full
        self.is_full = room < self._uncommitted_bytes_max + (MARGIN_BYTES if was_full else 0)
        self.is_exhausted = room < (MARGIN_BYTES if self.is_exhausted else 0)
        if self.is_full and not was_full:
            log.error(
                "disk nearly full: client writes are refused until space is freed",
                free_bytes=free_bytes,
                needed_bytes=owed_bytes + self._uncommitted_bytes_max,
            )
        elif was_full and not self.is_full:
            log.info("disk has room again: client writes are taken", free_bytes=free_bytes)
