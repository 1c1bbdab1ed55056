"""Planted bugs of what clients wait for, outside the simulator: M70 to M71e. Their tests must fail with each."""

from typing import Any

from kvraft.member.cluster import Cluster
from kvraft.member.fencing import Fencing
from kvraft.member.forwarding import Forwarding
from kvraft.member.peer_port import PeerPort
from kvraft.member.waiters import Waiter, Waiters
from tests.simulation.mutants.planting import Mutant, replaced, wrapped


def _kept_for_a_leader(forget: Any, waiters: Waiters, waiter: Waiter) -> None:
    forget(waiters, waiter)
    if not waiter.term:
        waiters._unsent[waiter.counter] = waiter


def _heed_any_epoch(refused: Any, waiters: Waiters, request_id: bytes, reason: str, term: int, _epoch: int) -> None:
    waiter = waiters._waiting.get(waiters._counter_of(request_id))
    if waiter is not None:
        refused(waiters, request_id, reason, term, waiter.epoch)


def _clear_at_once(is_clear: Any, fencing: Fencing, _applied_index: int) -> Any:
    return is_clear(fencing, 1 << 62)


_SESSIONS = "tests/member/test_schedules.py::test_every_write_has_an_answer_however_often_sessions_break"

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
    Mutant(
        "M71b",
        "takes a command that its sender may have sent anew",
        ("I8",),
        replaced(Forwarding, "_is_fenced", lambda _forwarding, _frame: False),
        test=_SESSIONS,
    ),
    Mutant(
        "M71c",
        "takes a command for lost before what the leader had is applied",
        ("I8",),
        wrapped(Fencing, "is_clear", _clear_at_once),
        test=_SESSIONS,
    ),
    Mutant(
        "M71e",
        "heeds the refusal of an attempt that was lost and has been made again",
        ("I8",),
        wrapped(Waiters, "forward_refused", _heed_any_epoch),
        test="tests/member/test_waiters.py::test_what_was_lost_with_a_session_is_sent_once_more_and_a_late_refusal_of_it_is_not_heeded",
    ),
    Mutant(
        "M71d",
        "never asks what became of a command whose session was lost",
        ("I15",),
        replaced(PeerPort, "on_session_ended", lambda _peers, _member_id: None),
        test=_SESSIONS,
    ),
)
