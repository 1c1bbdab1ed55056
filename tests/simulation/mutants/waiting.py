"""Planted bugs of what clients wait for, which lives outside the simulator: M70. A unit test must fail with it."""

from typing import Any

from kvraft.member.waiters import Waiter, Waiters
from tests.simulation.mutants.planting import Mutant, wrapped


def _kept_for_a_leader(forget: Any, waiters: Waiters, waiter: Waiter) -> None:
    forget(waiters, waiter)
    if not waiter.term:
        waiters._unsent[waiter.counter] = waiter


MUTANTS = (
    Mutant(
        "M70",
        "keeps a write that timed out while it waited for a leader",
        ("I14",),
        wrapped(Waiters, "_forget", _kept_for_a_leader),
        test="tests/member/test_member.py::test_requests_that_time_out_without_a_leader_are_freed",
    ),
)
