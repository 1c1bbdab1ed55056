"""Directed schedules: faults that the nemesis may draw, in the order in which a planted bug shows soonest."""

from collections.abc import Callable
from typing import Final

from tests.simulation.faults import LEADER, Fault
from tests.simulation.mutants.planting import with_options
from tests.simulation.options import Options

OVERWRITTEN: Final[Callable[[Options], Options]] = with_options(
    servers=5,
    spares=0,
    election_timeout_ms=300,
    heartbeat_interval_ms=30,
    sync_us=10_000,
    latency_us=500,
    jitter_us=500,
    loss_per_mille=0,
    message_bytes_max=65536,
    inflight_messages_max=64,
    snapshot_entries=1000,
    operations_per_second=20,
    quorum_core_only=False,
    fault_kinds=("cut", "burst", "transfer", "replay"),
    wipe_interval_ms=0,
)
"""The options of `overwritten_and_back`."""


def overwritten_and_back(options: Options) -> tuple[Fault, ...]:
    """Again and again a leader and one follower hold entries that the other three overwrite; then it leads once more.

    Old answers of that follower now name indices that it lost and that the leader has filled anew.
    """
    timeout_ms = options.election_timeout_ms
    faults = []
    for at_ms in range(2000, options.safety_ms - 20 * timeout_ms, 14 * timeout_ms):
        faults += [
            Fault(at_ms, "transfer", LEADER, 0, 1),
            Fault(at_ms + 2 * timeout_ms, "cut", 1, 5 * timeout_ms, 0b000110),
            Fault(at_ms + 2 * timeout_ms + 20, "burst", 1, 0, 100),
            Fault(at_ms + 9 * timeout_ms, "transfer", LEADER, 0, 1),
            Fault(at_ms + 10 * timeout_ms, "burst", 1, 0, 20),
            Fault(at_ms + 10 * timeout_ms, "replay", 1, timeout_ms, 0),
            Fault(at_ms + 10 * timeout_ms + 100, "burst", 1, 0, 100),
            # A leader that is told to hand over to itself hands over to another: it must not lead when this begins.
            Fault(at_ms + 13 * timeout_ms, "transfer", LEADER, 0, 3),
        ]
    return tuple(faults)


def overwritten_by_two(options: Options) -> tuple[Fault, ...]:
    """A leader and one follower hold entries that two later leaders, one after the other, overwrite.

    The second one begins to send behind entries of the first, which those two servers have in another term.
    """
    timeout_ms = options.election_timeout_ms
    faults = []
    for at_ms in range(2000, options.safety_ms - 20 * timeout_ms, 16 * timeout_ms):
        faults += [
            Fault(at_ms, "transfer", LEADER, 0, 1),
            Fault(at_ms + 2 * timeout_ms, "cut", 1, 10 * timeout_ms, 0b000110),
            Fault(at_ms + 2 * timeout_ms + 20, "burst", 1, 0, 100),
            Fault(at_ms + 7 * timeout_ms, "burst", 1, 0, 20),
            Fault(at_ms + 9 * timeout_ms, "transfer", LEADER, 0, 4),
        ]
    return tuple(faults)


SLOW_LOG: Final[Callable[[Options], Options]] = with_options(
    sectors=True,
    servers=3,
    spares=0,
    election_timeout_ms=300,
    heartbeat_interval_ms=30,
    sync_us=1000,
    latency_us=500,
    jitter_us=500,
    loss_per_mille=0,
    apply_delay_us=0,
    step_delay_us=500,
    message_bytes_max=512,
    inflight_messages_max=1,
    snapshot_entries=1000,
    flush_ms=50,
    operations_per_second=5,
    quorum_core_only=False,
    fault_kinds=("isolate", "burst", "transfer", "slow_disk", "crash"),
    disk_fault_kinds=("power_cut",),
    wipe_interval_ms=0,
)
"""The options of `overwritten_on_a_slow_log`."""


def overwritten_on_a_slow_log(options: Options) -> tuple[Fault, ...]:
    """A leader that was cut off comes back with entries that the others have overwritten, and its log is slow.

    It applies the new ones while their truncation waits for the log; then it dies.
    """
    timeout_ms = options.election_timeout_ms
    faults = []
    for cycle, at_ms in enumerate(range(3000, options.safety_ms - 12 * timeout_ms, 10 * timeout_ms)):
        back_ms = at_ms + 5 * timeout_ms
        faults += [
            Fault(at_ms, "transfer", LEADER, 0, 1),
            Fault(at_ms + timeout_ms, "isolate", 1, 4 * timeout_ms, 0),
            Fault(at_ms + timeout_ms + 5, "burst", 1, 0, 100),
            Fault(back_ms - 10, "slow_disk", 1, 3 * timeout_ms, 2_000_000),
            Fault(back_ms + 100 + 50 * (cycle % 5), "crash", 1, timeout_ms, 0),
        ]
    return tuple(faults)


def handed_over_behind_a_cut(options: Options) -> tuple[Fault, ...]:
    """A leader has told its successor to stand, and is cut off before that one's vote is on disk."""
    timeout_ms = options.election_timeout_ms
    faults = []
    for at_ms in range(3000, options.safety_ms - 6 * timeout_ms, 6 * timeout_ms):
        faults += [Fault(at_ms, "transfer", LEADER, 0, 0), Fault(at_ms + 5, "isolate", LEADER, 2 * timeout_ms, 0)]
    return tuple(faults)
