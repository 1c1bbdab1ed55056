"""The transport's settings. Durations are milliseconds, sizes are bytes."""

from dataclasses import dataclass
from typing import final


@final
@dataclass(slots=True, frozen=True)
class TransportSettings:
    """Each default with its reason; `kvraft/settings/settings.py` fills the ones that follow from an operator's."""

    silence_ms: int = 1000
    """A connection on which nothing came for so long is dead; both sides say something six times as often. The
    election timeout: a peer that vanished is noticed within it."""
    connect_timeout_ms: int = 2000
    """From the first packet to an accepted greeting, as a dialler; a lookup that this member has to wait for has as
    much. Two round trips must fit, and a lost packet: the election timeout, above any round trip Raft can live with."""
    next_address_ms: int = 250
    """A peer's next address is dialled so long after the one before it (RFC 8305, section 5)."""
    known_address_ms: int = 50
    """So long a lookup is waited for if an address is known that worked before."""
    greeting_timeout_ms: int = 10_000
    """An acceptor closes what has not greeted by then, whatever it speaks."""
    idle_call_ms: int = 60_000
    """A gRPC connection without a call is closed after this long."""
    strangers_max: int = 256
    """Connections that have not greeted, or never will; beyond it the oldest is closed. A member's takes a moment."""
    write_buffer_bytes: int = 256 << 10
    """What a connection may hold beyond the kernel's buffer; the rest waits in the queues, where it can be dropped."""
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
    """A forwarded command above this travels on the entries lane, so that heartbeats do not wait behind it."""
    message_bytes_max: int = 5 << 18
    """Frames are put into one message up to this size (1.25 MiB: the core's AppendEntries of at most 1 MiB fit,
    whatever the number of their entries); a larger frame travels in fragments of this size."""
    frame_bytes_max: int = 64 << 20
    """The largest frame that is put together from fragments: several times the largest request."""
    snapshot_chunk_bytes: int = 256 << 10
    """Both sides hold one chunk at a time."""
    snapshot_failures_max: int = 5
    """Attempts without any progress after which a transfer has failed."""
