"""Writes that wait for their entry: each command goes to one leader, once; only what entered no log is sent again."""

import pytest

from kvraft.keyspace.errors import EtcdError
from kvraft.member.outcomes import STOPPED, TIMED_OUT, TOO_MANY_REQUESTS
from kvraft.member.waiters import REQUEST_ID_BYTES, UNKNOWN, UNSENT, Waiter, Waiters
from kvraft.peer_frames import ForwardedCommand, ForwardFence, ForwardFenced
from kvraft.raft.effects import ProposalRefusalReason, Role
from kvraft.raft.inputs import Propose
from kvraft.records import Written
from tests.member.fakes import RecordingTransport, ScriptedRaft

pytestmark = pytest.mark.pure


def make_waiters(timeout_ms: int = 7000) -> Waiters:
    return Waiters(member_id=7, boot_nonce=99, timeout_ms=timeout_ms)


def ignore(_outcome: Written | EtcdError) -> None:
    """Nobody looks at this answer."""


def add(waiters: Waiters, now_ms: int = 0) -> Waiter:
    return waiters.add(b"command", ignore, now_ms)


def give(waiters: Waiters, term: int) -> None:
    """To a leader that can be reached."""
    assert waiters.route(ScriptedRaft(term=term, leader_id=2).core, RecordingTransport()) == []


def held(waiters: Waiters) -> list[int]:
    """How much each structure holds."""
    return [len(waiters), len(waiters._unsent), len(waiters._held), waiters.payload_bytes]


def timed_out(_waiter: Waiter) -> bytes:
    return TIMED_OUT


def test_waiter_is_found_by_the_payload_of_its_entry() -> None:
    """The payload carries the request id, so the applier needs no other table."""
    waiters = make_waiters()
    first, second = add(waiters), add(waiters)
    assert waiters.take(second.payload) is second
    assert waiters.take(second.payload) is None
    assert waiters.take(first.payload[:REQUEST_ID_BYTES]) is first
    assert held(waiters) == [0, 0, 0, 0]


def test_payload_of_another_member_or_an_earlier_run_has_no_waiter() -> None:
    """The boot nonce keeps an entry of this member's previous run from answering a new request."""
    waiters = make_waiters()
    waiter = add(waiters)
    earlier_run = Waiters(member_id=7, boot_nonce=98, timeout_ms=7000)
    other_member = Waiters(member_id=8, boot_nonce=99, timeout_ms=7000)
    for foreign in (add(earlier_run), add(other_member)):
        assert waiters.take(foreign.payload) is None
    assert waiters.take(waiter.payload) is waiter


def test_command_is_forwarded_once_to_a_leader_that_can_be_reached() -> None:
    """Until then it waits; afterwards it is nobody's to send."""
    transport, waiters, raft = RecordingTransport(), make_waiters(), ScriptedRaft(term=4)
    waiter = add(waiters)
    assert waiters.route(raft.core, transport) == []
    raft.leader_id = 2
    transport.connected = {3}
    assert waiters.route(raft.core, transport) == []
    assert (transport.take(), waiter.term, waiters.unsent) == ([], UNSENT, 1)
    transport.connected = {2, 3}
    for _ in range(2):
        assert waiters.route(raft.core, transport) == []
    assert transport.take() == [(2, ForwardedCommand(4, waiter.payload))]
    assert (waiter.term, waiters.unsent) == (4, 0)


def test_leader_proposes_its_own_clients_commands() -> None:
    """Nothing is sent; the waiter remembers the term."""
    transport, waiters = RecordingTransport(), make_waiters()
    waiter = add(waiters)
    raft = ScriptedRaft(Role.LEADER, term=5, leader_id=1)
    assert waiters.route(raft.core, transport) == [Propose(waiter.counter, waiter.payload)]
    assert waiters.route(raft.core, transport) == []
    assert (waiter.term, transport.take()) == (5, [])


def test_held_command_goes_out_when_it_is_released() -> None:
    """A refused one is not sent back at once: it would fly to and fro until leadership has settled."""
    transport, waiters, raft = RecordingTransport(), make_waiters(), ScriptedRaft(term=4, leader_id=2)
    waiter = add(waiters)
    waiters.route(raft.core, transport)
    waiters.forward_refused(waiter.payload[:REQUEST_ID_BYTES], ProposalRefusalReason.NOT_LEADER, 4, 0)
    transport.take()
    waiters.route(raft.core, transport)
    assert (transport.take(), waiters.unsent) == ([], 1)
    waiters.release()
    waiters.route(raft.core, transport)
    assert transport.take() == [(2, ForwardedCommand(4, waiter.payload))]


def test_refusal_of_an_earlier_attempt_is_not_heeded() -> None:
    """The command is with the next leader by then."""
    waiters = make_waiters()
    waiter = add(waiters)
    give(waiters, 4)
    waiters.later_term(5)
    give(waiters, 5)
    waiters.forward_refused(waiter.payload[:REQUEST_ID_BYTES], ProposalRefusalReason.NOT_LEADER, 4, 0)
    assert (waiter.term, waiters.unsent) == (5, 0)


def test_only_overdue_waiters_time_out_oldest_first() -> None:
    """Each request has its own deadline, counted from when it came."""
    waiters = make_waiters(timeout_ms=100)
    ended: list[Waiter] = []

    def cause(waiter: Waiter) -> bytes:
        ended.append(waiter)
        return TIMED_OUT

    first, second = add(waiters, 0), add(waiters, 50)
    assert waiters.end_overdue(99, cause) == 0
    assert (waiters.end_overdue(100, cause), ended) == (1, [first])
    assert (waiters.end_overdue(200, cause), ended) == (1, [first, second])


def test_what_has_timed_out_is_held_nowhere_wherever_it_waited() -> None:
    """Without a leader nobody sends: what waits for one must not be kept for it longer than its client waits."""
    waiters = make_waiters(timeout_ms=100)
    given, refused, lost, unknown = (add(waiters) for _ in range(4))
    give(waiters, 4)
    waiters.refused(refused.counter, ProposalRefusalReason.TRANSFERRING)
    lost.term = 3
    waiters.later_term(4)
    unknown.term = UNKNOWN
    add(waiters)
    assert (given.term, waiters.unsent) == (4, 3)
    assert waiters.end_overdue(100, timed_out) == 5
    assert held(waiters) == [0, 0, 0, 0]
    transport = RecordingTransport()
    waiters.release()
    waiters.route(ScriptedRaft(term=5, leader_id=2).core, transport)
    assert transport.take() == []


def test_every_way_to_an_end_leaves_nothing_and_tells_once_even_if_telling_fails() -> None:
    """Applied, refused for good, timed out, stopped: the next one is told all the same."""
    answers: list[bytes] = []

    def broken(outcome: Written | EtcdError) -> None:
        assert isinstance(outcome, EtcdError)
        answers.append(outcome.cause)
        raise ConnectionResetError

    waiters = make_waiters(timeout_ms=100)
    first, second = (waiters.add(b"command", broken, 0) for _ in range(2))
    give(waiters, 4)
    waiters.refused(first.counter, ProposalRefusalReason.TOO_MANY)
    waiters.forward_refused(second.payload[:REQUEST_ID_BYTES], "no space", 4, 0)
    for _ in range(2):
        waiters.add(b"command", broken, 0)
    assert waiters.end_overdue(100, timed_out) == 2
    for _ in range(2):
        waiters.add(b"command", broken, 0)
    waiters.end_all(STOPPED)
    assert answers == [TOO_MANY_REQUESTS, b"etcdserver: no space", TIMED_OUT, TIMED_OUT, STOPPED, STOPPED]
    assert held(waiters) == [0, 0, 0, 0]


def test_only_commands_given_to_earlier_leaders_are_lost_when_a_later_term_is_applied() -> None:
    """Unsent ones were given to nobody; those of the new term may still come."""
    waiters = make_waiters()
    earlier = add(waiters)
    give(waiters, 4)
    current = add(waiters)
    give(waiters, 5)
    unsent = add(waiters)
    waiters.later_term(5)
    assert [waiter.term for waiter in (earlier, current, unsent)] == [UNSENT, 5, UNSENT]
    assert waiters.unsent == 2


def test_requests_under_way_at_a_snapshot_install_are_never_called_lost() -> None:
    """Their commands may be inside the snapshot: proposing them again could apply them twice."""
    waiters = make_waiters()
    sent = add(waiters)
    give(waiters, 3)
    unsent = add(waiters)
    waiters.mark_unknown()
    assert (unsent.term, sent.term) == (UNSENT, UNKNOWN)
    waiters.later_term(1 << 63)
    assert (unsent.term, sent.term) == (UNSENT, UNKNOWN)


def test_client_that_goes_at_once_has_its_write_sent_and_leaves_nothing() -> None:
    """As etcd does it: what was asked for may be done, though nobody hears of it."""
    transport, waiters = RecordingTransport(), make_waiters()
    waiter = add(waiters)
    waiters.abandon(waiter)
    assert waiters.route(ScriptedRaft(term=4, leader_id=2).core, transport) == []
    assert transport.take() == [(2, ForwardedCommand(4, waiter.payload))]
    assert held(waiters) == [0, 0, 0, 0]
    waiter = add(waiters)
    waiters.abandon(waiter)
    assert waiters.route(ScriptedRaft(term=4, role=Role.LEADER).core, transport) == [
        Propose(waiter.counter, waiter.payload)
    ]
    waiters.refused(waiter.counter, ProposalRefusalReason.NOT_LEADER)
    assert held(waiters) == [0, 0, 0, 0]


def test_client_that_goes_leaves_nothing_wherever_its_write_waits() -> None:
    """Unsent without a leader, held after a refusal, sent, back from a leader that is lost, applied already."""
    waiters, nobody = make_waiters(), ScriptedRaft(term=4).core
    unsent, refused, sent, back, applied = (add(waiters) for _ in range(5))
    told: list[Written | EtcdError] = []
    for waiter in (unsent, refused, sent, back, applied):
        waiter.done = told.append
    waiters.route(nobody, RecordingTransport())
    waiters.abandon(unsent)
    waiters.route(nobody, RecordingTransport())
    assert len(waiters) == 4
    give(waiters, term=5)
    waiters.refused(refused.counter, ProposalRefusalReason.NOT_LEADER)
    waiters.abandon(refused)
    waiters.abandon(sent)
    assert waiters.take(applied.payload) is applied
    waiters.abandon(applied)
    waiters.later_term(6)
    waiters.abandon(back)
    waiters.abandon(back)
    waiters.route(nobody, RecordingTransport())
    assert held(waiters) == [0, 0, 0, 0]
    assert waiters.take(sent.payload) is None
    assert told == []


def test_what_was_lost_with_a_session_is_sent_once_more_and_a_late_refusal_of_it_is_not_heeded() -> None:
    """What was applied meanwhile, came later or is only held is not sent; the refusal of the new attempt counts."""
    transport, waiters = RecordingTransport(), make_waiters()
    raft = ScriptedRaft(term=4, leader_id=2).core
    applied, lost, refused = (add(waiters) for _ in range(3))
    give(waiters, 4)
    waiters.fencing.session_ended(2, transport)
    later = add(waiters)
    waiters.route(raft, transport)
    fence, command = [frame for _, frame in transport.take()]
    assert (fence, command) == (ForwardFence(4, 99, 1), ForwardedCommand(4, later.payload, 1))
    waiters.forward_refused(refused.payload, ProposalRefusalReason.NOT_LEADER, 4, 0)
    waiters.fencing.answered(ForwardFenced(4, 99, 1, 9))
    assert waiters.take(applied.payload) is applied
    assert not waiters.fencing.is_clear(8)
    assert waiters.fencing.is_clear(9)
    waiters.resend_lost()
    waiters.route(raft, transport)
    assert transport.take() == [(2, ForwardedCommand(4, lost.payload, 1))]
    waiters.forward_refused(lost.payload, ProposalRefusalReason.NOT_LEADER, 4, 0)
    assert (lost.term, lost.epoch, waiters.unsent) == (4, 1, 1)
    waiters.forward_refused(lost.payload, ProposalRefusalReason.NOT_LEADER, 4, 1)
    assert (lost.term, waiters.unsent) == (UNSENT, 2)
