"""The core's settings. Durations are milliseconds, sizes are bytes."""

from dataclasses import dataclass
from typing import final


@final
@dataclass(slots=True, frozen=True)
class RaftSettings:
    """Each default with its reason; `kvraft/settings/settings.py` fills the ones an operator may set."""

    heartbeat_interval_ms: int = 100
    """etcd's default."""
    election_timeout_ms: int = 1000
    """etcd's default. The randomized timeout lies in [1, 2) times this (section 5.2)."""
    message_bytes_max: int = 1 << 20
    """Payload bytes an AppendEntries carries; a single larger entry still travels alone."""
    inflight_messages_max: int = 64
    """AppendEntries without reply to one follower."""
    inflight_bytes_max: int = 16 << 20
    uncommitted_bytes_max: int = 64 << 20
    """Beyond this a leader refuses proposals (TOO_MANY). One entry is accepted whatever its size."""
    log_tail_bytes_max: int = 16 << 20
    """How much of the log's tail the core keeps in memory; older entries come through the LogReader."""
    committed_bytes_max: int = 4 << 20
    """Bytes of `Effects.committed` a step, so that applying cannot hold the loop."""
    disconnect_delay_ms_max: int = 50
    """PreVote starts after a random delay of up to this when the leader's process closes its connection."""
    disk_read_bytes_max: int = 256 << 10
    """Bytes of entries that a step reads from disk for followers that lag, all of them together: so many small entries
    take a fraction of a heartbeat interval. The next step goes on at once."""
