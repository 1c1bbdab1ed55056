"""Planted bugs of what clients wait for, outside the simulator: M70 and M71. A unit test must fail with each."""

from typing import Any

from kvraft.member.cluster import Cluster
from kvraft.member.waiters import Waiter, Waiters
from tests.simulation.mutants.planting import Mutant, replaced, wrapped


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
    Mutant(
        "M71",
        "is ready before it has published itself",
        ("I15",),
        replaced(Cluster, "is_settled", lambda _cluster: True),
        test="tests/member/test_member.py::test_member_starts_to_serve_once_it_is_published_and_the_cluster_has_its_version",
    ),
)
