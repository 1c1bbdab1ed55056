"""What the stores measure of their work, once a commit: whoever opens them may say who is told."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from kvraft import clock

Observe = Callable[[float], object]
"""Is told a duration in seconds, on whichever thread did the work."""


def _ignore(_seconds: float) -> None:
    """Nobody wants to know."""


@final
@dataclass(slots=True)
class Measures:
    """Durations, as they happen, and a count."""

    log_commit: Observe = _ignore
    """The durable commit of a batch of the log, its sync included."""
    state_commit: Observe = _ignore
    """The durable commit of a flush of the state."""
    spool: Observe = _ignore
    """Copying the state to a snapshot file."""
    log_bytes: int = 0
    """Bytes of entries written to the log since the start."""


def seconds_since(started_ns: int) -> float:
    """How long something took that began at `clock.monotonic_ns()`."""
    return (clock.monotonic_ns() - started_ns) / 1e9
