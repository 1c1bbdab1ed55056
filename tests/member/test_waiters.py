"""Requests that wait for their entry."""

from kvraft.keyspace.errors import EtcdError
from kvraft.member.waiters import REQUEST_ID_BYTES, UNKNOWN, UNSENT, Waiter, Waiters
from kvraft.records import Written


def make_waiters(timeout_ms: int = 7000) -> Waiters:
    return Waiters(member_id=7, boot_nonce=99, timeout_ms=timeout_ms)


def ignore(_outcome: Written | EtcdError) -> None:
    """Nobody looks at this answer."""


def add(waiters: Waiters, now_ms: int = 0) -> Waiter:
    return waiters.add(b"command", ignore, now_ms)


def test_waiter_is_found_by_the_payload_of_its_entry() -> None:
    """The payload carries the request id, so the applier needs no other table."""
    waiters = make_waiters()
    first, second = add(waiters), add(waiters)
    assert waiters.take(second.payload) is second
    assert waiters.take(second.payload) is None
    assert waiters.take(first.payload[:REQUEST_ID_BYTES]) is first
    assert len(waiters) == 0


def test_payload_of_another_member_or_an_earlier_run_has_no_waiter() -> None:
    """The boot nonce keeps an entry of this member's previous run from answering a new request."""
    waiters = make_waiters()
    waiter = add(waiters)
    earlier_run = Waiters(member_id=7, boot_nonce=98, timeout_ms=7000)
    other_member = Waiters(member_id=8, boot_nonce=99, timeout_ms=7000)
    for foreign in (add(earlier_run), add(other_member)):
        assert waiters.take(foreign.payload) is None
        assert waiters.counter_of(foreign.payload) is None
    assert waiters.get(waiter.counter) is waiter


def test_only_overdue_waiters_time_out_oldest_first() -> None:
    """Each request has its own deadline, counted from when it came."""
    waiters = make_waiters(timeout_ms=100)
    first, second = add(waiters, 0), add(waiters, 50)
    assert waiters.next_deadline_ms() == 100
    assert waiters.take_overdue(99) == []
    assert waiters.take_overdue(100) == [first]
    assert first.answered
    assert waiters.take_overdue(200) == [second]
    assert waiters.next_deadline_ms() is None


def test_only_commands_given_to_earlier_leaders_are_lost_when_a_later_term_is_applied() -> None:
    """Unsent ones were given to nobody; those of the new term may still come."""
    waiters = make_waiters()
    unsent, earlier, current = add(waiters), add(waiters), add(waiters)
    earlier.term, current.term = 4, 5
    assert unsent.term == UNSENT
    assert list(waiters.lost_before(5)) == [earlier]


def test_requests_under_way_at_a_snapshot_install_are_never_called_lost() -> None:
    """Their commands may be inside the snapshot: proposing them again could apply them twice."""
    waiters = make_waiters()
    unsent, sent = add(waiters), add(waiters)
    sent.term = 3
    waiters.mark_unknown()
    assert (unsent.term, sent.term) == (UNSENT, UNKNOWN)
    assert list(waiters.lost_before(1 << 63)) == []
