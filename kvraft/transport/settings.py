"""The transport's settings. Durations are milliseconds, sizes are bytes."""

from dataclasses import dataclass
from typing import final


@final
@dataclass(slots=True, frozen=True)
class TransportSettings:
    """Each default with its reason; `kvraft/settings.py` fills the ones that follow from an operator's."""

    keepalive_interval_ms: int = 1000
    """A connection that was silent for so long is pinged. The election timeout: a heartbeat comes far more often."""
    keepalive_timeout_ms: int = 1000
    """And closed when the ping is not answered for so long; so a silent peer is noticed within both together."""
    connect_timeout_ms: int = 2000
    """From the first packet to an accepted greeting, as a dialler. Above any round trip that Raft can live with."""
    greeting_timeout_ms: int = 10_000
    """An acceptor closes what has not greeted by then, whatever it speaks."""
    idle_connection_ms: int = 60_000
    """A connection without a stream is closed by the acceptor after this long."""
    inbound_streams_max: int = 256
    """Open streams from all peers and strangers together; a member has three a peer."""
    backoff_min_ms: int = 20
    """First pause after a failed or broken connection; doubles, and each is drawn from [half, whole)."""
    backoff_max_ms: int = 500
    """Longest such pause: a peer that comes back is reached within half an election timeout."""
    refused_backoff_ms: int = 3000
    """Pause after a refusal, which only an operator or a configuration change ends."""
    unreachable_after_ms: int = 5000
    """A peer that was out of reach for so long is named in the log: members of a cluster are started together."""
    unreachable_again_ms: int = 60_000
    """And once more after each such time."""
    control_frames_max: int = 8192
    """Queue to one peer. A full one means that the connection stands still: Raft sends anew what matters."""
    control_bytes_max: int = 16 << 20
    entries_frames_max: int = 1024
    entries_bytes_max: int = 64 << 20
    """Above the core's inflight_bytes_max (16 MiB), with room for forwarded commands."""
    bulk_command_bytes: int = 16 << 10
    """A forwarded command above this travels on the entries stream, so that heartbeats do not wait behind it."""
    message_bytes_max: int = 5 << 18
    """Frames are put into one gRPC message up to this size (1.25 MiB: the core's AppendEntries of at most 1 MiB fit,
    whatever the number of their entries); a larger frame travels in fragments of this size."""
    frame_bytes_max: int = 64 << 20
    """The largest frame that is put together from fragments: several times the largest request."""
    snapshot_chunk_bytes: int = 256 << 10
    """Both sides hold one chunk at a time."""
    snapshot_failures_max: int = 5
    """Attempts without any progress after which a transfer has failed."""
