"""The only file that reads clocks; `tests/test_tidy.py` holds the others to it.

Two clocks, never mixed: the monotonic one measures spans and is what the core and every deadline count in; the wall
clock is data that is shown to people (`expiration`, `startTime`, log lines) and decides nothing.
"""

import time


def monotonic_ms() -> int:
    """Milliseconds since an arbitrary start. Never goes back, also when the wall clock is set."""
    return time.monotonic_ns() // 1_000_000


def monotonic_ns() -> int:
    """Nanoseconds since the same start, for durations that are measured."""
    return time.monotonic_ns()


def thread_cpu_ns() -> int:
    """Nanoseconds of a core that the calling thread has used."""
    return time.thread_time_ns()


def wall_ns() -> int:
    """Nanoseconds since 1970-01-01 UTC. May jump in either direction."""
    return time.time_ns()


def utc_text(seconds: int) -> str:
    """Unix seconds as `2026-11-21T02:10:33`, for log lines and `startTime`."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
