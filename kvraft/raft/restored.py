"""What a server remembers when it starts, and how it reads entries that are no longer in memory."""

from dataclasses import dataclass
from typing import Protocol, final

from kvraft.raft.configuration import Configuration
from kvraft.raft.effects import HardState
from kvraft.raft.entries import ZERO_HASH, Entry
from kvraft.raft.messages import InstallSnapshot


class LogReader(Protocol):
    """Synchronous, side-effect-free access to durable entries, for the part of the log beyond the tail in memory."""

    def term_at(self, index: int) -> int:
        """The term of the entry at `index`; 0 if the log does not hold it."""
        ...

    def slice(self, first: int, last: int, bytes_max: int) -> list[Entry]:
        """Entries `first`..`last` inclusive, cut after `bytes_max` of records but never before the first entry.

        Empty if `first` is not held. Raises what storage raises on a broken record; the member then stops.
        """
        ...


@final
@dataclass(slots=True, unsafe_hash=True)
class LogPosition:
    """The end of a prefix of the log. Never modified once made: to make a frozen one takes twice as long."""

    index: int = 0
    term: int = 0
    chain_hash: bytes = ZERO_HASH
    clock_ms: int = 0


@final
@dataclass(slots=True, frozen=True)
class SnapshotFile:
    """A finished, verified spool file with the state at `position`. It passes between storage, member and transport."""

    snapshot_id: str
    """Equal ids mean equal bytes: it holds the position and a hash of the whole file."""
    path: str
    size_bytes: int
    position: LogPosition
    configuration: bytes
    """`Configuration.encode()` in force at `position`."""

    def installation(self, term: int) -> InstallSnapshot:
        """What the core is told once it has arrived from the leader of `term`.

        Raises:
            ValueError: the configuration is none.
        """
        position = self.position
        return InstallSnapshot(
            term,
            position.index,
            position.term,
            position.chain_hash,
            Configuration.decode(self.configuration),
            self.snapshot_id,
            position.clock_ms,
        )


@final
@dataclass(slots=True, unsafe_hash=True)
class Restored:
    """Everything durable that the core needs to go on. Never modified once made: each commit makes one."""

    hard_state: HardState
    base: LogPosition
    """Just before the first entry that the log holds: index 0 at first, later the compaction point or a snapshot."""
    last: LogPosition
    """The last durable entry; equals `base` for an empty log."""
    configurations: tuple[tuple[int, Configuration], ...]
    """(index, configuration), ascending: the one in force at `base` first, then each CONFIGURATION entry in the log."""
    applied_index: int
    """The durable state already holds everything up to here; at least `base.index`."""
