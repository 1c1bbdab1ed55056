"""A member's settings. Durations are milliseconds, sizes are bytes."""

from dataclasses import dataclass
from typing import Final, final

STATE_HASH_INTERVAL: Final = 1024
"""Members compare their state hashes at every multiple of this log index."""


@final
@dataclass(slots=True, frozen=True)
class MemberSettings:
    """Each default with its reason; `kvraft/settings/settings.py` holds what an operator may set."""

    heartbeat_interval_ms: int = 100
    """etcd's default."""
    election_timeout_ms: int = 1000
    """etcd's default."""
    snapshot_count: int = 100_000
    """The log keeps at least this many entries behind the flushed state before it is compacted (etcd 3.4's default)."""
    catch_up_entries: int = 5_000
    """Entries kept behind a compaction, so that a slow follower needs no snapshot (etcd's SnapshotCatchUpEntries)."""
    log_bytes_max: int = 64 << 20
    """Bytes of log entries kept; beyond it the log is compacted to half of it, however few entries that leaves, but for
    followers that are being fed to no less than four times as much. Far below the smallest map that storage opens."""
    history_events_max: int = 100_000
    """Events in the watch history; given to the cluster by its first leader (design decision 9)."""
    flush_interval_ms: int = 5_000
    """State is written behind about this often while it changes: a hot key is then written once. See `FlushTurns`."""
    flush_commands_max: int = 20_000
    """Or after this many entries: a restart replays at most so many commands, in a fraction of a second."""
    flush_bytes_max: int = 64 << 20
    """Or after this many bytes of events, which a flush writes about twice: it bounds what the disk is owed."""
    apply_slice_ms: int = 10
    """Applying yields to the loop after this long, so that heartbeats leave in time."""
    waiting_requests_max: int = 20_000
    """Requests without an answer yet; one more is answered `etcdserver: too many requests`."""
    waiting_bytes_max: int = 256 << 20
    """Commands of such requests together, in memory: without a leader they pile up for the request timeout."""
    uncommitted_bytes_max: int = 64 << 20
    """What a leader may accept before a quorum has stored it, as in the core's settings: the disk must have room."""
    strict_reconfig_check: bool = True
    """Whether changes of the members that put the cluster at risk are refused (etcd 3.4's default)."""
    idle_sync_ms: int = 30_000
    """With TTL keys and no appends, the clock is written to the log this often: a restart extends a TTL by no more."""

    @property
    def request_timeout_ms(self) -> int:
        """How long a write or quorum read waits for its outcome: etcd's 5 s + 2 x election timeout (contract A.0)."""
        return 5_000 + 2 * self.election_timeout_ms
